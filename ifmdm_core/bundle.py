"""A deployable model on disk: bundle.json with digests, two weight files, a speech encoder (contract 2).

    bundle.json                 format version, digests, lineage, licence (`BundleRecord`)
    autoencoder.safetensors     stage 1        motion.safetensors   stage 2 (each with its configuration inside)
    speech/                     a transformers checkpoint; or the record pins a hub name and revision

Nothing is executed on loading: only JSON and safetensors are read, every file's sha256 is checked first, and a
bundle with anything that looks like a pickle in it is refused whole.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.samples import DEMO

if TYPE_CHECKING:
    import torch

    from ifmdm_core.autoencoder import Autoencoder
    from ifmdm_core.motion import MotionGenerator
    from ifmdm_core.speech import SpeechEncoder

FORMAT = 1
ALLOWED = {".json", ".safetensors", ".md", ".txt"}
WEIGHTS = ("autoencoder.safetensors", "motion.safetensors")


class SpeechReference(BaseModel):
    """Which speech encoder the motion generator was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("speech", description="'speech' for the folder in the bundle, else a name on the hub")
    layers: tuple[int, ...] = Field((-1,), description="hidden states that are read")
    combine: Literal["concat", "mean"] = Field("concat", description="how several layers become one feature")


class BundleRecord(BaseModel):
    """bundle.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, description="version of this layout")
    name: str = Field(description="what people call this model")
    sha256: dict[str, str] = Field(description="digest of every other file, by path in the bundle")
    encoder: str = Field(description="digest of the motion encoder, which makes motion vectors")
    motion_encoder: str = Field(description="digest of the encoder that the motion generator was trained on")
    speech: SpeechReference = SpeechReference()
    mouth_limit: float | None = Field(
        None,
        description="lip opening (in spreads) beyond which a portrait counts as open-mouthed and starts closed",
    )
    speaking_lips: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far the mean's mouth opening goes from the portrait's to a speaker's",
    )
    lineage: dict[str, str] = Field(default_factory=dict, description="data, feature digests, runs, steps")
    intended_use: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; the networks are built on demand."""

    folder: Path
    record: BundleRecord
    digest: str
    """sha256 of bundle.json, hence of everything in the bundle."""

    def autoencoder(self) -> Autoencoder:
        """Stage 1, float32 on the CPU, in eval mode."""
        from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
        from ifmdm_core.weights import encoder_digest, load_network

        model = load_network(self.folder / "autoencoder.safetensors", AutoencoderConfig, Autoencoder)
        found = encoder_digest(model.state_dict())
        if found != self.record.encoder:
            raise Conflict(
                f"{self.folder}: the encoder's digest is {found}, the record says {self.record.encoder}",
                fix="get the bundle again",
            )
        return model

    def motion(self) -> MotionGenerator:
        """Stage 2, float32 on the CPU, in eval mode."""
        from ifmdm_core.motion import MotionConfig, MotionGenerator
        from ifmdm_core.weights import load_network

        return load_network(self.folder / "motion.safetensors", MotionConfig, MotionGenerator)

    def speech_encoder(
        self, device: str | torch.device = "cpu", layers: tuple[int, ...] | None = None
    ) -> SpeechEncoder:
        """The speech encoder that the motion generator listens through; `layers` reads other hidden states."""
        from ifmdm_core.speech import SpeechEncoder

        reference = self.record.speech
        source = self.folder / "speech" if reference.source == "speech" else reference.source
        return SpeechEncoder.load(source, layers or reference.layers, device, combine=reference.combine)


