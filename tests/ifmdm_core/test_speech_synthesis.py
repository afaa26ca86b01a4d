import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.speech_synthesis import PHONES, closures, degrade, lip_track, syllables, synthesize_phones

RATE = 16_000


def _level(samples: np.ndarray, start: float, end: float) -> float:
    return float(np.sqrt(np.mean(samples[round(start * RATE) : round(end * RATE)] ** 2)))


def _formant(samples: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    band = (frequency >= low) & (frequency < high)
    return float(np.sum(frequency[band] * spectrum[band] ** 2) / np.sum(spectrum[band] ** 2))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(PHONES)), st.floats(0.03, 0.3)), min_size=1, max_size=8),
    st.sampled_from([8_000, 16_000, 22_050]),
)
def test_any_phones_give_bounded_sound_of_the_right_length(
    phones: list[tuple[str, float]], rate: int
) -> None:
    samples, times = synthesize_phones(phones, rate)
    assert len(samples) == round(sum(seconds for _, seconds in phones) * rate)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 0.7001
    assert [t.phone for t in times] == [name for name, _ in phones]
    assert all(a.end == b.start for a, b in itertools.pairwise(times))


def test_the_seed_decides_everything_else() -> None:
    phones = syllables("sa-na")
    assert np.array_equal(synthesize_phones(phones, seed=1)[0], synthesize_phones(phones, seed=1)[0])
    assert not np.array_equal(synthesize_phones(phones, seed=1)[0], synthesize_phones(phones, seed=2)[0])


def test_closures_are_quiet_where_they_are_said_to_be() -> None:
    samples, times = synthesize_phones(syllables("pa-pa-pa", 0.4))
    for start, end in closures(times):
        assert _level(samples, start + 0.02, end - 0.01) < 0.1 * _level(samples, end + 0.1, end + 0.2)


def test_vowels_have_their_formants() -> None:
    for vowel in ("a", "i", "u"):
        samples, _ = synthesize_phones([(vowel, 0.6)], f0=110)
        middle = samples[RATE // 5 : -RATE // 5]
        expected = PHONES[vowel].formants[0]
        assert abs(_formant(middle, 0, 1000 if vowel == "a" else 600) - expected) < 0.35 * expected
    back, front = (synthesize_phones([(v, 0.5)])[0][3000:-3000] for v in ("u", "i"))
    assert _formant(front, 1200, 3500) > _formant(back, 1200, 3500) - 200
    assert _formant(front, 600, 3500) > 1.5 * _formant(back, 600, 3500)


def test_lips_close_on_bilabials_and_open_on_vowels() -> None:
    _, times = synthesize_phones(syllables("pa-ma-ba", 0.4))
    lips = lip_track(times, 100, 120)
    for start, end in closures(times):
        assert lips[round((start + end) / 2 * 100), 0] == 0.0
    assert lips[30, 0] > 0.9
    assert (np.abs(lips) <= 1.0).all()


def test_what_is_no_phone_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BadInput, match="did you mean 'sh'"):
        synthesize_phones([("shh", 0.1)])
    with pytest.raises(BadInput, match="lasts 0"):
        synthesize_phones([("a", 0.0)])
    with pytest.raises(BadInput, match="no phone starts 'q"):
        syllables("pa-qa")


def test_syllables_split_longest_first_and_pause_at_spaces() -> None:
    phones = syllables("sha pa", syllable_s=0.3, pause_s=0.2)
    assert [name for name, _ in phones] == ["sh", "a", "sil", "p", "a"]
    assert sum(seconds for _, seconds in phones) == pytest.approx(0.8)


def test_a_worse_room_keeps_time_and_adds_noise() -> None:
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.5
    worse = degrade(click, seed=3, eq_db=6, reverb_s=0.2, snr_db=20)
    assert worse.shape == click.shape
    assert abs(int(np.abs(worse).argmax()) - 5000) <= 1
    noisy = degrade(np.sin(np.arange(RATE) / 5).astype(np.float32) * 0.1, snr_db=10)
    residue = noisy - np.sin(np.arange(RATE) / 5) * 0.1
    assert 8 < 10 * np.log10(0.005 / np.mean(residue**2)) < 12
