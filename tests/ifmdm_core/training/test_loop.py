"""The shared loop: exact resume, budgets, divergence, averaged weights, checkpoints in pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.training.checkpoint import checkpoints, load_state, save_state
from ifmdm_core.training.loop import Diverged, Ema, LoopState, TrainingLoop, sample_rng, set_lr, warmup_cosine


def make_loop(folder: Path, max_steps: int, **options: object) -> tuple[TrainingLoop, nn.Module, object]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loop = TrainingLoop(folder, {"model": model}, {"adam": adam}, Ema(model), max_steps=max_steps, **options)

    def step(state: LoopState) -> dict[str, torch.Tensor]:
        rng = sample_rng(0, state.step, 0)
        x = torch.from_numpy(rng.standard_normal((16, 4)).astype("float32"))
        set_lr(adam, 1e-2 * warmup_cosine(LoopState(state.step), 5))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        return {"loss": loss}

    return loop, model, step


def test_resume_is_exact(tmp_path):
    whole, model, step = make_loop(tmp_path / "a", 20)
    whole.run(step)
    first, _, step1 = make_loop(tmp_path / "b", 9)
    first.run(step1)
    second, model2, step2 = make_loop(tmp_path / "b", 20)
    assert second.state.step == 9
    second.run(step2)
    for a, b in zip(model.parameters(), model2.parameters(), strict=True):
        assert torch.equal(a, b)
    for name, value in whole.ema.shadow.items():
        assert torch.equal(value, second.ema.shadow[name])


def test_without_resume_starts_anew(tmp_path):
    loop, _, step = make_loop(tmp_path, 3)
    loop.run(step)
    again, _, _ = make_loop(tmp_path, 3, resume=False)
    assert again.state.step == 0
    assert not checkpoints(tmp_path)


def test_clock_ends_the_run_and_the_log_tells(tmp_path):
    loop, _, step = make_loop(tmp_path, 10**9, log_steps=5)
    loop.minutes = 0.005
    state = loop.run(step)
    assert 0 < state.step < 10**9
    assert state.fraction == 1.0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == state.step
    assert lines[0]["loss"] > 0
    assert checkpoints(tmp_path)[-1].name == f"step-{state.step:08d}"


def test_a_call_budget_ends_the_call_not_the_training(tmp_path):
    loop, _, step = make_loop(tmp_path, 10**6, call_minutes=0.002)
    assert loop.run(step).fraction < 1.0


def test_divergence_stops_without_a_checkpoint(tmp_path):
    loop, _model, _ = make_loop(tmp_path, 50, log_steps=1)
    with pytest.raises(Diverged, match="step 1"):
        loop.run(lambda state: {"loss": torch.tensor(float("nan"))})
    assert not checkpoints(tmp_path)


def test_budget_is_required(tmp_path):
    with pytest.raises(BadInput, match="budget"):
        TrainingLoop(tmp_path, {}, {})


def test_ema_applied_and_given_back():
    model = nn.Linear(2, 2)
    ema = Ema(model, cap=0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update()  # decay min(0.5, 0.1): 0.9 of the way
    with ema.applied():
        assert torch.allclose(model.weight, before + 0.9)
    assert torch.allclose(model.weight, before + 1.0)


def test_checkpoint_splits_large_tensors_and_keeps_types(tmp_path):
    state = {
        "big": torch.arange(1000, dtype=torch.float32).reshape(10, 100),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "nested": {
            0: {"step": torch.tensor(4.0), "lr": 0.1},
            "betas": (0.9, 0.99),
            "list": [1, None, "x", True],
        },
        "empty": torch.zeros(0, 3),
    }
    save_state(tmp_path / "step-1", state, piece_bytes=1024)
    pieces = sorted((tmp_path / "step-1").glob("part-*"))
    assert len(pieces) >= 4
    assert all(p.stat().st_size < 2048 for p in pieces)
    back = load_state(tmp_path / "step-1")
    assert torch.equal(back["big"], state["big"])
    assert back["half"].dtype == torch.bfloat16
    assert back["nested"]["betas"] == (0.9, 0.99)
    assert back["nested"]["list"] == [1, None, "x", True]
    assert back["nested"][0]["step"].shape == ()
    assert back["empty"].shape == (0, 3)


def test_checkpoint_faults(tmp_path):
    with pytest.raises(NotFound, match="no checkpoint"):
        load_state(tmp_path / "none")
    save_state(tmp_path / "step-1", {"a": torch.zeros(1000)}, piece_bytes=1024)
    (tmp_path / "step-1" / "part-001.safetensors").unlink()
    with pytest.raises(BadInput, match="part-001"):
        load_state(tmp_path / "step-1")
    with pytest.raises(TypeError, match="object"):
        save_state(tmp_path / "step-2", {"a": object()})


def test_sample_rng_depends_on_each_part():
    draws = {
        tuple(sample_rng(*key).integers(0, 2**60, 2)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(draws) == 4
