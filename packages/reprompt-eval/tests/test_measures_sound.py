"""The measures of sounds against signals whose tempo, register, roughness, articulation and range are known."""

import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.generation import render_preview
from reprompt_core.knowledge import Knowledge
from reprompt_core.types import MusicPlan
from reprompt_eval.errors import AudioFileError
from reprompt_eval.measures import SoundMeasures, measure_sound, roughness
from reprompt_eval.measures.sound import RATE as MEASURED_RATE
from reprompt_eval.measures.sound import agrees_in_tempo
from sounds import RATE, write

pytestmark = pytest.mark.xdist_group("librosa")

Samples = npt.NDArray[np.floating[Any]]
BIN = MEASURED_RATE / 4096  # Hz between two lines of the spectrum that roughness looks at


def _time(seconds: float, rate: int = RATE) -> Samples:
    return np.arange(round(seconds * rate)) / rate


def _tone(hz: float, seconds: float = 3, *, rate: int = RATE, level: float = 0.3) -> Samples:
    return level * np.sin(2 * np.pi * hz * _time(seconds, rate))


def _clicks(bpm: float, seconds: float = 10) -> Samples:
    """A short burst of noise on every beat."""
    since = _time(seconds) * bpm / 60 % 1 * 60 / bpm  # s since the last beat
    noise = np.random.default_rng(0).standard_normal(len(since))
    return 0.2 * noise * np.exp(-since / 0.01)


def _notes(duty: float, seconds: float = 6) -> Samples:
    """Two notes a second, each sounding for this share of its half second, with edges of 2 ms."""
    t = _time(seconds)
    number, within = np.divmod(t, 0.5)
    pitch = librosa.midi_to_hz(60 + np.array([0, 4, 7, 12, 9, 5])[number.astype(int) % 6])
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    edge = np.clip(np.minimum(within, 0.5 * duty - within) / 0.002, 0, 1) if duty < 1 else 1.0
    return 0.3 * np.sin(phase) * edge


def _saw(hz: float) -> Samples:
    return sum((_tone(hz * k, level=0.2 / k) for k in range(1, 9)), np.zeros(3 * RATE))


def _measured(folder: Path, samples: Samples, **options: Any) -> SoundMeasures:
    return measure_sound(write(folder / "x.wav", samples, **options))


# -- tempo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bpm", [60, 90, 120, 150, 200])
def test_the_tempo_of_clicks(tmp_path: Path, bpm: int) -> None:
    found = _measured(tmp_path, _clicks(bpm)).tempo_bpm
    assert agrees_in_tempo(found, bpm)
    assert not agrees_in_tempo(found, bpm * 1.2)
    if 80 <= bpm <= 160:  # where the estimate's prior lies it is the very beat, not its double or half
        assert found == pytest.approx(bpm, rel=0.04)


def test_tempos_agree_within_four_percent_at_five_levels() -> None:
    for level in (1, 2, 3, 1 / 2, 1 / 3):
        assert agrees_in_tempo(100 * level, 100)
        assert agrees_in_tempo(103.9 * level, 100)
        assert agrees_in_tempo(96.1 * level, 100)
        assert not agrees_in_tempo(104.1 * level, 100)
        assert not agrees_in_tempo(95.9 * level, 100)
    assert not agrees_in_tempo(150, 100)
    assert not agrees_in_tempo(400, 100)
    assert not agrees_in_tempo(0, 100)
    assert not agrees_in_tempo(math.nan, 100)


# -- register ----------------------------------------------------------------------------------------------------


def test_a_tone_has_the_register_of_its_note(tmp_path: Path) -> None:
    for note in (48, 60, 72, 84):
        assert _measured(tmp_path, _tone(librosa.midi_to_hz(note))).register == pytest.approx(note, abs=1.5)


def test_a_tone_in_the_middle_of_two_octaves_and_a_weak_bass_do_not_count_alike(tmp_path: Path) -> None:
    low, high = _tone(librosa.midi_to_hz(60)), _tone(librosa.midi_to_hz(84))
    both = _measured(tmp_path, low + high).register
    assert 70 < both < 78  # A-weighted: a little above the middle, 72
    assert _measured(tmp_path, low + 0.1 * high).register < both - 5
    # a bass of the same level is hardly heard beside a tone three octaves above it
    bass = _measured(tmp_path, _tone(librosa.midi_to_hz(36)) + _tone(librosa.midi_to_hz(72))).register
    assert bass > 64  # 54 is the middle


