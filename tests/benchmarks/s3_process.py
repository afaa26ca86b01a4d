"""The S3 test server in a process of its own, so that it shares no interpreter with what is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

from ifmdm_core.storage import S3Config, s3_client
from tests.service_process import ROOT

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_PROGRAM = """
import sys
from tests.s3_server import S3Server
print(S3Server().endpoint, flush=True)
sys.stdin.read()
"""


class S3Process:
    """A server with a bucket `renders`; the credentials are in this process's environment. A context manager."""

    def __enter__(self) -> S3Process:
        os.environ.update(CREDENTIALS)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.config = S3Config(endpoint=self._process.stdout.readline().strip(), region="us-east-1")
        s3_client(self.config).create_bucket(Bucket="renders")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")
