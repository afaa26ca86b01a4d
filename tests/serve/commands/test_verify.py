"""`ifmdm verify`: what is printed, and the exit code that scripts go by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.provenance import synthetic_tags
from infra import cli
from serve.certificates import AUTHORITY, make_certificate
from serve.config import SigningConfig
from serve.signing import Signer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.mp4 (tagged only) and signed.mp4; its signer's root is the folder."""
    folder = tmp_path_factory.mktemp("verify")
    tags = synthetic_tags(model="ti\x1b[31mny", model_sha256="ab" * 32, inputs={"photo": "cd" * 32})
    with VideoWriter(folder / "plain.mp4", (64, 64), 25, metadata=tags) as writer:
        writer.write(np.zeros((3, 64, 64, 3), np.uint8))
    Signer.open(SigningConfig(), str(folder)).sign(folder / "plain.mp4", folder / "signed.mp4")
    return folder


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", *map(str, arguments)])
    return end.value.code, capsys.readouterr().out


def test_a_signed_file_is_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, folder / "signed.mp4")
    assert code == 0
    assert "valid manifest: AI-generated" in out
    assert "self-made certificate" in out
    assert f"sha256 {'ab' * 32}" in out
    assert f"photo     sha256 {'cd' * 32}" in out


def test_what_a_file_says_cannot_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = _run(capsys, folder / "signed.mp4")
    assert "\x1b" not in out
    assert "ti?[31mny" in out


def test_an_unsigned_file_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, folder / "plain.mp4")
    assert code == 2
    assert "no C2PA manifest; its metadata says AI-generated, which proves nothing" in out


def test_a_changed_file_is_not(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((folder / "signed.mp4").read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed.mp4").write_bytes(data)
    code, out = _run(capsys, tmp_path / "changed.mp4")
    assert code == 2
    assert "INVALID" in out
    assert "bmffHash.mismatch" in out


def test_trust_can_be_asked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, folder / "signed.mp4", "--trust", folder / AUTHORITY)
    assert (code, "(trusted)" in out) == (0, True)
    (tmp_path / "others.pem").write_bytes(make_certificate()[1])
    code, out = _run(capsys, folder / "signed.mp4", "--trust", tmp_path / "others.pem")
    assert (code, "NOT TRUSTED" in out) == (2, True)


def test_json_holds_all_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, folder / "signed.mp4", "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["good"], report["manifest"], report["record"]["model_sha256"]) == (
        True,
        "valid",
        "ab" * 32,
    )


def test_files_that_are_no_videos_are_refused(
    folder: Path, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.mp4").write_bytes(b"not a video")
    for given, code in ((folder / "none.mp4", 3), (folder / "text.mp4", 2), (portrait, 2)):
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", str(given)])
        assert end.value.code == code
        assert capsys.readouterr().err.count("\n") == 1
