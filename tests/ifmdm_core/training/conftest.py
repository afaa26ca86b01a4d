"""A small training set of drawn faces whose meshes move as a mean face does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from ifmdm_core.training.dataset import TrainingSet, TrainingSetWriter
from ifmdm_core.training.face_parameters import EYE_POINTS, JAW_POINTS, LIP_POINTS

MEAN_FACE = Path(__file__).parents[2] / "data" / "mean_face.safetensors"


def moving_mesh(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Meshes float32 [frames, 478, 3] in crop coordinates: a random person nodding, turning and speaking."""
    stored = {name: value.astype(np.float32) for name, value in load_file(MEAN_FACE).items()}
    person = stored["reference"] * (1 + rng.normal(0, 0.04, 3))
    time = np.arange(frames)[:, None] / 25
    local = np.repeat(person[None], frames, 0)
    waves = np.sin(2 * np.pi * (time * rng.uniform(0.5, 4, 10) + rng.random(10)))  # [frames, 10]
    mouth = list(LIP_POINTS + JAW_POINTS)
    local[:, mouth] += (0.05 * waves @ stored["lip_basis"].T).reshape(frames, -1, 3)
    blinks = np.sin(2 * np.pi * (time * rng.uniform(0.2, 1, 4) + rng.random(4)))
    local[:, list(EYE_POINTS)] += (0.02 * blinks @ stored["eye_basis"].T).reshape(frames, -1, 3)
    yaw, pitch, roll = (0.2 * np.sin(2 * np.pi * (time * f + rng.random()))[:, 0] for f in (0.5, 0.7, 0.3))
    turns = []
    for y, p, r in zip(yaw, pitch, roll, strict=True):
        about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
        about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
        turns.append(about_z @ about_y @ about_x)
    place = np.concatenate([0.5 + 0.02 * waves[:, :2], np.zeros((frames, 1))], 1)
    return (0.5 * np.einsum("nij,nkj->nki", np.stack(turns), local) + place[:, None]).astype(np.float32)


def draw(mesh: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """A face of one colour with dark mouth and eyes, uint8 [256, 256, 3] BGR."""
    points = (mesh[:, :2] * 256).astype(np.int32)
    picture = np.full((256, 256, 3), 90, np.uint8)
    cv2.fillConvexPoly(picture, cv2.convexHull(points), colour.tolist())
    for part in (LIP_POINTS, EYE_POINTS[:16], EYE_POINTS[16:32]):
        cv2.fillConvexPoly(picture, cv2.convexHull(points[list(part)]), (40, 30, 60))
    return picture


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training clips of 24 frames, two held-out ones and three portraits."""
    folder = tmp_path_factory.mktemp("training") / "set"
    writer, rng = TrainingSetWriter(folder), np.random.default_rng(0)
    kinds = ["news"] * 4 + ["mixed"] * 2 + ["mixed"] * 2 + ["portrait"] * 3
    for number, kind in enumerate(kinds):
        frames = 1 if kind == "portrait" else 24
        mesh, colour = moving_mesh(rng, frames), rng.integers(90, 230, 3)
        jpegs = [cv2.imencode(".jpg", draw(m, colour))[1].tobytes() for m in mesh]
        opening = np.linalg.norm(mesh[:, 13] - mesh[:, 14], axis=1, keepdims=True)
        scores = np.repeat(opening * 5, 52, 1) * rng.uniform(0.5, 1, 52)
        sound = None if kind == "portrait" else rng.integers(-8000, 8000, frames * 640)
        writer.add_clip(
            f"{kind}/{number}.mp4", jpegs, mesh, scores, np.ones(frames, bool), sound,
            split="heldout" if number in (6, 7) else "train", kind=kind, rights="A", identity=str(number),
            source_fps=25.0,
        )  # fmt: skip
    writer.add_speech("speech.wav", rng.integers(-8000, 8000, 16000), split="train", rights="A")
    writer.finish()
    return folder


@pytest.fixture(scope="session")
def training_set(training_folder: Path) -> TrainingSet:
    return TrainingSet(training_folder)
