"""A small formant synthesiser: speech whose phones, and therefore lips, are known to the sample.

Voiced sound is a sum of harmonics of f0 under a formant envelope, noise is shaped frame by frame (numpy only, no
recursive filters). It is no voice anyone would listen to for pleasure; its use is that the time of every closure
is known exactly, which no recording offers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, nearest

Floats = NDArray[np.float32]


class PhoneTime(NamedTuple):
    """One spoken phone and its span in seconds, end exclusive."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True)
class Phone:
    """Acoustic and visible targets of a phone."""

    formants: tuple[float, float, float]
    """Resonances F1..F3 [Hz]."""
    voice: float
    """Amplitude of the voiced part, 0..1."""
    noise: float = 0.0
    """Amplitude of the noise part, 0..1."""
    band: tuple[float, float] = (3000.0, 2000.0)
    """Centre and width of the noise [Hz]."""
    jaw: float = 0.3
    """Opening between the lips, 0 (closed) .. 1 (widest vowel)."""
    round: float = 0.0
    """Lip rounding, -1 (spread) .. 1 (pursed)."""
    closure: float = 0.0
    """Share of the span, from its start, for which the vocal tract is shut."""


PHONES: dict[str, Phone] = {
    "sil": Phone((500, 1500, 2500), 0.0, jaw=0.02),
    "a": Phone((750, 1250, 2550), 1.0, jaw=1.0),
    "ae": Phone((680, 1750, 2500), 1.0, jaw=0.85, round=-0.3),
    "e": Phone((500, 1850, 2550), 1.0, jaw=0.55, round=-0.5),
    "i": Phone((290, 2300, 3000), 0.9, jaw=0.28, round=-1.0),
    "o": Phone((480, 900, 2450), 1.0, jaw=0.6, round=0.7),
    "u": Phone((310, 800, 2300), 0.9, jaw=0.25, round=1.0),
    "uh": Phone((550, 1400, 2500), 0.9, jaw=0.5),
    "p": Phone((400, 900, 2300), 0.0, 0.35, (900, 1400), jaw=0.0, closure=0.7),
    "b": Phone((300, 900, 2300), 0.3, 0.1, (800, 1200), jaw=0.0, closure=0.7),
    "m": Phone((260, 1000, 2200), 0.45, jaw=0.0, closure=0.95),
    "t": Phone((400, 1750, 2600), 0.0, 0.4, (4500, 2500), jaw=0.2, closure=0.6),
    "d": Phone((300, 1750, 2600), 0.3, 0.15, (4000, 2500), jaw=0.2, closure=0.6),
    "n": Phone((280, 1600, 2500), 0.45, jaw=0.22, closure=0.9),
    "k": Phone((400, 1900, 2300), 0.0, 0.4, (1900, 1200), jaw=0.3, closure=0.6),
    "g": Phone((300, 1900, 2300), 0.3, 0.15, (1800, 1200), jaw=0.3, closure=0.6),
    "f": Phone((400, 1100, 2300), 0.0, 0.25, (5500, 5000), jaw=0.08),
    "v": Phone((300, 1100, 2300), 0.45, 0.12, (5000, 5000), jaw=0.08),
    "s": Phone((400, 1700, 2600), 0.0, 0.5, (6000, 2200), jaw=0.15, round=-0.4),
    "z": Phone((300, 1700, 2600), 0.4, 0.25, (6000, 2200), jaw=0.15, round=-0.4),
    "sh": Phone((400, 1800, 2500), 0.0, 0.55, (3200, 1800), jaw=0.2, round=0.6),
    "h": Phone((550, 1500, 2500), 0.0, 0.25, (1800, 3000), jaw=0.4),
    "l": Phone((350, 1100, 2700), 0.7, jaw=0.35),
    "r": Phone((400, 1200, 1700), 0.7, jaw=0.3, round=0.4),
    "w": Phone((310, 700, 2200), 0.6, jaw=0.12, round=1.0),
    "y": Phone((290, 2200, 3000), 0.6, jaw=0.22, round=-0.8),
}
BILABIALS = ("p", "b", "m")
_STOPS = ("p", "b", "t", "d", "k", "g")
_HOP_S = 0.005


def syllables(text: str, syllable_s: float = 0.3, pause_s: float = 0.3) -> list[tuple[str, float]]:
    """Phones with durations [s] for hyphenated syllables: "pa-ma-ba"; a space is a pause of `pause_s`.

    Raises:
        BadInput: a letter sequence that is no phone.
    """
    phones: list[tuple[str, float]] = []
    for number, word in enumerate(text.split()):
        if number:
            phones.append(("sil", pause_s))
        for syllable in filter(None, word.split("-")):
            names = _split(syllable)
            vowels = max(sum(not _is_consonant(name) for name in names), 1)
            consonants = min(0.11 * (len(names) - vowels), 0.6 * syllable_s) if len(names) > vowels else 0.0
            for name in names:
                if _is_consonant(name) and len(names) > vowels:
                    phones.append((name, consonants / (len(names) - vowels)))
                else:
                    phones.append((name, (syllable_s - consonants) / vowels))
    return phones


