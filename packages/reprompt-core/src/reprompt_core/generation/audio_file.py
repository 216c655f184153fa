"""Samples into audio files, whole or not at all."""

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import AudioError

__all__ = ["FORMATS", "check_audio_path", "encode_audio", "write_audio"]

FORMATS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3"}
"""Suffixes that can be written, with libsndfile's names of their formats."""

_CHUNK = 1 << 16  # frames: libsndfile's Vorbis encoder overruns its stack on very long writes


def write_audio(
    path: str | Path, samples: npt.NDArray[np.float32], sample_rate: int, format: str | None = None
) -> Path:
    """Writes samples [n] or [channels, n], within -1..1, as wav, flac, ogg (Vorbis) or mp3, and returns the path.

    The suffix of the path decides unless `format` is given. The file appears whole, in place of any before it; when
    writing fails, what was there stays and nothing else is left.

    Raises:
        AudioError: the format is unknown, the samples cannot be encoded, or the file cannot be written.
    """
    path = Path(path)
    suffix = _known_format(path, format)
    encoded = _encode(np.atleast_2d(samples), sample_rate, FORMATS[suffix])
    try:
        _replace(path, encoded)
    except OSError as e:
        raise AudioError(f"{path} cannot be written: {e.strerror or e}.") from e
    return path


def encode_audio(samples: npt.NDArray[np.float32], sample_rate: int, format: str) -> bytes:
    """The bytes of an audio file of samples [n] or [channels, n], within -1..1.

    Raises:
        AudioError: the format is unknown, or the samples cannot be encoded.
    """
    return _encode(np.atleast_2d(samples), sample_rate, FORMATS[_known_format(Path(f".{format}"), format)])


def check_audio_path(path: Path) -> None:
    """Says before any work is done that a path cannot be written: its suffix, its folder.

    Raises:
        AudioError: what is wrong with it.
    """
    _known_format(path, None)
    if not path.parent.is_dir():
        raise AudioError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise AudioError(f"{path} cannot be written: it is a folder.")


def _known_format(path: Path, format: str | None) -> str:
    suffix = (format or path.suffix).removeprefix(".").lower()
    if suffix not in FORMATS:
        raise AudioError(
            f"{path.name}: audio is written as {', '.join(FORMATS)}, not {suffix or 'without a suffix'!r}."
        )
    return suffix


def _encode(samples: npt.NDArray[np.float32], sample_rate: int, name: str) -> bytes:
    """The file's bytes, in memory: there libsndfile has no disk to fill, and its errors are about the samples."""
    import soundfile

    buffer = io.BytesIO()
    frames = np.ascontiguousarray(samples.T)  # [n, channels]
    try:
        with soundfile.SoundFile(buffer, "w", sample_rate, frames.shape[1], format=name) as f:
            for start in range(0, len(frames), _CHUNK):
                f.write(frames[start : start + _CHUNK])
    except (soundfile.LibsndfileError, TypeError, ValueError) as e:
        raise AudioError(f"The samples cannot be encoded as {name}: {e}") from e
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Writes beside the path, then renames."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(beside).unlink()
