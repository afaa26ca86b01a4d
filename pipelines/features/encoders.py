"""The two encoders of a dataset with one shape: the stored bytes of a shard's clips in, features by clip out.

Values do not depend on timing: speech is encoded clip by clip, motion in batches of a fixed size that are filled in
row order over one shard and padded at its end. Nor do they depend on how many CPU threads torch may use: it gets one
while it encodes, because the order of sums changes with threads. More workers, not more threads, fill a machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput
from ifmdm_core.media.clip_codec import RATE, decode_clip, decode_sound, encode_clip, encode_sound
from ifmdm_core.media.face import Square, crop
from ifmdm_core.one_thread import one_thread
from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.weights import encoder_digest, load_network, read_weights, tensor_digest
from pipelines.dataset.ids import feature_digest

CHUNK = 48
"""Frames decoded at a time: a few key frames' worth, so that a long clip never lies in memory whole."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What decides the values of features, known without keeping a model in memory."""

    kind: Literal["speech", "motion"]
    encoder: str
    """Digest of the weights."""
    dim: int
    """Numbers per frame."""
    settings: dict[str, Any]
    """Everything else that changes values."""
    made_by: dict[str, str]
    """Names that people know; no part of any digest."""

    def digest(self, generation: str) -> str:
        """The name of the feature set that this encoder makes of a generation of clips."""
        return feature_digest(self.kind, self.encoder, generation, **self.settings)


class FeatureFault(NamedTuple):
    """Why a clip has no features."""

    row: int
    reason: str
    detail: str


@dataclass
class Encoded:
    """Features of clips, [num_frames, dim] or None for a hole, and why there are holes; no sound is no fault."""

    values: list[NDArray[Any] | None] = field(default_factory=list)
    faults: list[FeatureFault] = field(default_factory=list)

    def add(self, value: NDArray[Any] | None, reason: str = "", detail: str = "") -> None:
        """The next clip's features; with a `reason`, or where they are not finite, a hole with a fault."""
        if value is not None and not np.isfinite(value).all():
            reason, detail = "features not finite", "the encoder gave NaN or infinity"
        if reason:
            self.faults.append(FeatureFault(len(self.values), reason, detail))
        self.values.append(None if reason else value)

    def of(self, rows: Sequence[int]) -> Encoded:
        """The same with faults counted in the rows of the shard that the clips came from."""
        return Encoded(self.values, [fault._replace(row=rows[fault.row]) for fault in self.faults])


class FeatureEncoder(ABC):
    """What a shard builder sees of an encoder."""

    identity: EncoderIdentity

    @abstractmethod
    def warm_up(self) -> None:
        """Encode a moment of nothing: the first call is slow, and must not count as a slow shard."""

    @abstractmethod
    def encode_rows(self, clips: pa.Table, rows: Sequence[int]) -> Encoded:
        """Features of these rows of a clip shard, at its frame rate; the faults name rows of the shard."""


