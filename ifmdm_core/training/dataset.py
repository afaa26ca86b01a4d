"""The training set: a folder of face crops, labels and audio that every loop in this package reads.

One clip is a run of rows; a row is one frame at 25 fps. Reading needs NumPy and OpenCV only, so the same
folder trains on a laptop and on a bare GPU machine.

    index.json         clips (`ClipRecord`) and speech without video (`SpeechRecord`)
    frames.bin         JPEG of each 256 x 256 crop, back to back; `offsets.npy` int64 [N + 1]
    landmarks.npy      float32 [N, 478, 3], crop coordinates in [0, 1], x right, y down
    blendshapes.npy    float32 [N, 52]        parameters.npy  float32 [N, 20] (see `face_parameters`)
    valid.npy          bool [N]               audio.bin       int16, 16 kHz mono, clips back to back
    face_model.npz     the mean shape and expression basis behind `parameters.npy`
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ifmdm_core.errors import NotFound

if TYPE_CHECKING:
    from ifmdm_core.training.face_parameters import FaceModel

CROP_SIZE = 256
SAMPLE_RATE = 16_000
FPS = 25

BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft",
    "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""Names of the 52 blendshape scores, in the reference landmarker's order."""


@dataclass(frozen=True)
class ClipRecord:
    """One clip (or portrait: one frame, no audio). Rows `[first, first + num_frames)`."""

    name: str
    split: str
    """`train` or `heldout`."""
    kind: str
    """`news`, `grid`, `mixed` or `portrait`."""
    rights: str
    """`A` may be shown; `B` is research material that may not."""
    identity: str
    first: int
    num_frames: int
    source_fps: float
    audio_first: int
    """Offset into audio.bin, samples; sample 0 of the clip plays at frame 0's time."""
    audio_samples: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.num_frames)


@dataclass(frozen=True)
class SpeechRecord:
    """Speech without video."""

    name: str
    split: str
    rights: str
    audio_first: int
    audio_samples: int


class TrainingSet:
    """Read access to one training set folder.

    Raises NotFound when the folder holds no index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self.folder / "index.json"
        if not index.is_file():
            raise NotFound(
                f"{self.folder} is not a training set: it has no index.json",
                fix="build it with `python -m ifmdm_core.training.prepare` or unpack a packed set",
            )
        content = json.loads(index.read_text())
        self.clips = [ClipRecord(**c) for c in content["clips"]]
        self.speeches = [SpeechRecord(**s) for s in content["speeches"]]
        self.landmarks: np.ndarray = self._array("landmarks")
        self.blendshapes: np.ndarray = self._array("blendshapes")
        self.parameters: np.ndarray = self._array("parameters")
        self.valid: np.ndarray = self._array("valid")
        self._offsets = np.load(self.folder / "offsets.npy")

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @cached_property
    def _frames(self) -> np.memmap:
        return np.memmap(self.folder / "frames.bin", np.uint8, "r")

    @cached_property
    def _audio(self) -> np.memmap:
        return np.memmap(self.folder / "audio.bin", np.int16, "r")

    @cached_property
    def targets(self) -> np.ndarray:
        """Motion vectors that the encoder is first taught, float32 [N, 20] in (-1, 1)."""
        from ifmdm_core.training.face_parameters import motion_targets

        return motion_targets(np.asarray(self.parameters))

    def jpeg(self, row: int) -> np.ndarray:
        """The stored JPEG bytes of a row, uint8 [bytes]."""
        return np.asarray(self._frames[self._offsets[row] : self._offsets[row + 1]])

    def frame(self, row: int, *, reduced: bool = False) -> np.ndarray:
        """One crop, uint8 [256, 256, 3] RGB, or at half the side, which decodes much faster."""
        image = cv2.imdecode(self.jpeg(row), cv2.IMREAD_REDUCED_COLOR_2 if reduced else cv2.IMREAD_COLOR)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def audio(self, clip: ClipRecord | SpeechRecord) -> np.ndarray:
        """A clip's sound, float32 [samples] in [-1, 1], 16 kHz."""
        samples = self._audio[clip.audio_first : clip.audio_first + clip.audio_samples]
        return samples.astype(np.float32) / 32768.0


class TrainingSetWriter:
    """Writes a training set clip by clip; `finish` makes it readable (the index is written last)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "index.json").unlink(missing_ok=True)
        self._frames = (self.folder / "frames.bin").open("wb")
        self._audio = (self.folder / "audio.bin").open("wb")
        self._offsets = [0]
        self._samples = 0
        self._rows: dict[str, list[np.ndarray]] = {"landmarks": [], "blendshapes": [], "valid": []}
        self._clips: list[ClipRecord] = []
        self._speeches: list[SpeechRecord] = []

    def add_clip(
        self,
        name: str,
        jpegs: list[bytes],
        landmarks: np.ndarray,
        blendshapes: np.ndarray,
        valid: np.ndarray,
        samples: np.ndarray | None,
        *,
        split: str,
        kind: str,
        rights: str,
        identity: str,
        source_fps: float,
    ) -> None:
        """Append one clip: `jpegs` [n], landmarks [n, 478, 3], blendshapes [n, 52], valid [n], int16 samples."""
        first = len(self._offsets) - 1
        for jpeg in jpegs:
            self._frames.write(jpeg)
            self._offsets.append(self._offsets[-1] + len(jpeg))
        audio_first, audio_samples = self._add_audio(samples)
        self._rows["landmarks"].append(landmarks.astype(np.float32))
        self._rows["blendshapes"].append(blendshapes.astype(np.float32))
        self._rows["valid"].append(valid.astype(bool))
        self._clips.append(
            ClipRecord(
                name, split, kind, rights, identity, first, len(jpegs), source_fps, audio_first, audio_samples
            )
        )

    def add_speech(self, name: str, samples: np.ndarray, *, split: str, rights: str) -> None:
        """Append speech that has no video, int16 samples at 16 kHz."""
        self._speeches.append(SpeechRecord(name, split, rights, *self._add_audio(samples)))

    def _add_audio(self, samples: np.ndarray | None) -> tuple[int, int]:
        first, count = self._samples, 0 if samples is None else len(samples)
        if samples is not None:
            self._audio.write(samples.astype(np.int16).tobytes())
        self._samples += count
        return first, count

    def finish(self, model: FaceModel | None = None) -> None:
        """Write the arrays and, last, the index; fits the face model unless one is given."""
        from ifmdm_core.training.face_parameters import FaceModel

        self._frames.close()
        self._audio.close()
        np.save(self.folder / "offsets.npy", np.array(self._offsets, np.int64))
        arrays = {name: np.concatenate(rows) for name, rows in self._rows.items()}
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", array)
        clips = [np.arange(c.first, c.first + c.num_frames) for c in self._clips]
        labels = arrays["landmarks"], arrays["blendshapes"], arrays["valid"], clips
        if model is None:
            training = [r for r, c in zip(clips, self._clips, strict=True) if c.split == "train"]
            model = FaceModel.fit(*labels, np.concatenate(training))
        model.save(self.folder / "face_model.npz")
        np.save(self.folder / "parameters.npy", model.parameters(*labels))
        index = {"clips": [asdict(c) for c in self._clips], "speeches": [asdict(s) for s in self._speeches]}
        (self.folder / "index.json").write_text(json.dumps(index))