def synthesize_phones(
    phones: list[tuple[str, float]], rate: int = 16_000, f0: float = 120.0, seed: int = 0
) -> tuple[Floats, list[PhoneTime]]:
    """Speak phones of given durations.

    Args:
        phones: (name, seconds); names are the keys of `PHONES`.
        rate: samples per second of the result.
        f0: mean pitch [Hz]; it drifts by a few percent.
        seed: fixes the noise, the drift of the pitch and nothing else.

    Returns:
        samples float32 [round(total * rate)] with peak 0.7, and the span of each phone in seconds.

    Raises:
        BadInput: unknown phone, or a duration that is not above 0.
    """
    times = _spans(phones)
    total = times[-1].end if times else 0.0
    count = round(total * rate)
    if count == 0:
        return np.zeros(0, np.float32), times
    rng = np.random.default_rng(seed)
    ticks = np.arange(0.0, total + 2 * _HOP_S, _HOP_S)
    control = _smooth(_targets(times, ticks))
    samples = _voiced(control, ticks, count, rate, f0, rng) + _noise(control, count, rate, rng)
    peak = float(np.abs(samples).max())
    scale = 0.7 / peak if peak > 1e-4 else 1.0
    return (samples * scale).astype(np.float32), times


def lip_track(times: list[PhoneTime], fps: float, num_frames: int) -> Floats:
    """Visible lips of spoken phones: float32 [num_frames, 2] = (opening 0..1, rounding -1..1) at frame times i/fps.

    The lips lead and lag the sound smoothly (about 50 ms) but bilabial closures reach zero opening.
    """
    ticks = np.arange(0.0, (num_frames + 1) / fps + 0.2, _HOP_S)
    track = np.zeros((len(ticks), 2))
    track[:, 0] = PHONES["sil"].jaw
    shut = np.zeros(len(ticks), bool)
    for name, start, end in times:
        inside = (ticks >= start) & (ticks < end)
        track[inside] = (PHONES[name].jaw, PHONES[name].round)
        if name in BILABIALS:
            shut |= (ticks >= start) & (ticks < start + (end - start) * PHONES[name].closure)
    track = np.stack([np.convolve(np.pad(column, 5, mode="edge"), np.hanning(13)[1:-1] / 6.0, "valid")
                      for column in track.T], axis=1)  # fmt: skip
    # A closure is total for as long as the sound is shut, however short: that is what makes a bilabial one.
    near = np.convolve(shut, np.ones(5), "same") > 0
    track[near, 0] *= 0.35
    track[shut, 0] = 0.0
    at = np.clip(np.round(np.arange(num_frames) / fps / _HOP_S).astype(int), 0, len(ticks) - 1)
    return track[at].astype(np.float32)


def closures(times: list[PhoneTime]) -> list[tuple[float, float]]:
    """Spans [s] in which the lips are shut by a bilabial."""
    return [
        (start, start + (end - start) * PHONES[name].closure)
        for name, start, end in times
        if name in BILABIALS
    ]


def degrade(
    samples: Floats,
    rate: int = 16_000,
    seed: int = 0,
    eq_db: float = 0.0,
    snr_db: float | None = None,
    reverb_s: float = 0.0,
) -> Floats:
    """The same speech through a worse room: random smooth equaliser (± `eq_db`), decay of `reverb_s`, noise.

    Timing is kept: the direct sound stays at its sample. Same shape as the input, peak at most 1.
    """
    rng = np.random.default_rng(seed)
    out = samples.astype(np.float64)
    if eq_db > 0:
        spectrum = np.fft.rfft(out)
        knots = rng.uniform(-eq_db, eq_db, 9)
        gain = np.interp(np.linspace(0, 8, len(spectrum)), np.arange(9), knots)
        out = np.fft.irfft(spectrum * 10 ** (gain / 20), n=len(out))
    if reverb_s > 0:
        length = max(int(reverb_s * rate), 1)
        tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length) * 0.02
        tail[0] = 1.0
        size = len(out) + length
        out = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(tail, size), n=size)[: len(samples)]
    if snr_db is not None:
        power = float(np.mean(out**2)) + 1e-12
        out = out + rng.standard_normal(len(out)) * np.sqrt(power * 10 ** (-snr_db / 10))
    return (out / max(1.0, float(np.abs(out).max(initial=0.0)))).astype(np.float32)


def _is_consonant(name: str) -> bool:
    return name not in ("a", "ae", "e", "i", "o", "u", "uh", "sil")


