"""Rendering as a service: three stages on Ray Serve, the flow that drives them, and the HTTP surface in front.

    speech_encoder, motion_sampler, frame_decoder   the stages: unary, idempotent, no request state (contract 4)
    flow                                            one render over the stages; for the gateway and for job workers
    gateway, studio, client                         what people and programs talk to
"""

from ifmdm_core.ray_defaults import set_ray_defaults

set_ray_defaults()