def load_bundle(ref: str | Path) -> Bundle:
    """Finds and checks a bundle.

    Args:
        ref: "demo" for the one that comes with the package, or a folder.

    Raises:
        NotFound: no such bundle.
        BadInput: a pickle or another unexpected file in it, an unreadable record.
        Unsupported: a format version this program does not know.
        Conflict: a file whose digest is not the record's, or a motion generator made for another encoder.
    """
    folder = DEMO if str(ref) == "demo" else Path(ref)
    index = folder / "bundle.json"
    if not index.is_file():
        if folder == DEMO:
            raise NotFound(
                "the demo model is not installed", fix="build it with `ifmdm demo train`, or give --model DIR"
            )
        raise NotFound(
            f"{ref} is not a model bundle: it has no bundle.json", fix="give 'demo' or a bundle folder"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != index)
    for path in files:
        _refuse_pickle(path, folder)
    try:
        content = json.loads(index.read_bytes())
        version = content.get("format") if isinstance(content, dict) else None
        if version != FORMAT:
            raise Unsupported(
                f"{ref} has bundle format {version!r}, this program reads {FORMAT}",
                fix="update ifmdm or the bundle",
            )
        record = BundleRecord(**content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{index} is not JSON: {error}", fix="get the bundle again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{index}: {where}: {first['msg']}", fix="get the bundle again") from None
    _check_files(folder, files, record)
    if record.motion_encoder != record.encoder:
        raise Conflict(
            f"{ref}: the motion generator was trained on encoder {record.motion_encoder}, this is {record.encoder}",
            fix="use the motion generator and the autoencoder of one training",
        )
    return Bundle(folder, record, sha256_of_file(index))


def save_bundle(
    folder: str | Path,
    *,
    name: str,
    autoencoder: str | Path,
    motion: str | Path,
    speech: str | Path,
    layers: tuple[int, ...] = (-1,),
    mouth_limit: float | None = None,
    speaking_lips: float = 0.0,
    lineage: dict[str, str] | None = None,
    intended_use: str = "",
    licence: str = "",
) -> Bundle:
    """Puts a bundle together from the files that trainings wrote, and checks it by loading it.

    Args:
        folder: new or existing; weights and record in it are replaced.
        autoencoder, motion: files of `weights.save_weights`; the motion file's lineage names its encoder.
        speech: a checkpoint folder, copied, or a hub name, pinned.

    Raises Conflict when the motion generator was trained on another encoder.
    """
    from ifmdm_core.weights import encoder_digest, read_weights

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in zip((autoencoder, motion), WEIGHTS, strict=True):
        if Path(source).resolve() != (folder / target).resolve():
            shutil.copyfile(source, folder / target)
    reference = SpeechReference(source="speech" if Path(speech).is_dir() else str(speech), layers=layers)
    if Path(speech).is_dir() and Path(speech).resolve() != (folder / "speech").resolve():
        shutil.rmtree(folder / "speech", ignore_errors=True)
        (folder / "speech").mkdir()
        for path in sorted(Path(speech).iterdir()):
            if path.suffix in (".json", ".safetensors"):
                shutil.copyfile(path, folder / "speech" / path.name)
    tensors, _, made = read_weights(folder / WEIGHTS[0])
    encoder = encoder_digest(tensors)
    _, _, learned = read_weights(folder / WEIGHTS[1])
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "bundle.json")
    record = BundleRecord(
        name=name,
        sha256={path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files},
        encoder=encoder,
        motion_encoder=learned.get("encoder", "unknown"),
        speech=reference,
        mouth_limit=mouth_limit,
        speaking_lips=speaking_lips,
        lineage={**made, **learned, **(lineage or {})},
        intended_use=intended_use,
        licence=licence,
    )
    (folder / "bundle.json").write_text(json.dumps(record.model_dump(), indent=2) + "\n")
    return load_bundle(folder)


def _check_files(folder: Path, files: list[Path], record: BundleRecord) -> None:
    found = {path.relative_to(folder).as_posix(): path for path in files}
    needed = [*record.sha256, *WEIGHTS]
    if record.speech.source == "speech":
        needed += ["speech/config.json", "speech/model.safetensors"]
    for name in needed:
        if name not in found:
            raise BadInput(f"{folder} lacks {name}", fix="get the whole bundle")
    for name, path in found.items():
        if name not in record.sha256:
            if path.suffix in (".md", ".txt"):
                continue
            raise BadInput(
                f"{folder}: {name} is not in the bundle's record", fix="remove it or get the bundle again"
            )
        digest = sha256_of_file(path)
        if digest != record.sha256[name]:
            raise Conflict(
                f"{folder}: {name} has sha256 {digest}, the record says {record.sha256[name]}",
                fix="the file is damaged or was changed: get the bundle again",
            )


def _refuse_pickle(path: Path, folder: Path) -> None:
    name = path.relative_to(folder).as_posix()
    with path.open("rb") as file:
        head = file.read(4)
    # Pickle protocol 2 and later begin with 0x80 and the protocol; torch.save writes a zip around a pickle.
    if (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head[:2] == b"PK":
        raise BadInput(
            f"{folder}: {name} is a pickle, which could run code", fix="use a bundle of safetensors only"
        )
    if path.suffix.lower() not in ALLOWED:
        raise BadInput(
            f"{folder}: {name} is no part of a bundle (pickles such as .pt, .bin, .pkl, .ckpt are refused)",
            fix="remove it; weights are safetensors only",
        )