class SpeechFeatures(FeatureEncoder):
    """A speech encoder for the sound of clips."""

    def __init__(self, encoder: SpeechEncoder, name: str) -> None:
        self._encoder = encoder
        depth = encoder.model.config.num_hidden_layers + 1
        layers = [layer % depth for layer in encoder.layers]
        settings = {"layers": layers, "combine": encoder.combine, "normalised": encoder.normalised}
        made_by = {"speech": name, "layers": ",".join(map(str, layers)), "combine": encoder.combine}
        weights = tensor_digest(encoder.model.state_dict())
        self.identity = EncoderIdentity("speech", weights, encoder.dim, settings, made_by)

    @classmethod
    def from_reference(
        cls, reference: str | Path, layers: tuple[int, ...] | None = None, device: str = "cpu"
    ) -> SpeechFeatures:
        """The encoder that a reference names.

        Args:
            reference: "demo" or a bundle folder for the encoder of that bundle; a checkpoint folder; a hub name.
            layers: hidden states to read, concatenated; None takes the bundle's, or the last of a checkpoint.

        Raises what `load_bundle` and `SpeechEncoder.load` raise.
        """
        if str(reference) == "demo" or (Path(reference) / "bundle.json").is_file():
            bundle = load_bundle(reference)
            return cls(bundle.speech_encoder(device, layers), bundle.record.name)
        name = Path(reference).resolve().name if Path(reference).is_dir() else str(reference)
        return cls(SpeechEncoder.load(reference, layers or (-1,), device), name)

    def warm_up(self) -> None:
        self.encode([encode_sound(np.zeros(RATE, np.float32))], [25])

    def encode_rows(self, clips: pa.Table, rows: Sequence[int]) -> Encoded:
        encoded = self.encode(_bytes(clips, "audio", rows), _counts(clips, rows), _fps(clips, rows))
        return encoded.of(rows)

    @one_thread()
    def encode(
        self, sounds: Iterable[bytes | None], frames: Iterable[int], fps: int | Iterable[int] = 25
    ) -> Encoded:
        """Features float16 [num_frames, dim] of each clip's FLAC; None where there is no sound."""
        encoded = Encoded()
        rates = repeat(fps) if isinstance(fps, int) else fps
        for (sound, count), rate in zip(zip(sounds, frames, strict=True), rates, strict=False):
            if sound is None:
                encoded.add(None)
                continue
            try:
                samples = decode_sound(sound)
                value = self._encoder.encode(samples, rate, count).cpu().numpy().astype(np.float16)
            except BadInput as error:
                encoded.add(None, "sound undecodable", error.what)
            else:
                encoded.add(value)
        return encoded


