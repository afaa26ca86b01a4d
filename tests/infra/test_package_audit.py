"""`.ci/audit` with a database of advisories that these tests serve: a known fault fails, silence is called silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit"
ADVISORY = {
    "id": "PYSEC-2021-142", "summary": "arbitrary code", "affected": [
        {"package": {"name": "pyyaml", "ecosystem": "PyPI"}, "ranges": [
            {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.4"}]}]}],
}  # fmt: skip


@pytest.fixture
def database() -> Iterator[str]:
    """The address of one that knows the fault of one old package."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = (asked["package"]["name"], asked["version"]) == ("pyyaml", "5.3")
            body = json.dumps({"vulns": [ADVISORY]} if known else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def audit(requirement: str, database: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("pip_audit")
    (folder / "asked.txt").write_text(requirement)
    words = [str(SCRIPT), str(Path(sys.executable).parent), "-r", str(folder / "asked.txt"), "--no-deps"]
    environment = {
        **os.environ, "PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": database,
        "XDG_CACHE_HOME": str(folder), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [*words, "--disable-pip"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_known_vulnerability_fails_and_names_the_fix(database: str, tmp_path: Path) -> None:
    found = audit("pyyaml==5.3\n", database, tmp_path)
    assert found.returncode == 1, found
    assert "pyyaml 5.3: PYSEC-2021-142, fixed in 5.4" in found.stdout


def test_none_known_passes(database: str, tmp_path: Path) -> None:
    found = audit("pyyaml==6.0.2\n", database, tmp_path)
    assert found.returncode == 0, found
    assert "1 packages, 0 known vulnerabilities" in found.stdout


def test_where_there_is_no_database_it_says_so(tmp_path: Path) -> None:
    found = audit("pyyaml==6.0.2\n", "http://127.0.0.1:9/v1/query", tmp_path)
    assert (found.returncode, found.stdout) == (0, "pip-audit: not run: no advisory database in reach\n")
