"""Stage 1 training: samples are what they claim, losses fall, phases hand over."""

import numpy as np
import pytest
import torch

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.errors import NotFound
from ifmdm_core.training.autoencoder import AutoencoderTraining, load_phase, train
from ifmdm_core.training.autoencoder_data import PairDataset, PartDataset, SampleSpec, describe_face
from ifmdm_core.training.loop import LoopState
from ifmdm_core.training.sample_grid import write_sample_grid

SMALL = AutoencoderConfig(
    encoder_channels=(4, 6, 8, 8, 8), extra_convs=(False,) * 5, latent_dim=24, pose_fields=3, expression_fields=6,
    field_channels=8, generator_channels=(8, 6, 4), motion_channels=(6, 8, 12, 12, 12),
    part_channels=(8, 8, 8),
)  # fmt: skip


def losses_of(training_set, phase: str, spec: SampleSpec, steps: int) -> tuple[float, float]:
    """Loss on one unseen batch before and after some steps."""
    torch.manual_seed(0)
    data = (PartDataset if phase == "parts" else PairDataset)(training_set, spec)
    training = AutoencoderTraining(Autoencoder(SMALL), data, phase=phase, workers=0)

    def loss() -> float:
        with torch.no_grad():
            return float(training.losses(data[999])["loss"])

    before, state = loss(), LoopState()
    for step in range(steps):
        state.step = step
        training.step(state)
    return before, loss()


def test_samples_depend_on_the_step_alone(training_set):
    spec = SampleSpec(sources=2, targets=2)
    first, again = PairDataset(training_set, spec)[3], PairDataset(training_set, spec)[3]
    other = PairDataset(training_set, spec)[4]
    for key in first:
        assert torch.equal(first[key], again[key])
    assert not torch.equal(first["image"], other["image"])


def test_augmented_pictures_and_meshes_still_belong_together(training_set):
    """In augmented pictures too, the drawn face lies inside its mesh and the mesh outside is background."""
    data = PairDataset(training_set, SampleSpec(sources=6, targets=1))
    import cv2

    for step in range(3):
        batch = data[step]
        for picture, mesh in zip(batch["image"].numpy(), batch["mesh"].numpy(), strict=True):
            hull = cv2.convexHull((mesh * 256).astype(np.int32))
            inside = cv2.fillConvexPoly(np.zeros((256, 256), np.uint8), hull, 1)
            core = cv2.erode(inside, np.ones((13, 13), np.uint8)) > 0
            ring = (
                cv2.dilate(inside, np.ones((25, 25), np.uint8))
                - cv2.dilate(inside, np.ones((9, 9), np.uint8))
                > 0
            )
            face, around = picture[core].astype(int), picture[ring].astype(int)
            assert np.abs(np.median(face, 0) - np.median(around, 0)).max() > 3
            assert around.std() < 45


def test_a_carried_mesh_has_the_parameters_it_claims(training_set):
    """The portrait's own mesh, moved by a stranger's displacement, measures as the parameters say."""
    data = PairDataset(training_set, SampleSpec(pictures=False))
    rng = np.random.default_rng(1)
    row = training_set.clips[-1].first
    mesh = np.asarray(training_set.landmarks[row : row + 1])
    moved, parameters = data._carry(mesh, np.asarray(training_set.parameters[row : row + 1]), rng)
    lips, eyes, pose = data.model._expressions(moved)
    before_lips, before_eyes, _ = data.model._expressions(mesh)
    np.testing.assert_allclose(
        parameters[0, :6], (pose[0] - data.model.centre[:6]) / data.model.scale[:6], atol=1e-3
    )
    change = np.concatenate(
        [(lips - before_lips) @ data.model.lip_basis, (eyes - before_eyes) @ data.model.eye_basis], 1
    )
    claimed = (parameters - np.asarray(training_set.parameters[row : row + 1]))[:, 6:] * data.model.scale[6:]
    np.testing.assert_allclose(change, claimed, atol=0.02)