# -- roughness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [6, 12, 40])
def test_the_roughness_of_two_equal_sines_is_that_of_the_formula(lines: int) -> None:
    low, high = 80 * BIN, (80 + lines) * BIN
    sound = _tone(low, rate=MEASURED_RATE) + _tone(high, rate=MEASURED_RATE)
    gap = 0.24 * (high - low) / (0.0207 * low + 18.96)
    expected = (math.exp(-3.51 * gap) - math.exp(-5.75 * gap)) / 2  # a pair of a over the power of both
    assert roughness(sound.astype(np.float32), MEASURED_RATE) == pytest.approx(expected, rel=0.05, abs=0.002)


def test_a_second_is_rougher_than_a_fifth_at_any_level(tmp_path: Path) -> None:
    second, fifth = _saw(220) + _saw(220 * 16 / 15), _saw(220) + _saw(330)
    rough, smooth = _measured(tmp_path, second).roughness, _measured(tmp_path, fifth).roughness
    assert rough > 2 * smooth
    assert _measured(tmp_path, second * 0.05).roughness == pytest.approx(rough, rel=0.02)
    assert _measured(tmp_path, _tone(440)).roughness < 0.01


# -- articulation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duty", [0.2, 0.5, 0.8])
def test_detachment_is_the_share_of_silence_between_notes(tmp_path: Path, duty: float) -> None:
    window = 1024 / MEASURED_RATE / 0.5  # of the level: all but silent before it is 10 dB down
    assert _measured(tmp_path, _notes(duty)).detachment == pytest.approx(1 - duty - window, abs=0.05)


def test_short_clicks_are_detached_and_come_to_more_the_fewer_they_are(tmp_path: Path) -> None:
    few, many = (_measured(tmp_path, _clicks(bpm)).detachment for bpm in (60, 240))
    assert few > 0.85
    assert 0.5 < many < few


def test_notes_that_touch_are_not_detached(tmp_path: Path) -> None:
    assert _measured(tmp_path, _notes(1.0)).detachment < 0.02
    assert _measured(tmp_path, _tone(440)).detachment < 0.02


# -- loudness range ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second_db", "expected"), [(-30, 10), (-25, 5), (-40, 20)])
def test_the_loudness_range_of_the_test_signals_of_ebu_tech_3342(
    tmp_path: Path, second_db: float, expected: float
) -> None:
    """20 s of a tone of 1 kHz at -20 dBFS, 20 s softer or louder: the range is the difference, to 1 LU."""
    parts = [_tone(1000, 20, rate=16_000, level=10 ** (db / 20)) for db in (-20.0, second_db)]
    found = _measured(tmp_path, np.concatenate(parts), rate=16_000, subtype="FLOAT").loudness_range
    assert found == pytest.approx(expected, abs=1)


def test_a_steady_sound_has_no_range_and_a_short_one_none_that_is_known(tmp_path: Path) -> None:
    assert _measured(tmp_path, _tone(1000, 20)).loudness_range < 0.5
    assert _measured(tmp_path, _tone(1000, 6)).loudness_range < 3  # the last windows reach into silence
    assert math.isnan(_measured(tmp_path, _tone(1000, 3)).loudness_range)


# -- any file ----------------------------------------------------------------------------------------------------


def test_channels_rates_and_formats_change_little(tmp_path: Path) -> None:
    """The same dyad in pulses, whatever it is kept in."""

    def pulses(rate: int) -> Samples:
        t = _time(5, rate)
        return (_tone(300, 5, rate=rate, level=0.2) + _tone(330, 5, rate=rate, level=0.2)) * (t % 0.5 < 0.2)

    expected = _measured(tmp_path, pulses(RATE))
    left = np.stack([2 * pulses(RATE), 0 * pulses(RATE)], 1)
    found = [
        _measured(tmp_path, left),
        _measured(tmp_path, np.repeat(pulses(RATE)[:, None], 8, 1)),
        *(_measured(tmp_path, pulses(rate), rate=rate) for rate in (8_000, 44_100, 192_000)),
        measure_sound(write(tmp_path / "x.flac", pulses(RATE))),
    ]
    for other in found:
        assert other.tempo_bpm == pytest.approx(expected.tempo_bpm, rel=0.01)
        assert other.register == pytest.approx(expected.register, abs=0.3)
        assert other.roughness == pytest.approx(expected.roughness, rel=0.1)
        assert other.detachment == pytest.approx(expected.detachment, abs=0.03)
        assert other.loudness_range == pytest.approx(expected.loudness_range, abs=0.2)


