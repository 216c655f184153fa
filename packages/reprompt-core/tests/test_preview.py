"""The preview, measured as sound: what a plan asks for can be heard in the samples."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.errors import AudioError
from reprompt_core.generation import SAMPLE_RATE, render_preview
from reprompt_core.generation.band import resolve
from reprompt_core.generation.compose import compose
from reprompt_core.generation.loudness import loudness
from reprompt_core.generation.patterns import GROOVES, PERCUSSION
from reprompt_core.generation.preview import render_raw
from reprompt_core.knowledge import Knowledge
from reprompt_core.knowledge.concepts import GROOVES as GROOVE_NAMES
from reprompt_core.types import MusicPlan

pytestmark = pytest.mark.xdist_group("librosa")  # its functions are compiled once, in one worker

Samples = npt.NDArray[np.float32]

PLAN = MusicPlan(
    genre="pop",
    moods=("cheerful",),
    tempo_bpm=110,
    key="C",
    mode="major",
    register="mid",
    articulation="mixed",
    dynamics="moderate",
    harmony="consonant",
    rhythm="steady backbeat",
    lead="piano",
    accompaniment=("electric bass", "acoustic guitar"),
    timbres=(),
)
SOUR = replace(PLAN, tempo_bpm=120, register="high", articulation="staccato", harmony="dissonant", exclude=("drums",))
BITTER = replace(PLAN, tempo_bpm=80, register="low", articulation="legato", mode="minor", exclude=("drums",))


@pytest.fixture(scope="module")
def knowledge(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    return Knowledge.load(Encoder(bundle, threads=1), cache_dir=tmp_path_factory.mktemp("cache"))


def _mono(knowledge: Knowledge, plan: MusicPlan, *, seconds: float = 8, seed: int = 0) -> Samples:
    return render_preview(plan, seconds=seconds, seed=seed, knowledge=knowledge).samples.mean(0)


# --- what is heard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("genre", "bpm", "changes"),
    [
        ("pop", 60, {}),
        ("house", 124, {"lead": "synth lead", "accompaniment": ("synth bass", "drum machine")}),
        ("jazz", 140, {"lead": "tenor saxophone", "accompaniment": ("upright bass", "piano")}),
        ("bossa nova", 132, {"lead": "flute", "accompaniment": ("nylon-string guitar", "upright bass")}),
        ("reggae", 76, {"lead": "melodica", "accompaniment": ("electric bass", "muted guitar")}),
        (
            "ambient",
            70,
            {"lead": "synth pad", "accompaniment": ("analog synth", "felt piano"), "articulation": "legato"},
        ),
        ("solo piano", 96, {"accompaniment": (), "articulation": "legato", "dynamics": "soft"}),
        ("techno", 160, {"exclude": ("drums",), "articulation": "staccato"}),
        ("waltz", 108, {"lead": "violin", "accompaniment": ("cello", "string section"), "exclude": ("percussion",)}),
        ("no such genre", 88, {}),
    ],
)
def test_the_tempo_that_is_planned_is_heard(
    knowledge: Knowledge, genre: str, bpm: int, changes: dict[str, Any]
) -> None:
    heard = _tempo(_mono(knowledge, replace(PLAN, genre=genre, tempo_bpm=bpm, **changes), seconds=15))
    octaves = [heard / 2, heard, heard * 2]
    assert min(abs(bpm / t - 1) for t in octaves) < 0.04, f"{bpm} BPM is heard as {heard:.1f}"


def test_two_tempi_are_told_apart(knowledge: Knowledge) -> None:
    """Octaves aside, 80 is not 110: the test above would pass anything if the estimate were blind."""
    heard = _tempo(_mono(knowledge, replace(PLAN, tempo_bpm=80), seconds=15))
    assert min(abs(110 / t - 1) for t in (heard / 2, heard, heard * 2)) > 0.04


def _tempo(mono: Samples) -> float:
    """BPM by librosa's beat tracker."""
    return float(np.atleast_1d(librosa.beat.beat_track(y=mono, sr=SAMPLE_RATE)[0])[0])


def test_sour_lies_higher_than_bitter(knowledge: Knowledge) -> None:
    sour, bitter = _mono(knowledge, SOUR), _mono(knowledge, BITTER)
    assert _centroid(sour) > 1.5 * _centroid(bitter)
    assert _lead_pitch(knowledge, SOUR) > 2 * _lead_pitch(knowledge, BITTER)  # an octave and more


def test_each_register_lies_above_the_one_before(knowledge: Knowledge) -> None:
    low, mid, high = (_lead_pitch(knowledge, replace(PLAN, register=r)) for r in ("low", "mid", "high"))
    assert low < mid / 1.5 < high / 2.25