def test_only_training_clips_are_drawn(training_set):
    data = PairDataset(training_set, SampleSpec())
    held_out = {c.name for c in training_set.clips if c.split == "heldout"}
    assert held_out
    assert not held_out & set(data.rows)


@pytest.mark.parametrize("phase", ["motion", "parts", "flow", "picture"])
def test_losses_fall(training_set, phase):
    pictures = phase == "picture"
    spec = SampleSpec(
        sources=6,
        targets=0 if phase in ("motion", "parts") else 2,
        pictures=pictures,
        carried=0.3,
        reduced=phase == "motion",
    )
    before, after = losses_of(training_set, phase, spec, steps=12 if pictures else 30)
    assert after < 0.95 * before


def test_phases_hand_over_and_a_missing_one_is_named(training_folder, tmp_path):
    with pytest.raises(NotFound, match="run the phase `flow` first"):
        train(set=training_folder, work=tmp_path, phase="picture", minutes=0.01, sources=2)
    exported = train(set=training_folder, work=tmp_path, phase="motion", minutes=0.001, sources=2)
    assert exported.is_file()
    torch.manual_seed(5)
    model = Autoencoder(AutoencoderConfig.preset("demo"))
    before = model.generator.rise.weight.clone()
    untrained = model.motion_encoder.pose.weight.clone()
    load_phase(model, tmp_path, "motion")
    assert torch.equal(model.generator.rise.weight, before)
    assert not torch.equal(model.motion_encoder.pose.weight, untrained)


def test_a_sample_grid_shows_held_out_people(training_set, tmp_path):
    import cv2

    model = Autoencoder(AutoencoderConfig.preset("demo"))
    write_sample_grid(model, training_set, tmp_path / "samples.jpg", own_motion=True, count=2)
    sheet = cv2.imread(str(tmp_path / "samples.jpg"))
    assert sheet.shape == (4 * 192, 2 * 192, 3)
    # Untrained, the model paints what it warps, so both lower rows show the same.
    assert np.abs(sheet[384:576].astype(int) - sheet[576:].astype(int)).mean() < 8


def test_close_ups_follow_mouth_and_eyes(training_set):
    """Placed by a frame's pose numbers, a close-up is centred on that frame's lips or eyes, upright and to scale."""
    from ifmdm_core.autoencoder.closeups import EYES, MOUTH
    from ifmdm_core.training.face_parameters import EYE_POINTS, LIP_POINTS

    data = PartDataset(training_set, SampleSpec(sources=1, targets=0, pictures=False))
    clip = training_set.clips[0]
    pose = torch.from_numpy(training_set.targets[clip.rows, :6])
    mesh = np.asarray(training_set.landmarks[clip.rows])
    for part, points in ((MOUTH, LIP_POINTS), (EYES, EYE_POINTS[:32])):
        centre, axes = data.closeups.placement(pose, part)
        expected = mesh[:, list(points), :2].mean(1)
        assert np.abs(centre.numpy() - expected).max() < 0.03
        assert (axes[:, 0, 0] > 0).all()
    eyes = mesh[:, 263, :2] - mesh[:, 33, :2]
    turn = torch.atan2(axes[:, 1, 0], axes[:, 0, 0]).numpy()
    assert np.abs(turn - np.arctan2(eyes[:, 1], eyes[:, 0])).max() < 0.15


def test_both_ways_of_cutting_a_close_up_agree(training_set):
    """Training cuts with OpenCV, the network with PyTorch."""
    from ifmdm_core.autoencoder.closeups import EYES, MOUTH

    data = PartDataset(training_set, SampleSpec(sources=1, targets=0, pictures=False))
    picture = training_set.frame(3)
    pose = torch.from_numpy(training_set.targets[3:4, :6])
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    for part in (MOUTH, EYES):
        by_torch = data.closeups(image, pose, part)[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(by_torch - data._cut(picture, pose, part)).mean() < 1.5


def test_a_face_description_replaces_the_default(training_set):
    closeups = Autoencoder(SMALL).motion_encoder.closeups
    before = closeups.centres.clone()
    describe_face(closeups, PairDataset(training_set, SampleSpec()).model)
    assert not torch.equal(closeups.centres, before)
