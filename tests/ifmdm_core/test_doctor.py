from __future__ import annotations

import json

import pytest

from ifmdm_core.commands import doctor
from infra import cli


def test_a_working_installation_has_nothing_failed_but_perhaps_the_bundle(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {
        "python",
        "cores",
        "torch",
        "ffmpeg",
        "PyAV",
        "decord",
        "samples",
        "gpu",
        "temporary folder",
    } <= set(findings)
    failed = {name for name, finding in findings.items() if finding["status"] == "fail"}
    assert failed <= {"demo bundle"}
    assert end.value.code == (3 if failed else 0)
    assert all(finding["fix"] for finding in findings.values() if finding["status"] != "ok")


def test_a_check_that_breaks_down_is_a_finding_with_a_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def _torch() -> doctor.Check:
        raise ImportError("libtorch.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_CHECKS", (_torch,))
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor"])
    assert end.value.code == 3
    out = capsys.readouterr().out
    assert out.startswith("fail  torch  ImportError: libtorch.so")
    assert "pip install" in out
    assert out.count("\n") == 1
