"""Procedural talking faces: drawn heads whose pose, lips and sound are known exactly.

For tests and for checking measures, where the truth must be known; a model trained on these alone would not know
real people. Heads differ in shape, colours, hair, background and voice; pose follows slow sines, lips follow the
phones spoken by `ifmdm_core.speech_synthesis`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.speech_synthesis import PhoneTime, degrade, lip_track, synthesize_phones

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

MOTION = ("yaw", "pitch", "roll", "shift_x", "shift_y", "scale", "jaw", "rounding", "blink")
"""Columns of a clip's motion: angles in degrees, shifts as parts of the picture, scale 1 = neutral, jaw and blink
0..1, rounding -1..1."""

_VOWELS = ("a", "ae", "e", "i", "o", "u", "uh")
_CONSONANTS = ("p", "b", "m", "t", "d", "n", "k", "g", "f", "v", "s", "z", "sh", "l", "r", "w", "y")
_SUPERSAMPLE = 2


@dataclass(frozen=True)
class SyntheticClip:
    """One procedural clip; frame i is at i / fps seconds of the audio."""

    frames: Image
    """uint8 [n, size, size, 3] RGB"""
    audio: Floats
    """float32 [samples], mono"""
    rate: int
    """audio samples per second"""
    fps: int
    motion: Floats
    """float32 [n, 9], columns `MOTION`"""
    lips: Floats
    """float32 [n, 2]: opening 0..1, rounding -1..1"""
    phones: list[PhoneTime]
    """what is said when, seconds"""


@dataclass(frozen=True)
class Person:
    """The looks and voice of one drawn head. Colours are RGB 0..255, lengths parts of the picture's side."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    lips: tuple[int, int, int]
    iris: tuple[int, int, int]
    shirt: tuple[int, int, int]
    backdrop: tuple[tuple[int, int, int], tuple[int, int, int]]
    width: float
    height: float
    eye_gap: float
    eye_size: float
    mouth_width: float
    nose: float
    fringe: float
    brows: float
    light: float
    f0: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Person:
        """A random person."""
        tone = rng.uniform(0.3, 1.0)
        skin = np.array([244, 208, 180]) * tone + np.array([80, 42, 26]) * (1 - tone)
        return cls(
            skin=_rgb(skin + rng.normal(0, 4, 3)),
            hair=_rgb(
                rng.choice([[30, 24, 22], [92, 60, 36], [196, 160, 96], [120, 116, 112], [140, 60, 30]])
            ),
            lips=_rgb(skin * (0.75, 0.5, 0.5) + (20, 0, 5)),
            iris=_rgb(rng.choice([[70, 45, 30], [70, 100, 140], [80, 110, 70], [40, 30, 25]])),
            shirt=_rgb(rng.uniform(20, 230, 3)),
            backdrop=(_rgb(rng.uniform(30, 230, 3)), _rgb(rng.uniform(30, 230, 3))),
            width=rng.uniform(0.2, 0.245),
            height=rng.uniform(0.28, 0.32),
            eye_gap=rng.uniform(0.085, 0.105),
            eye_size=rng.uniform(0.03, 0.04),
            mouth_width=rng.uniform(0.065, 0.09),
            nose=rng.uniform(0.07, 0.1),
            fringe=rng.uniform(0.32, 0.55),
            brows=rng.uniform(0.006, 0.014),
            light=rng.uniform(-1, 1),
            f0=rng.uniform(90, 230),
        )


def synthesize_clip(
    seed: int,
    seconds: float = 3.0,
    fps: int = 25,
    size: int = 256,
    rate: int = 16_000,
    phones: list[tuple[str, float]] | None = None,
    room: bool = False,
) -> SyntheticClip:
    """A drawn person saying `phones` (random syllables and pauses when None) for `seconds`.

    Args:
        room: pass the sound through a random equaliser, reverb and noise.

    The number of frames is floor(samples * fps / rate + 1/2), as for a render. The same seed gives the same clip.
    """
    rng = np.random.default_rng(seed)
    person = Person.draw(rng)
    spoken = phones if phones is not None else random_phones(rng, seconds)
    audio, times = synthesize_phones(spoken, rate, person.f0, seed)
    wanted = round(seconds * rate)
    audio = np.pad(audio[:wanted], (0, max(0, wanted - len(audio))))
    if room:
        audio = degrade(
            audio,
            rate,
            seed,
            eq_db=rng.uniform(0, 9),
            snr_db=rng.uniform(10, 30),
            reverb_s=rng.uniform(0, 0.3),
        )
    count = (2 * wanted * fps + rate) // (2 * rate)
    lips = lip_track(times, fps, count)
    motion = _motion(rng, lips, fps)
    frames = (
        np.stack([draw_face(person, row, size) for row in motion]) if count else np.zeros((0, size, size, 3))
    )
    return SyntheticClip(frames.astype(np.uint8), audio, rate, fps, motion, lips, times)