def _split(syllable: str) -> list[str]:
    """Longest match first: "sha" -> ["sh", "a"]."""
    names = []
    while syllable:
        name = next((syllable[:n] for n in (3, 2, 1) if syllable[:n] in PHONES), None)
        if name is None:
            raise BadInput(f"no phone starts {syllable!r}", fix=f"phones: {', '.join(PHONES)}")
        names.append(name)
        syllable = syllable[len(name) :]
    return names


def _spans(phones: list[tuple[str, float]]) -> list[PhoneTime]:
    times, now = [], 0.0
    for name, seconds in phones:
        if name not in PHONES:
            raise BadInput(f"unknown phone {name!r}", fix=nearest(name, PHONES))
        if not seconds > 0:
            raise BadInput(f"phone {name!r} lasts {seconds} s", fix="give it more than 0 s")
        times.append(PhoneTime(name, now, now + seconds))
        now += seconds
    return times


def _targets(times: list[PhoneTime], ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Control values [ticks, 7]: F1, F2, F3, voice, noise, noise centre, noise width."""
    control = np.zeros((len(ticks), 7))
    control[:] = (*PHONES["sil"].formants, 0.0, 0.0, *PHONES["sil"].band)
    for name, start, end in times:
        phone = PHONES[name]
        inside = (ticks >= start) & (ticks < end)
        control[inside] = (*phone.formants, phone.voice, phone.noise, *phone.band)
        if name in _STOPS:
            shut = inside & (ticks < start + (end - start) * phone.closure)
            control[shut, 3] *= 0.35  # the voice bar of b, d, g; p, t, k have none
            control[shut, 4] = 0.0
            control[inside & ~shut, 3] = 0.3 if phone.voice else 0.0
    return control


def _smooth(control: NDArray[np.float64]) -> NDArray[np.float64]:
    """Formants glide over 45 ms, amplitudes over 15 ms (sharper, or closures would blur)."""
    out = np.empty_like(control)
    for column, width in enumerate((9, 9, 9, 3, 3, 5, 5)):
        kernel = np.hanning(width + 2)[1:-1]
        padded = np.pad(control[:, column], width // 2, mode="edge")
        out[:, column] = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return out


def _voiced(
    control: NDArray[np.float64],
    ticks: NDArray[np.float64],
    count: int,
    rate: int,
    f0: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Harmonics of a drifting pitch under the formant envelope: float64 [count]."""
    seconds = np.arange(count) / rate
    drift = np.cumsum(rng.standard_normal(len(ticks))) * 0.002
    drift -= np.linspace(drift[0], drift[-1], len(drift))  # a bridge: the pitch ends where it began
    pitch_ticks = f0 * (1.0 + 0.03 * np.sin(2 * np.pi * 0.7 * ticks) + np.clip(drift, -0.06, 0.06))
    pitch = np.interp(seconds, ticks, pitch_ticks)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    out = np.zeros(count)
    for harmonic in range(1, int(0.48 * rate / f0) + 1):
        at = harmonic * pitch_ticks
        gain = control[:, 3] * _envelope(control[:, :3], at) / harmonic
        gain[at > 0.48 * rate] = 0.0
        out += np.interp(seconds, ticks, gain) * np.sin(harmonic * phase)
    return out


def _envelope(formants: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain of three resonances [ticks] at the frequencies `at` [ticks], by the cascade's magnitude."""
    gain = np.ones_like(at)
    for column, width in enumerate((90.0, 110.0, 170.0)):
        centre = formants[:, column]
        gain *= centre**2 / np.sqrt((centre**2 - at**2) ** 2 + (width * at) ** 2)
    return gain * (1.0 + at / 1500.0)  # radiation from the mouth lifts the top


def _noise(
    control: NDArray[np.float64], count: int, rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Shaped noise by overlapping frames (weighted overlap-add, 10 ms frames): float64 [count]."""
    hop = max(round(_HOP_S * rate), 1)
    frame = 2 * hop
    frames = count // hop + 2
    white = rng.standard_normal((frames, frame))
    spectrum = np.fft.rfft(white, axis=1)  # [frames, hop + 1]
    frequency = np.fft.rfftfreq(frame, 1 / rate)
    row = np.minimum(np.arange(frames), len(control) - 1)
    centre, width = control[row, 5][:, None], control[row, 6][:, None]
    shape = np.exp(-0.5 * ((frequency[None] - centre) / (0.5 * width)) ** 2) * control[row, 4][:, None]
    shaped = np.fft.irfft(spectrum * shape, n=frame, axis=1) * np.hanning(frame + 1)[:-1]
    out = np.zeros((frames + 1) * hop)
    out[: frames * hop] += shaped[:, :hop].reshape(-1)
    out[hop:] += shaped[:, hop:].reshape(-1)
    return out[hop : hop + count] * 2.0
