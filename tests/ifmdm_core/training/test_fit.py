"""The loop: budgets, stops, checkpoints and looks when they are due, faults that name clips, keepers and sources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.training.checkpoint import checkpoints
from ifmdm_core.training.fit import FitSettings, Progress, StepRecord, averaged_weights, fit
from ifmdm_core.training.items import ClipFeatures
from ifmdm_core.training.keeper import FolderKeeper
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.loop import Diverged, LoopState
from ifmdm_core.training.task import Share, TrainingTask, Validation
from ifmdm_core.training.world import World
from tests.processes import together
from tests.toy_clips import expect_divergence, toy_clips


class Slope(TrainingTask):
    """Learns one number, the mean of its items' clips; small enough to look through."""

    title = "slope"

    def __init__(self, jump: int | None = None, width: int = 1) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(1, width, bias=False)
        self.modules, self.averaged = {"net": self.net}, self.net
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)
        self.optimizers = {"sgd": self.sgd}
        self.jump, self.fractions = jump, list[float]()
        self.looks: list[tuple[int, float]] = []

    def distribute(self, world: World, device: torch.device) -> None:
        self.net.to(device)

    def collate(self, share: Share) -> Tensor:
        return torch.tensor([[float(item.motion.mean())] for _, item in share.items])

    def step(self, state: LoopState, batch: Tensor) -> Mapping[str, Tensor]:
        self.fractions.append(state.fraction)
        loss = (self.net(batch) - 2 * batch - 1).square().mean()
        if state.step == self.jump:
            loss = loss * 1000
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        return {"loss": loss.detach()}

    def validate(self, step: int, folder: Path) -> Validation:
        self.looks.append((step, self.net.weight.item()))
        (folder / "note.txt").write_text(f"step {step}")
        return Validation({"weight": self.looks[-1][1]}, [folder / "note.txt"])

    def export(self, path: Path, lineage: Mapping[str, str]) -> None:
        raise NotImplementedError


