from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.bench import Case, decode_gflop, measure, precision_difference
from infra import cli


@pytest.mark.parametrize(("preset", "most"), [("paper", 38.0), ("demo", 3.0)])
def test_decoding_a_frame_stays_within_its_budget(preset: str, most: float) -> None:
    """By torch's counter; fake tensors have shapes and no values, so nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = Autoencoder(AutoencoderConfig.preset(preset)).eval()  # type: ignore[arg-type]
        size = model.config.size
        gflop = decode_gflop(model, model.encode_identity(torch.zeros(1, 3, size, size)))
    assert 0.05 * most < gflop <= most


def test_cases_run_in_turns_after_one_warm_run_each() -> None:
    order: list[str] = []
    cases = [
        Case("a", "", "", 0, lambda: order.append("a")),
        Case("b", "", "", 10, lambda: order.append("b")),
    ]
    figures = measure(cases, 3, lambda: None)
    assert order == ["a", "b"] * 4
    assert [(f.unit, f.runs) for f in figures] == [("ms", 3), ("frames/s", 3)]
    for figure in figures:
        inside = sorted((figure.low, figure.high))
        assert inside[0] <= figure.value <= inside[1]


def test_precision_difference_is_zero_only_for_equal_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    from ifmdm_core import bench

    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig.preset("demo")).eval()
    image, motion = torch.rand(1, 3, 256, 256), torch.full((1, 20), 0.3)
    assert 0 < precision_difference(model, image, motion) < 2
    monkeypatch.setattr(bench, "PRECISIONS", {"fp32": torch.float32, "again": torch.float32})
    assert precision_difference(model, image, motion) == 0


def test_the_command_prints_every_stage(
    tmp_path: Path, tiny_bundle: Path, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import wave

    speech = tmp_path / "speech.wav"
    with wave.open(str(speech), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.sin(np.arange(9_600) / 9) * 9_000).astype("<i2").tobytes())
    options = [
        "--model",
        str(tiny_bundle),
        "--audio",
        str(speech),
        "--photo",
        str(portrait),
        "--quick",
        "--json",
    ]
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", *options])
    assert end.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert "torch" in report["machine"]
    stages = {figure["stage"] for figure in report["figures"]}
    assert stages == {
        "read photo",
        "read audio",
        "find faces",
        "speech features",
        "motion",
        "identity",
        "decode frames",
        "8-bit frames",
        "finish",
        "encode and mux",
        "first chunk",
        "end to end",
    }
    assert all(
        figure["includes"] and figure["setting"] and figure["value"] >= 0 for figure in report["figures"]
    )
    settings = [figure["setting"] for figure in report["figures"] if figure["stage"] == "decode frames"]
    assert any("bf16" in text for text in settings)
    assert any("fp32" in text for text in settings)


def test_memory_is_that_of_real_renders(tiny_bundle: Path, portrait: Path) -> None:
    from ifmdm_core.bench_memory import memory_figures
    from ifmdm_core.commands.demo import SAMPLES

    short, long, growth = memory_figures(
        str(tiny_bundle), portrait, SAMPLES / "speech.flac", seconds=(0.4, 1.0)
    )
    assert "10 frames" in short.setting
    assert "25 frames" in long.setting
    assert 100 < short.value < 20_000
    assert growth.value == pytest.approx(long.value - short.value)
