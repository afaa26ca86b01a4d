"""What the services of one stack are told: settings, folders, ports, each other's addresses, their environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.stack.home import Home
from infra.stack.processes import SERVICE, STACK
from infra.stack.state import StackState

if TYPE_CHECKING:
    from ifmdm_core.storage import S3Config
    from serve.config import ServeConfig

BUCKET = "ifmdm"
"""Of the S3 endpoint, where there is one."""
REGION = "us-east-1"
_FOREIGN = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Variables of the user's that would lead a service elsewhere."""
_FOREIGN_S3 = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


@dataclass(frozen=True)
class Place:
    """One stack."""

    home: Home
    state: StackState
    config: ServeConfig

    @property
    def temp(self) -> Path:
        """For temporary files of all services."""
        return Path(self.state.temp) / "tmp"

    def port(self, name: str) -> int:
        """As chosen for this stack."""
        return self.state.ports[name]

    def url(self, name: str) -> str:
        """Of what listens on that port here."""
        host = self.config.gateway.host if name == "gateway" else "127.0.0.1"
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{self.port(name)}"

    @property
    def bucket(self) -> str:
        """Folder or s3:// prefix that holds jobs, inputs and videos."""
        return f"s3://{BUCKET}" if self.state.settings.s3 else str(self.home.bucket)

    @property
    def jobs(self) -> str:
        """The job store."""
        return f"{self.bucket}/jobs"

    @property
    def s3(self) -> S3Config | None:
        """How the bucket is reached, where it is one; the keys are in `variables`."""
        from ifmdm_core.storage import S3Config

        return S3Config(endpoint=self.url("s3"), region=REGION) if self.state.settings.s3 else None

    def variables(self) -> dict[str, str]:
        """What a user's own commands need in their environment to work with this stack."""
        found = {
            "IFMDM_JOBS": self.jobs,
            "IFMDM_MODELS": str(self.home.models),
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.home.token),
        }
        if self.state.settings.s3:
            found |= {
                "AWS_ENDPOINT_URL": self.url("s3"),
                "AWS_DEFAULT_REGION": REGION,
                # moto lets everybody in; the names are there because clients do not start without.
                "AWS_ACCESS_KEY_ID": "ifmdm",
                "AWS_SECRET_ACCESS_KEY": "ifmdm",
            }
        return found

    def environment(self, service: str) -> dict[str, str]:
        """A service's variables: the user's, those of this stack, and its mark."""
        foreign = (*_FOREIGN, *(_FOREIGN_S3 if self.state.settings.s3 else ()))
        return {
            **{name: value for name, value in os.environ.items() if name not in foreign},
            **self.variables(),
            STACK: self.state.id,
            SERVICE: service,
            "TMPDIR": str(self.temp),
            "PYTHONUNBUFFERED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_worker_niceness": "0",  # replicas answer people; Ray would put them behind everything else
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
