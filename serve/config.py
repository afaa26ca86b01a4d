"""Configuration of the service: typed, unknown keys refused (Serve itself accepts them silently).

Presets `demo` (a laptop's CPU) and `cluster` (GPUs, each stage scaled on its own) are files in `configs/serve/`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.uri import Uri


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scaling(_Settings):
    """How many replicas a stage has, and when that changes."""

    least: int = Field(
        1, ge=0, description="replicas at rest; 0 gives the memory back and costs a cold start"
    )
    most: int = Field(1, ge=1, description="replicas under load")
    target: float = Field(
        2.0, gt=0, description="calls under way or waiting, per replica, that scaling aims at"
    )
    upscale_delay_s: float = Field(5.0, ge=0, description="seconds of load before replicas are added")
    downscale_delay_s: float = Field(60.0, ge=0, description="seconds of rest before replicas are removed")
    look_back_s: float = Field(5.0, gt=0, description="seconds over which load is averaged")
    interval_s: float = Field(2.0, gt=0, description="seconds between measurements of load")
    backlog: float | None = Field(
        None, gt=0, description="waiting jobs for which there should be a replica; None: only calls count"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.least > self.most:
            raise ValueError(f"least {self.least} replicas exceed most {self.most}")
        if self.look_back_s <= self.interval_s:
            raise ValueError(f"look_back_s {self.look_back_s} must exceed interval_s {self.interval_s}")
        return self


class StageConfig(_Settings):
    """One stage: what a replica takes, how it batches, how it scales."""

    cpus: float = Field(0.5, ge=0, description="CPUs of a replica, for placement")
    gpus: float = Field(0.0, ge=0, description="GPUs of a replica; fractions share one, without isolation")
    threads: int = Field(1, ge=1, description="torch threads of a replica on a CPU")
    accelerator: str | None = Field(None, description="Ray's accelerator type, such as L4; None takes any")
    batch: int = Field(4, ge=1, description="most calls in one batch; 1 is no batching")
    batch_wait_s: float = Field(0.01, ge=0, description="seconds a call waits for company")
    ongoing: int = Field(
        16, ge=1, description="calls a replica holds, waiting ones included, before others get them"
    )
    grace_s: float = Field(30.0, gt=0, description="seconds a leaving replica has to finish its calls")
    scaling: Scaling = Field(default_factory=lambda: Scaling(), description="replicas")

    @model_validator(mode="after")
    def _fits(self) -> StageConfig:
        if self.ongoing < self.batch:
            raise ValueError(f"ongoing {self.ongoing} is below batch {self.batch}: batches could never fill")
        return self


class DecoderConfig(StageConfig):
    """The frame decoder."""

    cache_mb: int = Field(512, ge=1, description="MB of appearance features a replica keeps")
    chunk: int | None = Field(
        None, ge=1, le=100, description="frames of a call; None is 8 on a CPU, 25 on a GPU"
    )
    precision: str = Field("auto", pattern="^(auto|fp32|bf16)$", description="of the picture networks")
    compile: bool = Field(False, description="torch.compile the generator")
    crf: int = Field(18, ge=0, le=51, description="H.264 quality; 18 looks transparent")


class Limits(_Settings):
    """What one gateway replica lets in; checked before anything is decoded."""

    streams: int = Field(8, ge=1, description="renders under way at once; more get 429")
    portrait_mb: float = Field(20, gt=0, description="MB of a portrait")
    audio_mb: float = Field(200, gt=0, description="MB of a recording")
    audio_s: float = Field(1800, gt=0, description="seconds of speech")
    steps: int = Field(250, ge=1, le=1000, description="denoising steps")
    output_size: int = Field(1024, ge=64, le=2048, description="side of the output in pixels")
    upload_s: float = Field(60, gt=0, description="seconds an upload may take")
    stall_s: float = Field(10, gt=0, description="seconds without a byte before an upload is given up")
    reader_s: float = Field(
        30, gt=0, description="seconds a reader may take nothing before its render is given up"
    )

    def check(self, controls: RenderControls) -> None:
        """Raises BadInput naming a control that is beyond the limits."""
        for name, value, most in (
            ("steps", controls.steps, self.steps),
            ("size", controls.size or 0, self.output_size),
        ):
            if value > most:
                error = BadInput(f"{name} is {value}", fix=f"this service takes at most {most}")
                error.field = f"controls.{name}"
                raise error


class SigningConfig(_Settings):
    """C2PA signing of finished files. Without both files a self-made certificate is used, and said to be one."""

    certificate: Path | None = Field(None, description="PEM chain, the signer's certificate first")
    key: Path | None = Field(None, description="PEM private key")

    @model_validator(mode="after")
    def _both(self) -> SigningConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class GatewayConfig(_Settings):
    """The HTTP surface."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8000, ge=0, le=65535, description="TCP port")
    replicas: int = Field(1, ge=1, description="gateway replicas; streams are per replica")
    cpus: float = Field(0.5, ge=0, description="CPUs of a replica, for placement")
    grace_s: float = Field(30.0, gt=0, description="seconds a leaving replica has to finish its answers")
    tokens: Path | None = Field(
        None, description="YAML of token hashes; None lets this machine in without one (demo)"
    )
    limits: Limits = Field(default_factory=lambda: Limits(), description="what is let in")
    studio: bool = Field(True, description="serve /studio")


class ServeConfig(_Settings):
    """The whole service."""

    root: str = Field(description="folder or s3:// prefix: identities, finished files, the route, leases")
    model: str = Field("demo", description="bundle to start with: demo, a folder, s3://…, models:/…")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="what its bundle.json must hash to"
    )
    speech: StageConfig = Field(default_factory=lambda: StageConfig(), description="the speech encoder")
    motion: StageConfig = Field(default_factory=lambda: StageConfig(), description="the motion sampler")
    decoder: DecoderConfig = Field(default_factory=lambda: DecoderConfig(), description="the frame decoder")
    gateway: GatewayConfig = Field(default_factory=lambda: GatewayConfig(), description="the HTTP surface")
    signing: SigningConfig = Field(default_factory=lambda: SigningConfig(), description="C2PA")
    identity_days: float = Field(
        30, gt=0, description="days a registered portrait is kept after its last use"
    )
    file_days: float = Field(7, gt=0, description="days a finished file is kept")
    oversight: str | None = Field(
        None,
        description="root that deny/ and audit/ lie under; None: of the job store that is served, else `root`",
    )
    consent_hook: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function that is asked about every portrait; see threat-model.md",
    )

    @field_validator("root", "oversight")
    @classmethod
    def _absolute(cls, root: str | None) -> str | None:
        """Replicas have working folders of their own."""
        if root is None:
            return None
        uri = Uri.parse(root)
        return str(Path(uri.path).expanduser().absolute()) if uri.scheme == "file" else str(uri)