def random_phones(rng: np.random.Generator, seconds: float) -> list[tuple[str, float]]:
    """Syllables of consonant and vowel in phrases, with silence at both ends and between phrases."""
    phones: list[tuple[str, float]] = [("sil", float(rng.uniform(0.15, 0.4)))]
    total = phones[0][1]
    while total < seconds - 0.3:
        if rng.random() < 0.12:
            part = [("sil", float(rng.uniform(0.2, 0.6)))]
        else:
            part = [
                (str(rng.choice(_CONSONANTS)), float(rng.uniform(0.07, 0.13))),
                (str(rng.choice(_VOWELS)), float(rng.uniform(0.1, 0.24))),
            ]
        phones += part
        total += sum(duration for _, duration in part)
    return [*phones, ("sil", max(seconds - total, 0.1))]


def draw_face(person: Person, motion: NDArray[Any], size: int) -> Image:
    """One frame uint8 [size, size, 3] of a person at motion [9] (columns `MOTION`)."""
    yaw, pitch, roll, shift_x, shift_y, scale, jaw, rounding, blink = (float(value) for value in motion)
    side = size * _SUPERSAMPLE
    canvas = _backdrop(person, side)
    pen = _Pen(canvas, side, (0.5 + shift_x, 0.47 + shift_y), scale, roll)
    turn, nod = math.sin(math.radians(yaw)), math.sin(math.radians(pitch))
    w, h = person.width, person.height
    pen.ellipse((0.0, 0.62), (0.42, 0.3), person.shirt, rolls=False)
    pen.ellipse((0.0, 0.3), (0.1, 0.16), _shade(person.skin, 0.8))
    pen.ellipse((-0.02 * turn, -0.05), (w * 1.14, h * 1.05), person.hair)
    drop = 0.035 * jaw
    pen.ellipse((0.0, drop / 2), (w, h + drop / 2), person.skin)
    pen.ellipse((0.35 * w * person.light, -0.02), (0.55 * w, 0.75 * h), _shade(person.skin, 1.05))
    pen.ellipse((0.06 * turn, -h * 0.92), (w * 0.95, h * person.fringe * 0.6), person.hair)
    depth = 0.11  # features stand before the head's axis, so they move further when it turns
    at_x, at_y = depth * turn, depth * nod
    for sign in (-1, 1):
        eye = (at_x + sign * person.eye_gap * (1 - 0.25 * sign * turn), at_y - 0.05)
        open_ = person.eye_size * 0.6 * (1 - blink)
        pen.ellipse(
            eye, (person.eye_size, max(open_, 0.002)), (245, 243, 240) if blink < 0.85 else person.skin
        )
        if blink < 0.85:
            pen.ellipse((eye[0] + 0.01 * turn, eye[1]), (min(0.017, open_), min(0.017, open_)), person.iris)
            pen.ellipse((eye[0] + 0.01 * turn, eye[1]), (min(0.008, open_), min(0.008, open_)), (12, 12, 12))
        brow = (eye[0], eye[1] - 0.055)
        pen.ellipse(brow, (person.eye_size * 1.2, person.brows), _shade(person.hair, 0.8))
    pen.ellipse(
        (at_x * 1.35, at_y + person.nose * 0.4), (0.02, person.nose * 0.55), _shade(person.skin, 0.93)
    )
    pen.ellipse((at_x * 1.4, at_y + person.nose * 0.85), (0.032, 0.014), _shade(person.skin, 0.82))
    _mouth(pen, person, (at_x * 1.1, at_y + 0.155 + drop * 0.3), jaw, rounding)
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def write_clip(folder: str | Path, name: str, clip: SyntheticClip) -> Path:
    """Write NAME.mp4 (with sound), NAME.wav and NAME.json (motion, lips, phones) to a folder; returns the .mp4."""
    from ifmdm_core.media.audio import audio_from_samples
    from ifmdm_core.media.video import VideoWriter

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = clip.frames.shape[1:3]
    sound = audio_from_samples(clip.audio, clip.rate, name)
    with VideoWriter(folder / f"{name}.mp4", (width, height), clip.fps, sound) as writer:
        writer.write(clip.frames)
    _write_wav(folder / f"{name}.wav", clip.audio, clip.rate)
    record = {
        "fps": clip.fps,
        "rate": clip.rate,
        "motion_columns": MOTION,
        "motion": np.round(clip.motion.astype(float), 5).tolist(),
        "lips": np.round(clip.lips.astype(float), 5).tolist(),
        "phones": [list(phone) for phone in clip.phones],
    }
    (folder / f"{name}.json").write_text(json.dumps(record))
    return folder / f"{name}.mp4"