class MotionFeatures(FeatureEncoder):
    """A motion encoder for the pictures of clips."""

    def __init__(self, model: Autoencoder, name: str, device: str, batch: int, decoders: int) -> None:
        self._model = model.set_precision(torch.float32).to(device)
        self._device, self._batch, self._decoders = device, batch, decoders
        self.identity = _motion_identity(encoder_digest(model.state_dict()), model.config, name)

    @classmethod
    def from_bundle(
        cls, reference: str | Path, device: str = "cpu", batch: int = 16, decoders: int = 1
    ) -> MotionFeatures:
        """The motion encoder of "demo", a bundle folder or an autoencoder.safetensors.

        Args:
            batch: pictures in one call of the encoder; fixed for a run, no part of the set's name.
            decoders: threads that decode clips while the encoder works.

        Raises what `load_bundle` and `load_network` raise.
        """
        if Path(reference).is_file():
            model = load_network(reference, AutoencoderConfig, Autoencoder)
            return cls(model, Path(reference).name, device, batch, decoders)
        bundle = load_bundle(reference)
        return cls(bundle.autoencoder(), bundle.record.name, device, batch, decoders)

    def warm_up(self) -> None:
        black = np.zeros((64, 64, 3), np.uint8)
        self.encode([encode_clip([black] * 2)], [2])

    def encode_rows(self, clips: pa.Table, rows: Sequence[int]) -> Encoded:
        encoded = self.encode(_bytes(clips, "video", rows), _counts(clips, rows))
        return encoded.of(rows)

    @one_thread()
    @torch.inference_mode()
    def encode(self, videos: Iterable[bytes], frames: Iterable[int]) -> Encoded:
        """Motion float32 [num_frames, 20] of each clip's video; a clip that cannot be decoded is a hole."""
        counts = list(frames)
        parts: list[list[NDArray[np.float32]]] = [[] for _ in counts]
        broken: dict[int, str] = {}
        waiting: list[tuple[int, NDArray[np.uint8]]] = []  # (row, picture) not encoded yet

        def encode(taken: list[tuple[int, NDArray[np.uint8]]]) -> None:
            motion = self._encode_batch([picture for _, picture in taken])
            for (row, _), vector in zip(taken, motion, strict=True):
                parts[row].append(vector)

        for row, pictures in self._decoded(videos, counts):
            if isinstance(pictures, str):
                broken.setdefault(row, pictures)
                continue
            waiting += [(row, picture) for picture in pictures]
            while len(waiting) >= self._batch:
                encode(waiting[: self._batch])
                del waiting[: self._batch]
        if waiting:
            encode(waiting)

        encoded = Encoded()
        for row, vectors in enumerate(parts):
            if row in broken:
                encoded.add(None, "video undecodable", broken[row])
            else:
                encoded.add(np.array(vectors, np.float32).reshape(-1, self.identity.dim))
        return encoded

    def _encode_batch(self, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        images = np.zeros((self._batch, *pictures[0].shape), np.uint8)  # the rest of the last one is black
        for place, picture in enumerate(pictures):
            images[place] = picture
        batch = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255  # [B, 3, S, S]
        motion = self._model.encode_motion(batch).float().cpu().numpy()  # [B, 20]
        return motion[: len(pictures)]  # type: ignore[no-any-return]

    def _decoded(
        self, videos: Iterable[bytes], frames: Iterable[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
        """(row, pictures [n, S, S, 3]) in order, or (row, what is wrong), decoded ahead in threads."""
        jobs = (
            (row, video, range(first, min(first + CHUNK, count)))
            for row, (video, count) in enumerate(zip(videos, frames, strict=True))
            for first in range(0, count, CHUNK)
        )
        running: deque[tuple[int, Future[NDArray[np.uint8] | str]]] = deque()
        with ThreadPoolExecutor(self._decoders, "decode") as pool:
            for row, video, wanted in jobs:
                running.append((row, pool.submit(_pictures, video, wanted, self._model.config.size)))
                if len(running) > 2 * self._decoders:
                    done, future = running.popleft()
                    yield done, future.result()
            while running:
                done, future = running.popleft()
                yield done, future.result()


def load_encoder(
    kind: str,
    reference: str | Path,
    device: str = "cpu",
    batch: int = 16,
    layers: tuple[int, ...] | None = None,
    decoders: int = 1,
) -> FeatureEncoder:
    """The encoder of a feature set; `batch` and `decoders` are for motion, `layers` for speech."""
    if kind == "speech":
        return SpeechFeatures.from_reference(reference, layers, device)
    return MotionFeatures.from_bundle(reference, device, batch, decoders)


def speech_identity(reference: str | Path, layers: tuple[int, ...] | None = None) -> EncoderIdentity:
    """What `SpeechFeatures.from_reference` would be; the model is read once and let go."""
    return SpeechFeatures.from_reference(reference, layers).identity


def motion_identity(reference: str | Path) -> EncoderIdentity:
    """What `MotionFeatures.from_bundle` would be, without building the network."""
    path, name = Path(reference), Path(reference).name
    if not path.is_file():
        bundle = load_bundle(reference)
        path, name = bundle.folder / "autoencoder.safetensors", bundle.record.name
    tensors, values, _ = read_weights(path)
    return _motion_identity(encoder_digest(tensors), AutoencoderConfig(**values), name)


def _motion_identity(encoder: str, config: AutoencoderConfig, name: str) -> EncoderIdentity:
    return EncoderIdentity("motion", encoder, config.motion_dim, {"size": config.size}, {"bundle": name})


def _bytes(clips: pa.Table, column: str, rows: Sequence[int]) -> Iterator[Any]:
    values = clips.column(column)
    return (values[row].as_py() for row in rows)


def _counts(clips: pa.Table, rows: Sequence[int]) -> list[int]:
    values = clips.column("num_frames")
    return [values[row].as_py() for row in rows]


def _fps(clips: pa.Table, rows: Sequence[int]) -> Iterator[int]:
    spans = (clips.column("span")[row].as_py() for row in rows)
    return (round(n / (end - start)) for n, (start, end) in zip(_counts(clips, rows), spans, strict=True))


def _pictures(video: bytes, rows: range, size: int) -> NDArray[np.uint8] | str:
    """Pictures [n, size, size, 3] of a clip, or why there are none."""
    try:
        pictures = decode_clip(video, rows)
    except (BadInput, IndexError) as error:
        return error.what if isinstance(error, BadInput) else str(error)
    side = pictures.shape[1]
    whole = Square(side / 2, side / 2, side)
    return np.stack([crop(picture, whole, size) for picture in pictures])
