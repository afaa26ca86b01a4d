"""Options of commands that start job workers, and what is made of them, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import S3Config
from serve.config import ServeConfig

if TYPE_CHECKING:
    from jobs.running.options import WorkOptions

SECRET_LEAST = 16
"""Bytes."""

WebhookSecretOption = Annotated[
    Path | None,
    typer.Option(
        "--webhook-secret", metavar="FILE", help="sign and send callbacks with it; every node needs the file"
    ),
]
PrivateWebhooksOption = Annotated[
    bool,
    typer.Option("--allow-private-webhooks", help="callbacks may go to this machine and private networks"),
]


def work_options(
    root: str, serve: ServeConfig, s3: S3Config, *, webhook_secret: Path | None, **options: Any
) -> WorkOptions:
    """Options of workers on the job store at `root`.

    Raises NotFound where there is no store or no file with the secret, Unsupported for a store of another version.
    """
    from ifmdm_core.storage import open_storage
    from jobs.running.options import WorkOptions
    from jobs.store import JobStore

    place = root if root.startswith("s3://") else str(Path(root).expanduser().absolute())
    JobStore(open_storage(place, s3), "work").check_layout()
    if webhook_secret is not None:
        webhook_secret = webhook_secret.absolute()
        if not webhook_secret.is_file():
            raise NotFound(f"no file {str(webhook_secret)!r} with the secret of webhooks", fix="write one")
        if len(webhook_secret.read_bytes().strip()) < SECRET_LEAST:
            raise BadInput(
                f"the secret in {str(webhook_secret)!r} has less than {SECRET_LEAST} bytes",
                fix="openssl rand -hex 32",
            )
    return WorkOptions(place, serve, s3, webhook_secret=webhook_secret, **options)
