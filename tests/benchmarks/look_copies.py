"""Which changed copies of portraits the deny-list knows again, and how far apart strangers are: docs/threat-model.md.

python -m tests.benchmarks.look_copies FOLDER [--most 60]
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import IfmdmError
from ifmdm_core.media.look import NEAR, look, looks
from ifmdm_core.portrait import open_portrait

Photo = Image.Image


def marked(photo: Photo) -> Photo:
    pixels = np.array(photo)
    height, width = pixels.shape[:2]
    place, thick = (width // 5, int(height * 0.8)), max(2, width // 100)
    cv2.putText(pixels, "SAMPLE", place, cv2.FONT_HERSHEY_SIMPLEX, width / 250, (255, 255, 255), thick)
    return Image.fromarray(pixels)


def cut(photo: Photo) -> Photo:
    width, height = photo.size
    return photo.crop((int(width * 0.05), int(height * 0.05), int(width * 0.95), int(height * 0.97)))


COPIES: dict[str, tuple[Callable[[Photo], Photo], int]] = {
    "compressed (JPEG 40)": (lambda photo: photo, 40),
    "half as large": (lambda photo: photo.resize((photo.width // 2, photo.height // 2)), 85),
    "brighter": (lambda photo: photo.point(lambda value: min(255, round(value * 1.25 + 10))), 85),
    "grey": (lambda photo: photo.convert("L").convert("RGB"), 85),
    "edges cut off": (cut, 85),
    "mirrored": (lambda photo: photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85),
    "text across": (marked, 85),
    "turned by 3 degrees": (lambda photo: photo.rotate(3, Image.Resampling.BICUBIC), 85),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=60)
    given = parser.parse_args()
    files = sorted(
        path for path in given.folder.rglob("*") if path.suffix.lower() in (".jpg", ".png", ".jpeg")
    )
    random.Random(0).shuffle(files)
    known: dict[Path, str] = {}
    found = dict.fromkeys(COPIES, 0)
    for path in files[: given.most]:
        photo = Image.open(path).convert("RGB")
        try:
            known[path] = look(crop(photo, 95))
        except IfmdmError as error:
            print(f"passed over: {path.name}: {error}")
            continue
        for name, (change, quality) in COPIES.items():
            try:
                others = looks(crop(change(photo), quality))
            except IfmdmError:
                continue  # no face: nothing would be rendered
            found[name] += min(apart(known[path], other) for other in others) <= NEAR
    for name, count in found.items():
        print(f"{name:<22} {count} of {len(known)}")
    pairs = sorted((apart(known[a], known[b]), a.name, b.name) for a, b in itertools.combinations(known, 2))
    for distance, one, other in pairs[:8]:
        print(f"{distance:>4} signs apart: {one}, {other}")


def crop(photo: Photo, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    photo.save(packed, "jpeg", quality=quality)
    return open_portrait(packed.getvalue(), RenderControls(), 256).crop


def apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


if __name__ == "__main__":
    main()