def test_the_same_file_measures_the_same_twice(tmp_path: Path) -> None:
    sound = _notes(0.5)
    assert astuple(_measured(tmp_path, sound)) == astuple(_measured(tmp_path, sound))


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(_tone(440, 0.5), id="half a second"),
        pytest.param(_tone(440, 6, level=1.5e-4), id="hardly above silence"),
        pytest.param(_tone(15_000, 6), id="above what is looked at"),
        pytest.param(_tone(30, 6), id="below the lowest note"),
        pytest.param(np.eye(1, 6 * RATE, 3 * RATE)[0] * 0.5, id="one click"),
        pytest.param(np.full(6 * RATE, 0.5), id="a constant"),
        pytest.param(np.random.default_rng(0).uniform(-1, 1, 6 * RATE), id="noise"),
    ],
)
def test_odd_sounds_have_measures_that_are_numbers(tmp_path: Path, sound: Samples) -> None:
    found = _measured(tmp_path, sound, subtype="FLOAT")
    assert math.isfinite(found.tempo_bpm)
    assert 0 <= found.tempo_bpm <= 260
    assert 36 <= found.register <= 108 or math.isnan(found.register)
    assert 0 <= found.roughness < 1
    assert 0 <= found.detachment <= 1
    assert found.loudness_range >= 0 or math.isnan(found.loudness_range)


def test_what_cannot_be_heard_has_no_register_rather_than_one_of_rounding(tmp_path: Path) -> None:
    unheard = _tone(15_000) * np.hanning(3 * RATE)  # without an edge, which is heard
    assert math.isnan(_measured(tmp_path, unheard, subtype="FLOAT").register)
    assert math.isfinite(_measured(tmp_path, _tone(440, level=2e-4), subtype="FLOAT").register)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros(RATE), "silent"),
        (_tone(440, 0.1), "at least 0.5 s"),
        (np.where(np.arange(RATE) == 99, np.nan, _tone(440, 1)), "not finite"),
        (np.zeros(0), "lasts 0.00 s"),
    ],
)
def test_files_without_measures_say_why(tmp_path: Path, samples: Samples, said: str) -> None:
    with pytest.raises(AudioFileError, match=said):
        _measured(tmp_path, samples, subtype="FLOAT")


# -- the sound and its plan --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def knowledge(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    return Knowledge.load(Encoder(bundle, threads=1), cache_dir=tmp_path_factory.mktemp("cache"))


PLAN = MusicPlan(
    genre="pop", moods=("cheerful",), tempo_bpm=110, key="C", mode="major", register="mid", articulation="mixed",
    dynamics="moderate", harmony="consonant", rhythm="steady backbeat", lead="piano",
    accompaniment=("electric bass", "acoustic guitar"), timbres=(),
)  # fmt: skip


def test_previews_follow_their_plans(tmp_path: Path, knowledge: Knowledge) -> None:
    def sound(**changes: Any) -> SoundMeasures:
        made = render_preview(replace(PLAN, **changes), seconds=6, seed=3, knowledge=knowledge)
        return _measured(tmp_path, made.samples.T, rate=made.sample_rate)

    fast, slow = sound(tempo_bpm=140), sound(tempo_bpm=80)
    assert agrees_in_tempo(fast.tempo_bpm, 140)
    assert agrees_in_tempo(slow.tempo_bpm, 80)
    without = {"exclude": ("drums",)}
    low, high = sound(register="low", **without), sound(register="high", **without)
    assert high.register > low.register + 3
    tied, short = sound(articulation="legato", **without), sound(articulation="staccato", **without)
    assert short.detachment > tied.detachment + 0.1
    smooth, rough = sound(harmony="consonant", **without), sound(harmony="dissonant", **without)
    assert rough.roughness > smooth.roughness
