"""docs/training.md runs as it stands, with two steps instead of hundreds: features, both stages, bundle, registry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ifmdm_core.bundle import load_bundle
from tests.docs.documents import read
from tests.docs.typed import run_ifmdm, run_python, run_shell
from tests.pipelines.registry.conftest import renamed, report_on

GUIDE = read("docs/training.md")
SHORT = "--local --set fit.steps=2 --set data.batch=2 --set fit.validate_steps=2"


@pytest.fixture(scope="module")
def trained(dataset: Path) -> Path:
    """The room, where the guide's first commands have trained both stages and rendered with them."""
    stage1 = f"{SHORT} --set data.validation_clips=1 --name stage1"
    run_shell(
        GUIDE.block("--name stage1"),
        {
            "clips videos/": "clips videos.csv",
            "--name stage1": stage1,
            "--name stage2": f"{SHORT} --name stage2",
        },
    )
    return dataset.parent


def test_from_videos_to_a_render(trained: Path) -> None:
    assert load_bundle(trained / "bundles" / "new").record.name == "new"
    assert (trained / "out.mp4").stat().st_size > 1_000


def test_the_python_trains_lists_and_resumes(trained: Path) -> None:
    here = ", launch=api.Launch(local=True))"
    run_python(
        GUIDE.block("api.resume"),
        {
            '"data.selection=good"]': '"data.selection=good", "fit.steps=2", "data.batch=2"]',
            "overrides=chosen)": f"overrides=chosen{here}",
            "result.run)": f"result.run{here}",
        },
    )
    code, said = run_ifmdm("train", "ls", "--json")
    assert code == 0, said
    states = [run["state"] for run in json.loads(said)]
    assert len(states) >= 3
    assert set(states) == {"finished"}


def test_evaluate_register_promote(trained: Path) -> None:
    """What `ifmdm evaluate` writes is written by hand here: tests/pipelines/commands/test_evaluate.py runs it."""
    block = GUIDE.block("ifmdm model register")
    evaluate, rest = block.text.split("\n", 1)
    assert "--out new-report" in evaluate
    (trained / "new-report").mkdir()
    report_on(load_bundle(trained / "bundles" / "new")).save(trained / "new-report" / "report.json")
    register, others = rest.split("\n", 1)
    run_shell(replace(block, text=register))
    second = renamed(load_bundle(trained / "bundles" / "new"), trained / "second", "second")
    assert run_ifmdm("model", "register", "talker", str(second.folder))[0] == 0
    *_, resolved = run_shell(replace(block, text=others))
    assert load_bundle(trained / "bundles" / "new").digest in resolved