def test_the_chords_move_with_the_register_too(knowledge: Knowledge) -> None:
    chords = replace(PLAN, lead="drum kit", accompaniment=("Hammond organ",), exclude=("drums", "bass"))
    low, mid, high = (_centroid(_mono(knowledge, replace(chords, register=r))) for r in ("low", "mid", "high"))
    assert low < mid / 1.2 < high / 1.44


def _centroid(mono: Samples) -> float:
    """The median spectral centroid in Hz."""
    return float(np.median(librosa.feature.spectral_centroid(y=mono, sr=SAMPLE_RATE)))


def _lead_pitch(knowledge: Knowledge, plan: MusicPlan) -> float:
    """The median pitch in Hz of a flute that has the loudest part."""
    plan = replace(plan, lead="flute", accompaniment=("piano",), articulation="legato", exclude=("drums", "bass"))
    mono = _mono(knowledge, plan, seconds=6)
    pitches = librosa.yin(mono, fmin=60, fmax=3000, sr=SAMPLE_RATE, frame_length=2048)
    return float(np.median(pitches))


@pytest.mark.parametrize("register", ["low", "mid", "high"])
@pytest.mark.parametrize(("lead", "times"), [("flute", 1.4), ("drum kit", 1.25)])  # left out: the chords are alone
def test_dissonant_is_rougher_than_consonant(knowledge: Knowledge, register: str, lead: str, times: float) -> None:
    band = ("piano", "electric bass")
    plan = replace(PLAN, register=register, lead=lead, accompaniment=band, exclude=("drums",))
    rough, smooth = (_roughness(_mono(knowledge, replace(plan, harmony=h))) for h in ("dissonant", "consonant"))
    assert rough > times * smooth


def test_sour_is_rougher_than_bitter(knowledge: Knowledge) -> None:
    assert _roughness(_mono(knowledge, SOUR)) > 1.4 * _roughness(_mono(knowledge, BITTER))


def _roughness(mono: Samples) -> float:
    """The share of fluctuation at 20 to 150 Hz in the envelopes of the critical bands from 400 Hz up.

    Beats that fast are heard as roughness (Terhardt 1974; Fastl and Zwicker, Psychoacoustics, ch. 11). Lower bands are
    left out: there the partials of one bass note already beat, whatever the harmony.
    """
    edges = (400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300, 6400, 7700)
    n = len(mono)
    spectrum, frequencies = np.fft.rfft(mono), np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    fluctuation = total = 0.0
    for low, high in pairwise(edges):
        inside = (frequencies >= 0.85 * low) & (frequencies < 1.15 * high)
        analytic = np.zeros(n, complex)
        analytic[: len(spectrum)][inside] = 2 * spectrum[inside]
        envelope = np.abs(np.fft.ifft(analytic))
        beats = np.fft.rfft(envelope)
        beats[(frequencies < 20) | (frequencies > 150)] = 0
        fluctuation += float(np.square(np.fft.irfft(beats, n)).mean())
        total += float(np.square(envelope).mean())
    return fluctuation / total


def test_legato_sounds_longer_than_mixed_and_mixed_than_staccato(knowledge: Knowledge) -> None:
    plan = replace(PLAN, tempo_bpm=80, lead="flute", accompaniment=("Hammond organ",), exclude=("drums",))
    legato, mixed, staccato = (
        _sounding(_mono(knowledge, replace(plan, articulation=a))) for a in ("legato", "mixed", "staccato")
    )
    assert legato > mixed + 0.1 > staccato + 0.2


def _sounding(mono: Samples) -> float:
    """The share of time, the ending aside, within 12 dB of the loud."""
    power = librosa.feature.rms(y=mono[: -3 * SAMPLE_RATE], frame_length=640, hop_length=320)[0]
    return float((power > 0.25 * np.percentile(power, 90)).mean())


def test_loud_is_louder_than_soft_before_the_level_is_set(knowledge: Knowledge) -> None:
    levels = [_raw_loudness(knowledge, replace(PLAN, dynamics=d)) for d in ("soft", "moderate", "loud")]
    assert levels[0] + 4 < levels[1] < levels[2] - 3


def test_accented_notes_are_louder(knowledge: Knowledge) -> None:
    """The synthesizer knows one velocity only: that others are heard is our own doing."""
    score = compose(PLAN, seconds=5, seed=0, knowledge=knowledge)
    assert len({note.velocity for track in score.tracks for note in track.notes}) > 2
    plan = replace(PLAN, tempo_bpm=60, exclude=("drums", "bass"), lead="bass drum", accompaniment=("acoustic guitar",))
    mono = render_raw(plan, seconds=12, seed=0, knowledge=knowledge).mean(0)
    beats = [np.abs(mono[b * SAMPLE_RATE : (b + 1) * SAMPLE_RATE]).max() for b in range(8)]
    assert min(beats[0::4]) > 1.3 * max(beats[1::4])  # x...o... : the first beat against the second


