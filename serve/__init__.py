"""Rendering as a service: three stages on Ray Serve, the flow that drives them, and the HTTP surface in front.

    speech_encoder, motion_sampler, frame_decoder   the stages: unary, idempotent, no request state (contract 4)
    flow                                            one render over the stages; for the gateway and for job workers
    gateway, studio, client                         what people and programs talk to
    application, routes, rollout                    one bundle's stages on Serve, and changing which one serves

Importing it sets what the environment does not say about Ray.
"""

from ifmdm_core.ray_defaults import set_ray_defaults

set_ray_defaults()
