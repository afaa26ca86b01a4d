"""One bundle as one application on Serve: three stages, each with its own resources, batching and scaling."""

from __future__ import annotations

import warnings
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from serve.config import Scaling, ServeConfig, StageConfig
from serve.frame_decoder import FrameDecoderStage
from serve.logs import SERVE_LOGGING
from serve.motion_sampler import MotionSamplerStage
from serve.replica import BundleRef
from serve.scaling import LoadAndBacklog
from serve.speech_encoder import SpeechEncoderStage

BY_IDENTITY = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
SPILL = 2
"""Further replicas that take a portrait's calls while its own is full."""
STARTS = 2
"""Tries to start a first replica before a deployment counts as failed."""


def name_of(sha256: str) -> str:
    """The application of the bundle with that digest."""
    return f"model-{sha256[:12]}"


def build(bundle: BundleRef, config: ServeConfig) -> Application:
    """The application of a bundle; deploy it as `name_of(bundle.sha256)`, without a route prefix."""
    speech = _stage("speech", SpeechEncoderStage, config.speech, config.root).bind(bundle, config.speech)
    motion = _stage("motion", MotionSamplerStage, config.motion, config.root).bind(bundle, config.motion)
    near = RequestRouterConfig(
        request_router_class=BY_IDENTITY, request_router_kwargs={"num_fallback_replicas": SPILL}
    )
    decoder = _stage(
        "decoder", FrameDecoderStage, config.decoder, config.root, request_router_config=near
    ).bind(bundle, config.decoder, config.root)
    # Serve wants one deployment that leads to the others. Nobody calls it, so it never has a replica.
    root = serve.deployment(Together, name="model").options(
        autoscaling_config=AutoscalingConfig(min_replicas=0, initial_replicas=0, max_replicas=1)
    )
    return root.bind(speech, motion, decoder)


class Together:
    """Holds the stages of a bundle together."""

    def __init__(self, *stages: Any) -> None:
        self.stages = stages


def _stage(name: str, stage: type, config: StageConfig, root: str, **options: Any) -> serve.Deployment:
    resources: dict[str, Any] = {"num_cpus": config.cpus, "num_gpus": config.gpus}
    if config.accelerator is not None:
        resources["accelerator_type"] = config.accelerator
    return serve.deployment(stage, name=name).options(
        ray_actor_options=resources,
        autoscaling_config=autoscaling(config.scaling, root),
        max_ongoing_requests=config.ongoing,
        max_queued_requests=-1,  # whoever was let in is served; admission is the gateway's
        graceful_shutdown_timeout_s=config.grace_s,
        graceful_shutdown_wait_loop_s=min(0.5, config.grace_s),
        health_check_period_s=2.0,
        health_check_timeout_s=30.0,
        max_constructor_retry_count=STARTS,
        logging_config={**SERVE_LOGGING, "log_level": "WARNING", "enable_access_log": False},
        **options,
    )


def autoscaling(scaling: Scaling, root: str) -> AutoscalingConfig:
    """How Serve scales a stage; the backlog is read under `root`."""
    policy: dict[str, Any] = {}
    if scaling.backlog is not None:
        arguments = {"root": root, "per_replica": scaling.backlog}
        policy["policy"] = AutoscalingPolicy(policy_function=LoadAndBacklog, policy_kwargs=arguments)
    with warnings.catch_warnings():
        # Its successors are environment variables of whole nodes, read when Ray starts.
        warnings.filterwarnings("ignore", message="The `metrics_interval_s`", category=DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=scaling.least,
            initial_replicas=max(1, scaling.least),  # a first replica shows that the bundle can be loaded
            max_replicas=scaling.most,
            target_ongoing_requests=scaling.target,
            upscale_delay_s=scaling.upscale_delay_s,
            downscale_delay_s=scaling.downscale_delay_s,
            look_back_period_s=scaling.look_back_s,
            metrics_interval_s=scaling.interval_s,
            **policy,
        )
