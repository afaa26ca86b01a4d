"""Other systems' videos as rows: a folder each, matched to the clips by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.stage import VIDEO_SUFFIXES
from pipelines.evaluate.held_out import HeldClip
from pipelines.evaluate.rows import CONTROLS, OURS, TRUTH, Row


def parse_rows(given: Sequence[str]) -> dict[str, Path]:
    """`NAME=FOLDER` texts as folders by name.

    Raises:
        BadInput: not of that form, a name twice, or one of our own rows'.
    """
    taken = {TRUTH, OURS, *(name for name, _ in CONTROLS)}
    folders: dict[str, Path] = {}
    for text in given:
        name, sign, folder = text.partition("=")
        if not (sign and name.strip() and folder):
            raise BadInput(f"--row {text!r} is not NAME=FOLDER", fix="e.g. --row real3d=outputs/real3d")
        if name in taken or name in folders:
            raise BadInput(f"--row {name!r}: that row is there already", fix="give it another name")
        folders[name] = Path(folder)
    return folders


def baseline_row(name: str, folder: Path, clips: Sequence[HeldClip]) -> Row:
    """A folder's videos for those clips it has one of.

    A video belongs to a clip when its path below the folder, or its file name alone, is the clip's.

    Raises:
        NotFound: no such folder. BadInput: none of its videos is a clip's, or two are the same clip's.
    """
    if not folder.is_dir():
        raise NotFound(
            f"--row {name}: no folder {folder}", fix="give a folder with videos named as the clips"
        )
    by_path: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = defaultdict(list)
    root = folder.resolve()
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            by_path["__".join(path.relative_to(root).with_suffix("").parts)] = path
            by_stem[path.stem].append(path)
    videos: dict[str, str] = {}
    for clip in clips:
        stem = Path(clip.path).stem if clip.path else clip.name
        whole = by_path.get(clip.name)
        same = [whole] if whole else by_stem.get(clip.name) or by_stem.get(stem, [])
        if len(same) > 1:
            raise BadInput(
                f"--row {name}: {same[0]} and {same[1]} could both be clip {clip.name}",
                fix="keep the clips' folders, or leave one out",
            )
        if same:
            videos[clip.name] = str(same[0])
    if not videos:
        raise BadInput(
            f"--row {name}: no video in {folder} is named as a clip ({clips[0].name}, ...)",
            fix="name them as --export names the portraits",
        )
    return Row(table=1, name=name, kind="folder", videos=videos)
