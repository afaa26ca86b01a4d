"""Stage 1 as a task: it learns from clips alone, and a step is the same over any number of processes."""

import json
import math

import numpy as np
import pytest
import torch

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.errors import BadInput
from ifmdm_core.training.autoencoder_settings import AutoencoderTaskConfig
from ifmdm_core.training.autoencoder_task import AutoencoderTask, new_autoencoder
from ifmdm_core.training.checkpoint import checkpoints, load_state
from ifmdm_core.training.fit import FitSettings, fit
from ifmdm_core.training.items import FramePair
from ifmdm_core.training.keeper import FolderKeeper
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.loop import LoopState
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.picture_losses import PictureWeights
from ifmdm_core.training.task import Share
from ifmdm_core.training.world import World
from ifmdm_core.weights import encoder_digest, load_network, read_weights
from tests.ifmdm_core.training.stage1 import SMALL, clip, faceless, pairs, run, share, small_task
from tests.processes import together
from tests.random_vgg import write_random_vgg

STEPS = 4


def curve(folder) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


def weights(folder) -> dict[str, torch.Tensor]:
    """Trained, averaged and discriminators' weights of the last checkpoint, by name."""
    state = load_state(checkpoints(folder)[-1])
    found = {f"{part}.{k}": v for part, module in state["modules"].items() for k, v in module.items()}
    return found | {f"ema.{k}": v for k, v in state["ema"]["shadow"].items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of `STEPS` steps, discriminators and a faceless pair among them."""
    folder = tmp_path_factory.mktemp("stage1") / "alone"
    run(folder, STEPS)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same by two processes."""
    folder = tmp_path_factory.mktemp("stage1") / "two"
    together(run, 2, folder, folder, STEPS)
    return folder


def test_two_processes_take_the_steps_of_one(alone, two):
    """Also through batch normalisation, dropout, parts, discriminators and a pair without a face.

    The first step is the same but for rounding. Later ones drift: Adam turns the sign of a gradient near zero into a
    whole step, above all in the layers that start at zero (`paint`).
    """
    for one, other in zip(curve(alone), curve(two), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            loose = 2e-2 if name in ("paint", "grad_norm") else 1e-3
            assert other[name] == pytest.approx(value, rel=1e-5 if one["step"] == 1 else loose), (one, name)
    start, ours, theirs = small_task().model.state_dict(), weights(alone), weights(two)
    for part in ("autoencoder", "ema"):
        moved = math.sqrt(sum(float((ours[f"{part}.{k}"] - v).square().sum()) for k, v in start.items()))
        apart = math.sqrt(
            sum(float((ours[f"{part}.{k}"] - theirs[f"{part}.{k}"]).square().sum()) for k in start)
        )
        assert apart < 0.03 * moved


def test_the_run_had_all_that_it_claims(alone):
    lines = curve(alone)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[0]["discriminator"] == 0 < lines[1]["discriminator"]
    assert {line["faces"] for line in lines} > {1.0}


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(alone, tmp_path):
    run(tmp_path, STEPS, stop_at=2)
    assert len(curve(tmp_path)) == 2
    run(tmp_path, STEPS)
    assert curve(tmp_path) == curve(alone)
    ours, unbroken = weights(tmp_path), weights(alone)
    assert any(name.startswith("adversary.") for name in unbroken)
    assert [name for name in unbroken if not torch.equal(ours[name], unbroken[name])] == []


def test_one_process_goes_on_where_two_stopped(alone, tmp_path):
    together(run, 2, tmp_path, tmp_path, STEPS, 2)
    assert len(curve(tmp_path)) == 2
    run(tmp_path, STEPS)
    for one, other in zip(curve(alone), curve(tmp_path), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=2e-3)


def test_losses_fall_from_random_weights(tmp_path):
    task = AutoencoderTask(
        new_autoencoder(SMALL, seed=0),
        AutoencoderTaskConfig(augmentation=False, optimiser=OptimiserConfig(lr=4e-3, warmup=5)),
    )
    fit(task, ListSource(pairs(12), 6), FitSettings(steps=40, checkpoint_steps=40), FolderKeeper(tmp_path))
    lines = curve(tmp_path)
    for name in ("loss", "whole", "mouth", "mesh"):
        first, last = (np.mean([line[name] for line in part]) for part in (lines[:5], lines[-5:]))
        assert last < 0.85 * first, name


def test_motion_that_saturates_comes_back():
    def saturated(weight: float) -> float:
        model = new_autoencoder(SMALL, seed=0)
        encoder = model.motion_encoder
        with torch.no_grad():
            for last in (encoder.pose, encoder.mouth.last[-1], encoder.eyes.last[-1]):
                last.bias.fill_(2.2)  # tanh(2.2) = 0.976
        config = AutoencoderTaskConfig(
            losses=PictureWeights(reach=weight), optimiser=OptimiserConfig(lr=3e-3, warmup=1)
        )
        task = AutoencoderTask(model, config)
        task.distribute(World(), torch.device("cpu"))
        for step in range(40):
            values = task.step(LoopState(step), task.collate(share(pairs(2), step)))
        return float(values["saturation"])

    assert saturated(1.0) < 0.5 < 0.8 < saturated(0.0)


@pytest.mark.parametrize("train", ["all", "generator"])
def test_the_motion_encoder_changes_only_when_it_is_trained(train):
    task = small_task(train)
    before, generator = encoder_digest(task.model.state_dict()), task.model.generator.rise.weight.clone()
    task.distribute(World(), torch.device("cpu"))
    task.step(LoopState(), task.collate(share(pairs(2))))
    assert (encoder_digest(task.model.state_dict()) == before) is (train == "generator")
    assert not torch.equal(task.model.generator.rise.weight, generator)


def test_a_pair_without_a_face_counts_for_the_whole_picture_only():
    task = small_task()
    task.model.eval()

    def figures(items: list[FramePair]) -> dict[str, float]:
        (part,) = task.collate(share(items))
        part["face_share"] = part["known"] / part["known"].sum().clamp(min=1)
        return {k: float(v) for k, v in task.objective(part).items()}

    some, none = pairs(1), [faceless("nobody")]
    with torch.no_grad():
        one, other, both = figures(some), figures(none), figures(some + none)
    assert (one["faces"], other["faces"], both["faces"]) == (1, 0, 0.5)
    assert other["mouth"] == other["eyes"] == other["mesh"] == other["warped_mouth"] == 0 < other["whole"]
    assert both["mouth"] == pytest.approx(one["mouth"], rel=1e-4)
    assert both["whole"] == pytest.approx((one["whole"] + other["whole"]) / 2, rel=0.3)


def test_a_sample_does_not_depend_on_what_it_is_read_with():
    task, items = small_task(), pairs(4)
    (whole,) = task.collate(share(items, step=7))
    (some,) = task.collate(Share(7, 4, [(1, items[1]), (3, items[3])], ["clip-1", "clip-3"], {}))
    assert torch.equal(some["frames"], whole["frames"][[1, 3]])
    torch.testing.assert_close(some["meshes"], whole["meshes"][[1, 3]], atol=1e-4, rtol=0)
    for name in (n for n in whole if n.startswith("kept ")):
        assert torch.equal(some[name], whole[name][[1, 3]])
    (later,) = task.collate(share(items, step=8))
    assert not torch.equal(later["frames"], whole["frames"])


def test_meshes_follow_the_augmented_pictures():
    """The mesh that is found in the picture as given, and moved along, lies where one is found in the moved picture."""
    task = small_task()
    task.model.config = SMALL.model_copy(update={"size": 128})
    task.distribute(World(), torch.device("cpu"))
    items, misses = pairs(6, 128), []
    for step in range(2):
        (batch,) = task.collate(share(items, step))
        assert batch["known"].all()
        found, seen = task._meshes(batch["frames"].flatten(0, 1).numpy())
        away = np.abs(found - batch["meshes"].flatten(0, 1).numpy()).mean((1, 2))
        misses += away[seen].tolist()
    assert len(misses) > 12
    assert np.median(misses) < 0.01
    assert max(misses) < 0.05


def test_frames_of_another_size_are_refused_by_clip():
    with pytest.raises(BadInput, match=r"clip-1 are uint8 \[2, 96, 96, 3\]") as caught:
        small_task().collate(share([pairs(1)[0], pairs(2, 96)[1]]))
    assert "[2, 64, 64, 3]" in str(caught.value.fix)


def test_fewer_pairs_than_parts_are_refused():
    with pytest.raises(BadInput, match="accumulate"):
        small_task(accumulate=3).collate(share(pairs(2)))


def test_the_export_is_the_network_in_half_precision(tmp_path):
    task = small_task()
    task.distribute(World(), torch.device("cpu"))
    task.step(LoopState(), task.collate(share(pairs(2))))
    task.export(tmp_path / "autoencoder.safetensors", {"dataset": "abc"})
    model = load_network(tmp_path / "autoencoder.safetensors", AutoencoderConfig, Autoencoder)
    for name, value in task.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name].half(), value.half())
    assert encoder_digest(model.state_dict()) == encoder_digest(task.model.state_dict())
    assert read_weights(tmp_path / "autoencoder.safetensors")[2] == {"stage1": "all", "dataset": "abc"}