def _raw_loudness(knowledge: Knowledge, plan: MusicPlan) -> float:
    return loudness(render_raw(plan, seconds=5, seed=0, knowledge=knowledge), SAMPLE_RATE)


# --- its level, length and end -----------------------------------------------------------------------------------

VARIOUS = [
    (PLAN, 15),
    (SOUR, 3),
    (BITTER, 40),
    (
        replace(
            PLAN, genre="house", tempo_bpm=124, lead="synth lead", accompaniment=("drum machine",), dynamics="loud"
        ),
        15,
    ),
    (replace(PLAN, genre="ambient", tempo_bpm=60, lead="synth pad", accompaniment=(), articulation="legato"), 15),
    (replace(PLAN, genre="kwaito", tempo_bpm=117, register="high", accompaniment=("handclaps", "drum machine")), 15),
    (replace(PLAN, genre="samba", lead="nylon-string guitar", accompaniment=("surdo", "shaker"), dynamics="soft"), 3),
    (replace(PLAN, genre="march", lead="piccolo", accompaniment=("snare drum", "tuba"), articulation="staccato"), 40),
    (replace(PLAN, timbres=("muffled", "dark"), lead="sub bass", register="low"), 1),
]


@pytest.mark.parametrize(("plan", "seconds"), VARIOUS)
def test_every_preview_has_the_same_loudness_and_no_clipping(
    knowledge: Knowledge, plan: MusicPlan, seconds: int
) -> None:
    preview = render_preview(plan, seconds=seconds, knowledge=knowledge)
    lufs = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(preview.samples.T.astype(np.float64))
    oversampled = librosa.resample(preview.samples, orig_sr=SAMPLE_RATE, target_sr=4 * SAMPLE_RATE)
    peak = 20 * np.log10(np.abs(oversampled).max())
    assert lufs == pytest.approx(-14, abs=1)
    assert preview.loudness_lufs == pytest.approx(lufs, abs=0.1)
    assert peak <= -1
    assert preview.true_peak_dbtp == pytest.approx(peak, abs=0.2)


