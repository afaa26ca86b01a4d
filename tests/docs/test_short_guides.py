"""What docs/render.md, docs/jobs.md, docs/provenance.md and docs/serving.md show runs as it stands.

The five commands of docs/jobs.md are run by tests/jobs/whole/test_guide.py, the API's examples of docs/serving.md by
tests/serve/whole/test_examples.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.provenance import synthetic_tags
from ifmdm_core.storage import S3Config, open_storage
from serve.certificates import AUTHORITY
from serve.config import SigningConfig
from serve.signing import Signer
from tests.docs.documents import read
from tests.docs.typed import run_ifmdm, run_python, run_shell
from tests.docs.workers import instant_worker


def test_rendering_on_the_command_line(room: Path, tiny_bundle: Path) -> None:
    run_shell(
        read("docs/render.md").block("ifmdm render"), {"-o out.mp4": f"-o line.mp4 --model {tiny_bundle}"}
    )
    assert (room / "line.mp4").stat().st_size > 1_000


def test_rendering_in_python(room: Path, tiny_bundle: Path) -> None:
    """The photo has one face, and the second is asked for: what the example prints is the error."""
    said = run_python(read("docs/render.md").block("BadInput"), {'"demo"': repr(str(tiny_bundle))})
    assert "->" in said


def test_a_job_from_python(room: Path, bucket: S3Config) -> None:
    shutil.copy(room / "photo.jpg", room / "ann.jpg")
    shutil.copy(room / "speech.wav", room / "ann.wav")
    with instant_worker(open_storage("s3://bucket/jobs", bucket), bucket):
        said = run_python(read("docs/jobs.md").block("JobClient"), {"s3://renders/": "s3://bucket/"})
    assert said == "published\n"
    assert open_storage("s3://bucket/out", bucket).get("ann.mp4")


def test_checking_a_signed_file(room: Path) -> None:
    with VideoWriter(
        room / "plain.mp4", (64, 64), 25, metadata=synthetic_tags(model="tiny", model_sha256="ab" * 32)
    ) as writer:
        writer.write(np.zeros((3, 64, 64, 3), np.uint8))
    root = room / "service"
    Signer.open(SigningConfig(), str(root)).sign(room / "plain.mp4", room / "signed.mp4")
    shutil.copy(root / AUTHORITY, room / "authority.pem")
    said, told = run_shell(read("docs/provenance.md").block("ifmdm verify"), {"out.mp4": "signed.mp4"})
    assert "AI-generated" in said
    assert json.loads(told)


def test_what_the_serve_commands_would_start(room: Path) -> None:
    """Each with --dry-run; tests/serve/whole starts the service."""
    block = read("docs/serving.md").block("ifmdm serve --dry-run")
    dry = re.sub(r"^(ifmdm serve[^#\n]*?) *(?:--dry-run)? *(#.*)?$", r"\1 --dry-run", block.text, flags=re.M)
    demo, cluster, same = map(json.loads, run_shell(replace(block, text=dry)))
    assert demo == same
    assert (cluster["root"], cluster["model"]) == ("s3://bucket/prefix", "s3://bucket/bundles/v3")


@pytest.fixture
def overseen(room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job store with the tenant acme, which $IFMDM_JOBS means."""
    monkeypatch.setenv("IFMDM_JOBS", str(room / "overseen"))
    for words in ((), ("--tenant", "acme", "--allow-input", str(room), "--allow-output", str(room))):
        code, said = run_ifmdm("jobs", "init", *words)
        assert code == 0, said
    return room / "overseen"


def test_denying_a_portrait(room: Path, overseen: Path) -> None:
    digits = hashlib.sha256((room / "photo.jpg").read_bytes()).hexdigest()[:8]
    added, listed, lifted = run_shell(read("docs/jobs.md").block("ifmdm jobs deny"), {"5e884898": digits})
    assert "is on the list now" in added
    assert "she asked us to" in listed
    assert "is off the list" in lifted


def test_who_did_what(overseen: Path) -> None:
    listed, _ = run_shell(read("docs/jobs.md").block("ifmdm jobs audit"))
    assert "acme" in listed