def test_a_training_goes_on_from_exported_weights(tmp_path):
    task = small_task()
    task.export(tmp_path / "autoencoder.safetensors", {})
    again = AutoencoderTask(
        load_network(tmp_path / "autoencoder.safetensors", AutoencoderConfig, Autoencoder)
    )
    again.distribute(World(), torch.device("cpu"))
    values = again.step(LoopState(), again.collate(share(pairs(2))))
    assert float(values["grad_norm"]) > 0


def test_perceptual_weights_add_their_term_and_are_not_trained(tmp_path):
    config = AutoencoderTaskConfig(perceptual=write_random_vgg(tmp_path / "vgg19.safetensors"))
    task = AutoencoderTask(new_autoencoder(SMALL, seed=0), config)
    task.distribute(World(), torch.device("cpu"))
    values = task.step(LoopState(), task.collate(share(pairs(2))))
    assert float(values["perceptual"]) > 0
    terms = {k: v for k, v in values.items() if k not in ("loss", "grad_norm", "saturation", "faces")}
    expected = config.losses.total(terms) + config.losses.perceptual * terms["perceptual"]
    expected = expected + config.losses.reach * terms["reach"]
    assert float(values["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert all(p.grad is None for p in task.objective.perceptual.parameters())
    assert not any("perceptual" in name for name in task.modules["autoencoder"].state_dict())


def test_half_precision_takes_the_same_step_within_its_rounding():
    losses = {}
    for precision in ("fp32", "bf16"):
        config = AutoencoderTaskConfig(optimiser=OptimiserConfig(precision=precision))
        task = AutoencoderTask(new_autoencoder(SMALL, seed=0), config)
        task.distribute(World(), torch.device("cpu"))
        losses[precision] = float(task.step(LoopState(), task.collate(share(pairs(2))))["loss"])
        assert all(p.dtype == torch.float32 for p in task.model.parameters())
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)
    assert losses["bf16"] != losses["fp32"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_paper_preset_takes_steps_on_a_gpu():
    config = AutoencoderTaskConfig.preset("paper", steps=2)
    task = AutoencoderTask(new_autoencoder(AutoencoderConfig.preset("paper"), seed=0), config)
    task.distribute(World(), torch.device("cuda"))
    items = [FramePair(f"clip-{k}", None, clip(k, 26, 512)[[0, 25]]) for k in range(2)]
    for step in range(2):
        values = task.step(LoopState(step=step), task.collate(share(items, step)))
        assert all(torch.isfinite(v) for v in values.values())
    assert float(values["discriminator"]) > 0
