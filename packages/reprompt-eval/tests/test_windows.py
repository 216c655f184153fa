"""Files to windows: the same ones every time, and a reason for each file that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from reprompt_eval.errors import AudioFileError
from reprompt_eval.windows import RATE, WINDOW, read_sound, windows_of
from sounds import tune, write


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        (10, [0]),
        (10.5, [0, 0.5]),
        (15, [0, 5]),
        (30, [0, 5, 10, 15, 20]),
        (32, [0, 5, 10, 15, 20, 22]),
    ],
)
def test_windows_cover_the_whole_file(seconds: float, starts: list[float]) -> None:
    samples = np.linspace(-0.9, 0.9, round(seconds * RATE), dtype=np.float32)
    windows = windows_of(samples)
    assert windows.shape == (len(starts), WINDOW)
    for window, start in zip(windows, starts, strict=True):
        part = samples[round(start * RATE) :][:WINDOW]
        assert np.abs(window - part).max() <= 1 / 32767


def test_a_short_sound_is_repeated_whole_and_then_filled_with_zeros() -> None:
    samples = tune(3)
    (window,) = windows_of(samples)
    for i in range(3):
        assert np.abs(window[i * len(samples) : (i + 1) * len(samples)] - samples).max() <= 1 / 32767
    assert not window[3 * len(samples) :].any()


def test_samples_are_quantised_as_the_reference_does() -> None:
    samples = np.array([0.3, -1.7, 1.2, 1e-6], np.float32)
    reference = (np.clip(samples, -1, 1) * 32767.0).astype(np.int16)
    (window,) = windows_of(np.tile(samples, WINDOW // 4))
    assert (window[:4] == (reference / 32767.0).astype(np.float32)).all()


@pytest.mark.parametrize(("rate", "channels"), [(192_000, 1), (8_000, 2), (44_100, 8)])
def test_any_rate_and_number_of_channels_becomes_mono_at_48_khz(tmp_path: Path, rate: int, channels: int) -> None:
    one = tune(2, rate=rate)
    sound = read_sound(write(tmp_path / "x.wav", np.stack([one] * channels, 1), rate=rate))
    assert len(sound.samples) == 2 * RATE
    assert sound.seconds == pytest.approx(2)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    strongest = np.argmax(spectrum) / 2
    assert min(abs(strongest - pitch) for pitch in (220, 277, 330, 440, 554, 660)) < 3


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left = tune(1)
    sound = read_sound(write(tmp_path / "x.wav", np.stack([left, 0 * left], 1), subtype="FLOAT"))
    assert np.allclose(sound.samples, left / 2, atol=1e-6)


def test_a_clipped_file_is_read_with_a_warning(tmp_path: Path) -> None:
    sound = read_sound(write(tmp_path / "x.wav", np.clip(tune(1) * 9, -1, 1)))
    assert sound.warnings == ("clipped",)
    assert read_sound(write(tmp_path / "y.wav", tune(1))).warnings == ()


def _broken(kind: str, path: Path) -> Path:
    whole = tune(2)
    if kind == "missing":
        return path
    if kind == "silent":
        return write(path, 0 * whole)
    if kind == "short":
        return write(path, whole[: RATE // 10])
    if kind == "empty":
        return write(path, whole[:0])
    if kind == "nan":
        return write(path, np.where(np.arange(len(whole)) == 99, np.nan, whole), subtype="FLOAT")
    if kind == "text":
        path.write_text("this is no sound")
        return path
    write(path, whole)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "is not there"),
        ("silent", "is silent"),
        ("short", "lasts 0.10 s"),
        ("empty", "lasts 0.00 s"),
        ("nan", "not finite"),
        ("text", "cannot be read as audio"),
        ("truncated", "is cut off"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(AudioFileError, match=said):
        read_sound(_broken(kind, tmp_path / "x.wav"))


@pytest.mark.parametrize("format", ["flac", "ogg", "mp3"])
def test_a_compressed_file_that_is_cut_off_is_not_scored_as_if_whole(tmp_path: Path, format: str) -> None:
    import soundfile

    path = tmp_path / f"x.{format}"
    soundfile.write(path, tune(4), RATE)
    whole = len(read_sound(path).samples)
    assert whole == pytest.approx(4 * RATE, abs=RATE // 10)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(AudioFileError):
        read_sound(path)
