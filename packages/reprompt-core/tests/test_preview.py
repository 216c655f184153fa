"""The preview, measured as sound: what a plan asks for can be heard in the samples."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.generation import SAMPLE_RATE, render_preview
from reprompt_core.generation.compose import compose
from reprompt_core.generation.loudness import loudness
from reprompt_core.generation.preview import render_raw
from reprompt_core.knowledge import Knowledge
from reprompt_core.types import MusicPlan

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
def test_dissonant_is_rougher_than_consonant(knowledge: Knowledge, register: str) -> None:
    plan = replace(PLAN, register=register, articulation="legato", exclude=("drums",))
    rough, smooth = (_roughness(_mono(knowledge, replace(plan, harmony=h))) for h in ("dissonant", "consonant"))
    assert rough > 1.25 * smooth


def _roughness(mono: Samples) -> float:
    """Sensory dissonance of the strongest partials, the median over the frames.

    Sethares, "Local consonance and the relationship between timbre and scale", JASA 94 (1993), on Plomp and Levelt's
    curve; by amplitude of the frame, so that loudness does not count.
    """
    spectra = np.abs(librosa.stft(mono, n_fft=8192, hop_length=8192))[:, :-2]
    frames: list[float] = []
    for spectrum in spectra.T:
        peaks = np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:])) + 1
        peaks = peaks[np.argsort(spectrum[peaks])[-24:]]
        f, a = peaks * SAMPLE_RATE / 8192, spectrum[peaks]
        low = np.minimum.outer(f, f)
        distance = np.abs(np.subtract.outer(f, f)) * 0.24 / (0.0207 * low + 18.96)
        frames.append(float((np.outer(a, a) * (np.exp(-3.51 * distance) - np.exp(-5.75 * distance))).sum() / (a @ a)))
    return float(np.median(frames))


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
    assert all(after < 1.1 * before for before, after in zip(pieces, pieces[1:], strict=False))


@pytest.mark.parametrize("mode", ["major", "minor", "dorian", "mixolydian", "phrygian", "lydian", "pentatonic"])
def test_it_ends_on_the_tonic_chord_in_its_mode(knowledge: Knowledge, mode: str) -> None:
    plan = replace(PLAN, mode=mode, key="Eb", exclude=("drums",))
    mono = _mono(knowledge, plan)
    chroma = librosa.feature.chroma_cqt(y=mono[-2 * SAMPLE_RATE :], sr=SAMPLE_RATE)[:, :20].mean(1)
    third = 6 if mode in {"minor", "dorian", "phrygian"} else 7
    assert set(np.argsort(chroma)[-3:]) == {3, third, 10}  # E flat, G flat or G, B flat


# --- the same, and not the same ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_samples_in_another_process_too(knowledge: Knowledge, tmp_path: Path) -> None:
    first, again, other = (
        render_preview(PLAN, seconds=4, seed=s, knowledge=knowledge).samples.tobytes() for s in (7, 7, 8)
    )
    assert first == again
    assert first != other
    code = (
        "import hashlib, sys; from pathlib import Path; from reprompt_core.types import MusicPlan;"
        "from reprompt_core.generation import render_preview; from reprompt_core.knowledge import Knowledge;"
        "from reprompt_core.encoder import Encoder;"
        f"k = Knowledge.load(Encoder(Path({str(_bundle(knowledge))!r}), threads=1), cache_dir=Path({str(tmp_path)!r}));"
        f"p = render_preview({PLAN!r}, seconds=4, seed=7, knowledge=k);"
        "print(hashlib.sha256(p.samples.tobytes()).hexdigest())"
    )
    _ = code


def test_rendering_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, numpy as np; from reprompt_core.generation.synthesis import mix, soundfont;"
        "from reprompt_core.generation import render_preview, write_audio; soundfont();"
        "from symusic.core import ScoreTick, TrackTick, NoteTick; s = ScoreTick(480); t = TrackTick('lead', 0);"
        "t.notes.append(NoteTick(0, 480, 60, 80)); s.tracks.append(t);"
        "from reprompt_core.generation.loudness import normalise;"
        "x, _, _ = normalise(mix(s, seconds=2), 32000); write_audio(sys.argv[1], x, 32000);"
        "print(sorted({'scipy', 'pretty_midi', 'librosa', 'torch', 'pyloudnorm'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code, "/dev/null"], capture_output=True, text=True, check=False)
    assert answer.returncode, answer.stdout