@pytest.mark.parametrize("seconds", [1, 3, 7.3, 15])
@pytest.mark.parametrize("plan", [PLAN, BITTER, replace(SOUR, genre="waltz", tempo_bpm=190)])
def test_it_lasts_exactly_as_asked_and_ends_in_silence(knowledge: Knowledge, plan: MusicPlan, seconds: float) -> None:
    preview = render_preview(plan, seconds=seconds, knowledge=knowledge)
    samples, rate = preview.samples, preview.sample_rate
    assert (samples.dtype, samples.shape) == (np.float32, (2, round(seconds * rate)))
    assert (rate, preview.seconds, preview.source) == (32_000, seconds, "preview")
    whole = np.sqrt(np.square(samples).mean())
    end = np.abs(samples[:, -rate // 20 :])
    assert end.max() < 0.01 * whole
    # a fade, not a cut: each 50 ms of the last 300 are no more than a little louder than those before
    pieces = np.sqrt(np.square(samples[:, -6 * rate // 20 :]).reshape(2, 6, -1).mean((0, 2)))
    assert all(after < 1.1 * before for before, after in pairwise(pieces))


@pytest.mark.parametrize("mode", ["major", "minor", "dorian", "mixolydian", "phrygian", "lydian", "pentatonic"])
def test_it_ends_on_the_tonic_chord_in_its_mode(knowledge: Knowledge, mode: str) -> None:
    plan = replace(PLAN, mode=mode, key="Eb", exclude=("drums",))
    mono = _mono(knowledge, plan)
    third = 6 if mode in {"minor", "dorian", "phrygian"} else 7
    assert _pitch_classes(mono[round(-1.3 * SAMPLE_RATE) : round(-0.4 * SAMPLE_RATE)], 3) == {3, third, 10}


def _pitch_classes(mono: Samples, count: int) -> set[int]:
    """The pitch classes with most power, C as 0."""
    power = np.square(np.abs(np.fft.rfft(mono * np.hanning(len(mono)), 4 * len(mono))))
    frequencies = np.fft.rfftfreq(4 * len(mono), 1 / SAMPLE_RATE)
    heard = (frequencies > 60) & (frequencies < 2000)
    classes = np.round(12 * np.log2(frequencies[heard] / 440) + 69).astype(int) % 12
    return set(np.argsort(np.bincount(classes, power[heard], 12))[-count:].tolist())


# --- the same, and not the same ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(knowledge: Knowledge) -> None:
    first, again, other = (
        render_preview(PLAN, seconds=8, seed=s, knowledge=knowledge).samples.tobytes() for s in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_another_process_gives_the_same_samples_without_any_heavy_library(knowledge: Knowledge, bundle: Path) -> None:
    code = f"""if True:
        import hashlib, sys, tempfile
        from pathlib import Path
        from reprompt_core.encoder import Encoder
        from reprompt_core.generation import render_preview, write_audio
        from reprompt_core.knowledge import Knowledge
        from reprompt_core.types import MusicPlan
        with tempfile.TemporaryDirectory() as folder:
            known = Knowledge.load(Encoder(Path({str(bundle)!r}), threads=1), cache_dir=Path(folder))
            preview = render_preview({PLAN!r}, seconds=8, seed=7, knowledge=known)
            write_audio(Path(folder) / "a.flac", preview.samples, preview.sample_rate)
        heavy = {{"scipy", "pretty_midi", "librosa", "torch", "transformers"}} & set(sys.modules)
        print(hashlib.sha256(preview.samples.tobytes()).hexdigest(), *heavy)
    """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = render_preview(PLAN, seconds=8, seed=7, knowledge=knowledge).samples.tobytes()
    assert answer.stdout.split() == [hashlib.sha256(here).hexdigest()]


# --- who plays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "genre", "beaten"),
    [
        ((), "house", True),
        (("drums",), "house", False),
        (("drum kit",), "rock", False),
        (("percussion",), "samba", False),
        (("batería",), "rock", False),
        (("trap set",), "rock", False),
        (("percusión",), "salsa", False),
        (("violin",), "rock", True),
        ((), "ambient", False),
    ],
)
def test_drums_play_unless_excluded_or_free(
    knowledge: Knowledge, exclude: tuple[str, ...], genre: str, beaten: bool
) -> None:
    plan = replace(PLAN, genre=genre, exclude=exclude, accompaniment=("congas", "piano") if exclude else ())
    score = compose(plan, seconds=8, seed=0, knowledge=knowledge)
    assert any(track.is_drum for track in score.tracks) is beaten


def test_the_named_instruments_play(knowledge: Knowledge) -> None:
    plan = replace(PLAN, lead="trumpet", accompaniment=("Rhodes piano", "upright bass", "string section", "congas"))
    tracks = {t.name: (t.program, t.is_drum) for t in compose(plan, seconds=8, seed=0, knowledge=knowledge).tracks}
    assert tracks == {
        "lead": (56, False),
        "chords": (4, False),
        "bass": (32, False),
        "pad": (48, False),
        "drums": (0, True),
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("violin", "violin"),
        ("Steinway", "grand piano"),
        ("sax", "saxophone"),
        ("wobblebass", "electric bass"),
        ("homemade guitar-like box", "acoustic guitar"),
        ("quite unknown", "piano"),
    ],
)
def test_instruments_are_found_by_name_alias_or_word(knowledge: Knowledge, text: str, name: str) -> None:
    assert resolve(text, knowledge).name == name


def test_every_groove_and_percussion_instrument_is_written(knowledge: Knowledge) -> None:
    assert set(GROOVES) == GROOVE_NAMES
    assert set(PERCUSSION) <= set(knowledge.instruments)
    for groove in GROOVES.values():
        cells = groove.beats * groove.division
        assert {len(p) for p in (*groove.drums.values(), groove.chords, groove.bass)} == {cells}
        drums = {char for pattern in groove.drums.values() for char in pattern}
        assert drums <= set("Xxo."), groove
        assert set(groove.chords) <= set("Xxoa.")
        assert set(groove.bass) <= set("r583n.")
    assert {len(p) for patterns in PERCUSSION.values() for p in patterns.values()} == {8}


@pytest.mark.parametrize("groove", sorted(GROOVE_NAMES))
def test_every_groove_can_be_played(knowledge: Knowledge, groove: str) -> None:
    genre = next(g for g in knowledge.genres.values() if g.style and g.style.groove == groove)
    assert genre.style
    plan = replace(PLAN, genre=genre.name, lead=genre.style.lead[0], accompaniment=genre.style.accompaniment)
    notes = [n for t in compose(plan, seconds=10, seed=1, knowledge=knowledge).tracks for n in t.notes]
    assert len(notes) > 40
    assert all(20 <= n.pitch <= 108 and 1 <= n.velocity <= 127 for n in notes)
    assert max(n.time for n in notes) * 60 / (480 * plan.tempo_bpm) < 10


@pytest.mark.parametrize("seconds", [0.99, 0, -3, 301, float("nan")])
def test_other_lengths_are_refused(knowledge: Knowledge, seconds: float) -> None:
    with pytest.raises(AudioError, match="from 1 to 300 seconds"):
        render_preview(PLAN, seconds=seconds, knowledge=knowledge)