class Diary(FolderKeeper):
    """Also writes down in which order it is told things."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keep=3)
        self.told: list[str] = []
        self.metrics: dict[int, dict[str, float]] = {}

    def record(self, records: list[StepRecord]) -> None:
        self.told.append(f"record {records[0].step}-{records[-1].step}")
        super().record(records)

    def save(self, step: int, state: dict, metrics: dict[str, float]) -> None:
        self.told.append(f"save {step}")
        self.metrics[step] = metrics
        super().save(step, state, metrics)

    def validated(self, step: int, validation: Validation) -> None:
        self.told.append(f"look {step}")
        super().validated(step, validation)

    def finish(self) -> None:
        self.told.append("finish")


def run(folder: Path, task: Slope | None = None, **settings: object) -> tuple[Diary, Slope, LoopState]:
    keeper, task = Diary(folder), task or Slope()
    values = FitSettings(**{"steps": 12, "checkpoint_steps": 5, "log_steps": 3, **settings})
    state = fit(task, ListSource(toy_clips(6), 2, seed=1), values, keeper)
    return keeper, task, state


def test_figures_come_before_the_checkpoint_that_covers_them(tmp_path: Path) -> None:
    keeper, task, state = run(tmp_path, validate_steps=6)
    assert keeper.told == [
        "record 1-3", "record 4-5", "save 5", "record 6-6", "look 6", "record 7-9", "record 10-10", "save 10",
        "record 11-12", "look 12", "save 12", "finish",
    ]  # fmt: skip
    assert (state.step, state.fraction) == (12, 1.0)
    assert keeper.metrics[5] == {}
    assert keeper.metrics[12] == {"weight": task.looks[-1][1]}
    assert (tmp_path / "samples" / "step-00000012" / "note.txt").read_text() == "step 12"
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-00000005",
        "step-00000010",
        "step-00000012",
    ]
    assert task.fractions == [step / 12 for step in range(12)]


def test_what_is_looked_at_are_averaged_weights_and_training_goes_on_with_its_own(tmp_path: Path) -> None:
    _, plain, _ = run(tmp_path / "a")
    keeper, looked, _ = run(tmp_path / "b", validate_steps=4)
    assert torch.equal(plain.net.weight, looked.net.weight)
    assert len({Slope().net.weight.item(), *(weight for _, weight in looked.looks)}) == 4, (
        "the average stands still"
    )
    saved = keeper.load()
    assert saved is not None
    averaged_weights(looked, saved)
    assert looked.net.weight.item() == looked.looks[-1][1] != plain.net.weight.item()


def test_nothing_is_done_when_all_is_done(tmp_path: Path) -> None:
    _, first, _ = run(tmp_path)
    keeper, again, state = run(tmp_path)
    assert keeper.told == ["finish"]
    assert state.step == 12
    assert torch.equal(again.net.weight, first.net.weight)


def test_a_longer_run_goes_on_and_a_log_of_lost_steps_is_written_again(tmp_path: Path) -> None:
    whole, task, _ = run(tmp_path / "whole")
    _, _, _ = run(tmp_path / "part")
    for late in checkpoints(tmp_path / "part")[1:]:  # as if it had been killed before these
        late.joinpath("checkpoint.json").unlink()
    with (tmp_path / "part" / "log.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')  # and while it wrote a line
    keeper, resumed, _ = run(tmp_path / "part")
    assert keeper.told[0] == "record 6-6"
    steps = [json.loads(line)["step"] for line in (tmp_path / "part" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))
    assert torch.equal(resumed.net.weight, task.net.weight)
    assert whole.told[-1] == "finish"


def test_the_clock_ends_a_run_with_a_checkpoint_and_counts_across_resumes(tmp_path: Path) -> None:
    _, _, state = run(tmp_path, steps=10**6, minutes=0.003, log_steps=1)
    assert 0 < state.step < 10**6
    assert state.fraction == 1.0
    assert checkpoints(tmp_path)[-1].name == f"step-{state.step:08d}"
    keeper, _, again = run(tmp_path, steps=10**6, minutes=0.003, log_steps=1)
    assert (again.step, keeper.told) == (state.step, ["finish"])
    _, _, more = run(tmp_path, steps=10**6, minutes=0.006, log_steps=1)
    assert more.step > state.step


def test_asked_to_stop_it_writes_a_checkpoint(tmp_path: Path) -> None:
    calls = iter([False, True])
    source = ListSource(toy_clips(6), 2, seed=1)
    settings = FitSettings(steps=100, checkpoint_steps=50, log_steps=3)
    state = fit(Slope(), source, settings, FolderKeeper(tmp_path), should_stop=lambda: next(calls))
    assert state.step == 6
    assert checkpoints(tmp_path)[-1].name == "step-00000006"


def test_progress_tells_means_and_rates(tmp_path: Path) -> None:
    seen: list[Progress] = []
    source = ListSource(toy_clips(6), 2, seed=1)
    settings = FitSettings(steps=6, log_steps=3)
    fit(Slope(), source, settings, FolderKeeper(tmp_path), on_progress=seen.append)
    lines = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [p.values["loss"] for p in seen] == pytest.approx([sum(lines[:3]) / 3, sum(lines[3:]) / 3])
    assert all(p.steps_per_s > 0 and 0 <= p.waiting <= 1 for p in seen)


def test_a_loss_that_runs_away_stops_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"slope: the loss has grown to .* at step 9, it was") as caught:
        run(tmp_path, Slope(jump=7))
    assert "lower the learning rate" in caught.value.fix
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000005"]
    run(tmp_path / "patient", Slope(jump=7), divergence=10**6)


def test_a_batch_that_is_not_finite_names_its_clips(tmp_path: Path) -> None:
    clips = toy_clips(6)
    clips[4] = ClipFeatures("the-bad-one", None, clips[4].motion * float("nan"), clips[4].speech)
    settings = FitSettings(steps=12, checkpoint_steps=50, log_steps=2)
    with pytest.raises(Diverged, match=r"slope: loss is nan at step \d+, on clips .*the-bad-one") as caught:
        fit(Slope(), ListSource(clips, 2, seed=1), settings, FolderKeeper(tmp_path))
    named = str(caught.value).split("on clips ")[1].split(";")[0].split(", ")
    assert len(named) == 2
    assert "the-bad-one" in named
    assert not checkpoints(tmp_path)


def test_processes_name_the_clips_of_the_one_that_met_the_fault(tmp_path: Path) -> None:
    together(expect_divergence, 2, tmp_path, tmp_path)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert first == second, "processes tell different stories"
    assert "at step" in first
    assert "clip-0-005" in first
    assert first.count("clip-0-") == 4, "half of a batch of 8 was met by the process with the bad clip"


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(Conflict, match="the checkpoint of step 12 does not fit this slope"):
        run(tmp_path, Slope(width=2), steps=20)


def test_a_list_is_gone_through_once_an_epoch_and_resumed_by_any_world() -> None:
    items = toy_clips(7)
    source = ListSource(items, 3, seed=2)

    def sequence(world: World, start: int = 0, cursor: Mapping[str, int] | None = None) -> list[Share]:
        shares = source.shares(start, cursor, world)
        return [next(shares) for _ in range(7)]

    whole = sequence(World())
    ids = [clip for share in whole for clip in share.clip_ids]
    assert sorted(ids[:7]) == sorted(ids[7:14]) == sorted(item.clip_id for item in items)
    assert ids[:7] != ids[7:14]
    for rank in range(2):
        part = sequence(World(rank, 2))
        assert [s.clip_ids for s in part] == [s.clip_ids[rank::2] for s in whole]
        assert [s.cursor for s in part] == [s.cursor for s in whole]
        assert [n for n, _ in part[0].items] == list(range(rank, 3, 2))
    assert [s.clip_ids for s in sequence(World(), 4, whole[3].cursor)][:3] == [s.clip_ids for s in whole[4:]]


def test_too_little_for_a_step_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing to train on"):
        ListSource([], 2)
    with pytest.raises(BadInput, match="a step of 2 samples cannot be shared by 3 processes"):
        next(ListSource(toy_clips(4), 2).shares(0, None, World(0, 3)))