def _write_wav(path: Path, samples: Floats, rate: int) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def _motion(rng: np.random.Generator, lips: Floats, fps: int) -> Floats:
    """Slow sines for the head, quick blinks, and the given lips: float32 [n, 9]."""
    seconds = np.arange(len(lips)) / fps

    def wander(amplitude: float) -> NDArray[np.float64]:
        waves = [
            np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * seconds + rng.uniform(0, 1))) * rng.uniform(0.3, 1)
            for _ in range(3)
        ]
        return amplitude * np.sum(waves, axis=0) / 2

    blink = np.zeros(len(lips))
    at = rng.uniform(0.3, 3.0)
    while at < len(lips) / fps:
        blink = np.maximum(blink, np.clip(1.3 - np.abs(seconds - at) / 0.08, 0, 1))
        at += rng.uniform(1.5, 4.5)
    columns: list[NDArray[Any]] = [
        wander(14), wander(9), wander(6), wander(0.015), wander(0.012), 1 + wander(0.02),
        lips[:, 0], lips[:, 1], blink,
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float32)


class _Pen:
    """Draws in face coordinates (origin between the eyes and mouth, unit = picture side) on a pixel canvas."""

    def __init__(
        self, canvas: Image, side: int, centre: tuple[float, float], scale: float, roll: float
    ) -> None:
        self.canvas, self.side, self.centre, self.scale, self.roll = canvas, side, centre, scale, roll

    def ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        colour: tuple[int, int, int],
        rolls: bool = True,
    ) -> None:
        """A filled ellipse with sub-pixel position."""
        angle = math.radians(self.roll if rolls else 0.0)
        x, y = centre
        px = self.centre[0] + self.scale * (x * math.cos(angle) - y * math.sin(angle))
        py = self.centre[1] + self.scale * (x * math.sin(angle) + y * math.cos(angle))
        fixed = 16.0  # 4 fractional bits
        point = (round(px * self.side * fixed), round(py * self.side * fixed))
        size = tuple(max(round(a * self.scale * self.side * fixed), 1) for a in axes)
        ends = (math.degrees(angle), 0, 360)
        cv2.ellipse(self.canvas, point, size, *ends, colour, cv2.FILLED, cv2.LINE_AA, 4)


def _mouth(pen: _Pen, person: Person, at: tuple[float, float], jaw: float, rounding: float) -> None:
    """Lips, and between them darkness, teeth and tongue, which exist only while the mouth is open."""
    half = person.mouth_width * (1 - 0.35 * max(rounding, 0) - 0.15 * min(rounding, 0))
    gap = 0.045 * jaw
    lip = 0.012 * (1 + 0.4 * max(rounding, 0))
    pen.ellipse((at[0], at[1]), (half, lip + gap), person.lips)
    if gap < 0.003:
        pen.ellipse(at, (half * 0.92, 0.0015), _shade(person.lips, 0.55))
        return
    pen.ellipse(at, (half * 0.82, gap), (45, 16, 18))
    pen.ellipse((at[0], at[1] - gap * 0.62), (half * 0.6, gap * 0.25), (236, 232, 222))
    if gap > 0.015:
        pen.ellipse((at[0], at[1] + gap * 0.55), (half * 0.5, gap * 0.3), (150, 70, 76))


def _backdrop(person: Person, side: int) -> Image:
    """A vertical gradient: uint8 [side, side, 3]."""
    top, bottom = (np.array(colour, np.float64) for colour in person.backdrop)
    blend = np.linspace(0, 1, side)[:, None, None]
    rows = top * (1 - blend) + bottom * blend  # [side, 1, 3]
    return np.repeat(rows, side, axis=1).astype(np.uint8)


def _rgb(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(np.round(values), 0, 255))
    return red, green, blue


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return _rgb(np.array(colour) * factor)


def _main() -> None:
    """Videos of drawn people, and a list of them for `ifmdm data clips` whose every third person is held out."""
    import argparse
    import csv

    parser = argparse.ArgumentParser(description=_main.__doc__)
    parser.add_argument("out", type=Path, help="folder of the videos; the list is OUT.csv")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with given.out.with_name(f"{given.out.name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "identity", "split"])
        for person in range(given.people):
            path = write_clip(
                given.out, f"p{person}", synthesize_clip(person, given.seconds, size=given.size)
            )
            split = "heldout" if person % 3 == 2 else "train"
            writer.writerow([f"{given.out.name}/{path.name}", f"p{person}", split])
    print(f"{given.people} videos in {given.out}, listed in {file.name}")


if __name__ == "__main__":
    _main()
