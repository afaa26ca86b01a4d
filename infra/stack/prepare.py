"""What is made before services start: folders, the token of Ray, the service's settings, the job store."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

import yaml

from infra.stack.home import Home
from infra.stack.place import BUCKET, Place

SOCKET_ROOM = 24
"""Characters that the temporary folder may have: Ray puts some 75 behind it, and names of sockets end at 107."""


def make_temp() -> Path:
    """A new folder for sockets and temporary files; ended stacks leave none behind."""
    folder = tempfile.gettempdir()
    base = folder if len(folder) <= SOCKET_ROOM or not os.access("/tmp", os.W_OK) else "/tmp"
    return Path(tempfile.mkdtemp(prefix="ifmdm-", dir=base))


def make_token(home: Home) -> None:
    """Ray's: who has it may run anything on the cluster as this user."""
    with contextlib.suppress(FileExistsError):
        number = os.open(home.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w") as file:
            file.write(secrets.token_hex(32))


def write_serve_config(place: Place) -> None:
    """What `ifmdm serve` is started with."""
    place.temp.mkdir(exist_ok=True)
    gateway = place.config.gateway.model_copy(update={"port": place.port("gateway")})
    config = place.config.model_copy(update={"gateway": gateway})
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    place.home.serve_config.write_text(f"# Written by ifmdm up; changed with its --serve and --set.\n{text}")


def make_job_store(place: Place, here: Path) -> None:
    """The bucket with a job store in it, whose tenant `default` may read and write in the bucket and in `here`.

    Raises Unavailable where the endpoint does not answer.
    """
    from ifmdm_core.storage import open_storage, s3_client
    from jobs.client import user_name
    from jobs.init import DEFAULT_TENANT, first_policy, let_in, make_store
    from jobs.store import JobStore
    from jobs.tenants import TenantPolicy

    os.environ.update({name: value for name, value in place.variables().items() if name.startswith("AWS_")})
    if place.s3 is not None:
        client = s3_client(place.s3)
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
    storage = open_storage(place.jobs, place.s3)
    store = JobStore(storage, user_name())
    make_store(store)
    first = first_policy(storage.root, DEFAULT_TENANT, here)
    if place.s3 is None:
        places = (str(place.home.bucket), str(here))
        first = first.model_copy(update={"inputs": places, "outputs": places})
    let_in(store, DEFAULT_TENANT, TenantPolicy(), first)
