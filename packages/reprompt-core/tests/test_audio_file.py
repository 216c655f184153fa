"""Audio files: what is written can be read back; what cannot be written leaves nothing."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from reprompt_core.errors import AudioError
from reprompt_core.generation import FORMATS, SAMPLE_RATE, write_audio

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def chord() -> Samples:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    return np.stack([0.5 * np.sin(2 * np.pi * f * t) for f in (440, 660)]).astype(np.float32)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_can_be_read_back(tmp_path: Path, chord: Samples, suffix: str, channels: int) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", chord[0] if channels == 1 else chord, SAMPLE_RATE)
    read, rate = soundfile.read(path, always_2d=True)
    assert rate == SAMPLE_RATE
    assert soundfile.info(path).format == {"mp3": "MP3"}.get(suffix, suffix.upper())
    assert read.shape[1] == channels
    assert len(read) == pytest.approx(SAMPLE_RATE, abs=2500)  # mp3 pads
    peaks = np.argmax(np.abs(np.fft.rfft(read, axis=0)), axis=0) * rate / len(read)
    assert peaks == pytest.approx([440, 660][:channels], abs=3)
    assert list(tmp_path.iterdir()) == [path]


def test_a_format_that_is_given_beats_the_suffix(tmp_path: Path, chord: Samples) -> None:
    path = write_audio(tmp_path / "a.bin", chord, SAMPLE_RATE, "FLAC")
    assert soundfile.info(path).format == "FLAC"


@pytest.mark.parametrize("name", ["a.aiff", "a", "a.wav.txt", "missing/a.wav", "folder.wav", "file/a.wav"])
def test_what_cannot_be_written_is_one_clear_line_and_leaves_nothing(tmp_path: Path, chord: Samples, name: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_text("not a folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AudioError) as failed:
        write_audio(tmp_path / name, chord, SAMPLE_RATE)
    assert Path(name).name in str(failed.value)
    assert "\n" not in str(failed.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, chord: Samples) -> None:
    path = write_audio(tmp_path / "a.wav", chord[:, :100], SAMPLE_RATE)
    before = path.read_bytes()
    with _no_file_larger_than(1000), pytest.raises(AudioError, match=r"a\.wav cannot be written"):
        write_audio(path, chord, SAMPLE_RATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("samples", [np.zeros((2, 10), object), np.zeros((3000, 10), np.float32)])
def test_samples_that_no_file_can_hold_are_refused(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(AudioError, match="cannot be encoded"):
        write_audio(tmp_path / "a.wav", samples, SAMPLE_RATE)
    assert not list(tmp_path.iterdir())


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    """Writes beyond the size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
