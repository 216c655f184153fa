"""Finished audio: as loud as it should be and no louder, and written so that others can read it."""

import io
import math
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import numpy as np
import pyloudnorm
import pytest
import soundfile
from reprompt_gpu.audio import FORMATS, Samples, check_path, encode, finish, measure, write
from reprompt_gpu.errors import AudioError
from scipy.signal import resample_poly

RATE = 32000
SECOND = np.arange(RATE) / RATE


def music(*, seconds: float = 4, channels: int = 2, hits: float = 0.0) -> Samples:
    """Chords over a bass, with a drum hit each half second."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * t + f) / (k + 1) for k, f in enumerate((55, 220.3, 277.2, 329.6, 1318.5)))
    drum = rng.standard_normal((channels, len(t))) * np.exp(-60 * (t % 0.5))
    return (0.1 * tones + hits * drum).astype(np.float32)


def loudness(samples: Samples) -> float:
    return pyloudnorm.Meter(RATE).integrated_loudness(samples.T.astype(np.float64))


def peak(samples: Samples) -> float:
    """The true peak in dBTP by another interpolator."""
    return 20 * math.log10(np.abs(resample_poly(samples.astype(np.float64), 4, 1, axis=1)).max())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("volume", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("target", [-14.0, -20.0])
def test_it_is_as_loud_as_it_should_be(channels: int, volume: float, target: float) -> None:
    samples = finish(volume * music(channels=channels, hits=0.1), RATE, loudness_lufs=target)
    assert samples.dtype == np.float32
    assert samples.shape == (channels, 4 * RATE)
    assert loudness(samples) == pytest.approx(target, abs=0.1)
    assert peak(samples) < -0.9


def test_without_high_peaks_it_is_one_gain() -> None:
    samples = music()
    finished = finish(samples, RATE, fade_s=0)
    np.testing.assert_allclose(finished, samples * (finished[0, 1000] / samples[0, 1000]), rtol=1e-4)


@pytest.mark.parametrize("limit", [-1.0, -6.0])
def test_peaks_stay_below_the_limit_at_the_loudness(limit: float) -> None:
    samples = music(hits=0.2)
    assert peak(samples) - loudness(samples) > 15  # one gain would leave it 2 LU quieter at least
    finished = finish(samples, RATE, true_peak_db=limit, loudness_lufs=limit - 13)
    assert peak(finished) < limit + 0.1
    assert loudness(finished) == pytest.approx(limit - 13, abs=0.1)


def test_the_limiter_moves_smoothly_and_leaves_the_rest_alone() -> None:
    samples = music(hits=0.5)
    finished = finish(samples, RATE, fade_s=0)
    gain = (finished / np.where(np.abs(samples) > 0.01, samples, np.nan))[0]
    steps = np.abs(np.diff(gain)) / np.nanmax(gain)
    assert np.nanmax(steps) < 0.005
    assert np.nanmin(gain) < 0.95 * np.nanmax(gain)
    between = gain[round(0.3 * RATE) : round(0.4 * RATE)]  # far from the hits
    assert np.nanmin(between) == pytest.approx(np.nanmax(gain), rel=1e-3)


def test_beyond_six_decibels_of_limiting_it_stays_quieter() -> None:
    samples = music(hits=0.0)
    samples[:, RATE] = 1.0  # a click
    finished = finish(samples, RATE)
    assert peak(finished) < -0.9
    assert loudness(finished) < -15
    untouched = slice(2 * RATE, 3 * RATE)
    gain = np.abs(finished[:, untouched]).max() / np.abs(samples[:, untouched]).max()
    over = 20 * math.log10(gain) + measure(samples, RATE)[1] - -1.0
    assert over == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 100, RATE // 10, round(0.4 * RATE) - 1])
def test_what_is_too_short_to_have_a_loudness_is_brought_to_the_peak(channels: int, n: int) -> None:
    finished = finish(0.01 * music(channels=channels)[:, :n], RATE, fade_s=0)
    assert finished.shape == (channels, n)
    if n > 1:  # the first sample is zero
        assert measure(finished, RATE)[1] == pytest.approx(-1, abs=0.01)
    assert np.isfinite(finish(music(channels=channels)[:, :n], RATE)).all()


@pytest.mark.parametrize("n", [0, 1, 1000, round(0.4 * RATE), 2 * RATE])
def test_silence_stays_silence(n: int) -> None:
    samples = np.zeros((2, n), np.float32)
    assert np.array_equal(finish(samples, RATE), samples)
    assert measure(samples, RATE) == (-math.inf, -math.inf)


@pytest.mark.parametrize(("seconds", "volume"), [(0.1, 1e-5), (0.1, 1e-40), (4, 3e-3), (4, 1e-5), (4, 1e-40)])
def test_what_cannot_be_heard_is_not_made_loud(seconds: float, volume: float) -> None:
    samples = (volume * music(seconds=seconds).astype(np.float64)).astype(np.float32)
    assert measure(samples, RATE)[0] == -math.inf
    assert np.abs(finish(samples, RATE)).max() <= np.abs(samples).max()


def test_a_click_in_silence_stays_below_the_limit() -> None:
    samples = np.zeros((1, 4 * RATE), np.float32)
    samples[0, RATE] = 2.0
    assert measure(finish(samples, RATE), RATE)[1] < -0.9


def test_the_end_is_faded() -> None:
    samples = np.full((1, RATE), 0.1, np.float32)
    samples[0] *= np.sin(2 * np.pi * 997 * SECOND)
    finished = finish(samples, RATE, fade_s=0.25)
    gain = finished[0] / np.where(np.abs(samples[0]) > 0.03, samples[0], np.nan)
    gain /= np.nanmax(gain)
    assert np.nanmin(gain[: RATE * 3 // 4]) == pytest.approx(1, abs=1e-3)
    assert np.nanmean(gain[RATE * 7 // 8 - 100 : RATE * 7 // 8 + 100]) == pytest.approx(0.5, abs=0.02)
    assert np.nanmax(gain[-500:]) < 0.01
    assert finished[0, -1] == pytest.approx(0, abs=1e-6)


def test_finishing_leaves_what_it_was_given() -> None:
    samples = music(hits=0.5)
    before = samples.copy()
    finish(samples, RATE)
    assert np.array_equal(samples, before)


def test_measures() -> None:
    # a full-scale sine of 997 Hz in one channel is -3.01 LUFS (EBU Tech 3341)
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * RATE) / RATE)[None].astype(np.float32)
    assert measure(sine, RATE) == (pytest.approx(-3.01, abs=0.1), pytest.approx(0, abs=0.05))
    # at a quarter of the rate, between its samples, which are 3 dB lower
    hidden = np.sin(np.pi / 2 * np.arange(RATE) + np.pi / 4)[None].astype(np.float32)
    hidden *= np.hanning(RATE).astype(np.float32)
    assert np.abs(hidden).max() < 0.71
    assert measure(hidden, RATE)[1] == pytest.approx(0, abs=0.05)
    fastest = 0.5 * np.cos(np.pi * np.arange(RATE))[None].astype(np.float32)
    assert measure(np.pad(fastest, ((0, 0), (0, 1000))) * np.hanning(RATE + 1000), RATE)[1] == pytest.approx(
        -6.02, abs=0.1
    )


@pytest.mark.parametrize("at", [0, 1, 10_000, 31_743, 31_744, 40_000])
def test_a_peak_is_found_wherever_it_is(at: int) -> None:
    samples = np.zeros((2, 40_001), np.float32)
    samples[1, at] = 0.5
    assert measure(samples, RATE)[1] == pytest.approx(-6.02, abs=0.01)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_can_be_read_back(tmp_path: Path, suffix: str, channels: int) -> None:
    chord = np.stack([0.5 * np.sin(2 * np.pi * f * SECOND) for f in (440, 660)]).astype(np.float32)[:channels]
    path = tmp_path / f"a.{suffix.upper()}"
    path.write_bytes(b"what was there before")
    write(path, chord, RATE)
    read, rate = soundfile.read(path, always_2d=True)
    assert rate == RATE
    assert read.shape == (RATE, channels)
    info = soundfile.info(path)
    assert (info.format, info.subtype) == (suffix.upper(), FORMATS[suffix])
    np.testing.assert_allclose(read.T, chord, atol=1e-4 if suffix in ("wav", "flac") else 0.05)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes()[:4] == encode(chord, RATE, suffix)[:4]


def test_who_reads_the_file_that_was_there_goes_on_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, music(seconds=1), RATE)
    before = path.read_bytes()
    with path.open("rb") as file:
        write(path, 0.5 * music(seconds=1), RATE)
        assert file.read() == before
    assert path.read_bytes() != before


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_what_is_beyond_full_scale_is_clipped(suffix: str) -> None:
    samples = (4 * np.sin(2 * np.pi * 440 * SECOND))[None].astype(np.float32)
    read, _ = soundfile.read(io.BytesIO(encode(samples, RATE, suffix)))
    assert np.abs(read).max() < (1.001 if suffix in ("wav", "flac") else 1.5)
    assert np.abs(read[1000:-1000]).mean() > 0.8  # nearly a square


def test_minutes_of_vorbis_do_not_crash() -> None:
    """In a process of its own: libsndfile overflows its stack when they come in one block."""
    script = f"""
        import numpy as np
        from reprompt_gpu.audio import encode

        encode(np.zeros((2, {80 * RATE}), np.float32), {RATE}, "ogg")
    """
    assert subprocess.run([sys.executable, "-c", dedent(script)], check=False).returncode == 0


@pytest.mark.parametrize("name", ["a.aiff", "a", "a.wav.txt", "missing/a.wav", "folder.wav", "file/a.wav"])
def test_what_cannot_be_written_is_one_clear_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_text("not a folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AudioError, match="cannot be written") as failed:
        write(tmp_path / name, music(), RATE)
    assert "\n" not in str(failed.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_is_refused_before_there_is_a_sound(tmp_path: Path) -> None:
    check_path(tmp_path / "a.MP3")
    with pytest.raises(AudioError, match=r"must end in one of \.wav, \.flac, \.ogg, \.mp3"):
        check_path(tmp_path / "a.aiff")
    with pytest.raises(AudioError, match=r"there is no folder .*missing"):
        check_path(tmp_path / "missing" / "a.wav")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match=r"a\.wav cannot be written: it is a folder"):
        check_path(tmp_path / "a.wav")


def test_a_folder_that_one_may_not_write_in_is_refused_before_there_is_a_sound() -> None:
    script = """
        import os, tempfile
        from pathlib import Path
        from reprompt_gpu.audio import check_path
        from reprompt_gpu.errors import AudioError

        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o555)
            if os.getuid() == 0:  # who may everything
                os.setuid(65534)
            try:
                check_path(Path(folder) / "a.wav")
            except AudioError as e:
                print(e, flush=True)
            os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("may not be written in."), done.stdout + done.stderr


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, music(seconds=0.01), RATE)
    before = path.read_bytes()
    with _no_file_larger_than(5000), pytest.raises(AudioError, match=r"a\.wav cannot be written: File too large\."):
        write(path, music(), RATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("format", ["aiff", "", "wave", ".wav"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(AudioError, match="there are wav, flac, ogg, mp3"):
        encode(music(), RATE, format)


def test_mp3_has_some_rates_only() -> None:
    assert encode(music(seconds=0.1), 44100, "mp3")
    with pytest.raises(AudioError, match=r"MP3 has .*44100, 48000 Hz, not 96000 Hz"):
        encode(music(seconds=0.1), 96000, "mp3")


def test_a_rate_that_no_format_has_is_refused() -> None:
    with pytest.raises(AudioError, match="cannot be written as wav"):
        encode(music(seconds=0.1), 0, "wav")


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_no_sound_is_not_written(suffix: str) -> None:
    with pytest.raises(AudioError, match="no sound"):
        encode(np.zeros((1, 0), np.float32), RATE, suffix)


@pytest.mark.parametrize(
    "samples",
    [
        np.array([[0, np.nan]], np.float32),
        np.array([[0, np.inf]], np.float32),
        np.zeros(100, np.float32),
        np.zeros((100, 2), np.float32),
        np.zeros((0, 100), np.float32),
        np.zeros((1, 1, 100), np.float32),
        np.zeros((1, 100), np.int16),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, samples: Samples) -> None:
    for use in (
        lambda: finish(samples, RATE),
        lambda: measure(samples, RATE),
        lambda: encode(samples, RATE, "wav"),
        lambda: write(tmp_path / "a.wav", samples, RATE),
    ):
        with pytest.raises(AudioError, match=r"finite|1 or 2 channels"):
            use()
    assert not list(tmp_path.iterdir())
