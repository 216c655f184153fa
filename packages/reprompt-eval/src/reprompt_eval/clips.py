"""Audio of a run as data URIs for a page that is one file."""

import base64
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .run_folder import Audio

__all__ = ["BUDGET", "Clip", "embed"]

BUDGET = 15_000_000
"""Characters that the audio of one page may take."""

_TYPES = {"OGG": "audio/ogg", "MP3": "audio/mpeg"}
_SMALL = 1_000_000  # bytes up to which a compressed file is taken as it is
_LARGEST = 200_000_000  # bytes that are read
_SECONDS = 60  # of what is compressed here


@dataclass(frozen=True, slots=True)
class Clip:
    """An audio that can be played, or why it cannot."""

    uri: str
    note: str  # why there is none, or what was done to it


def embed(wanted: Iterable[Audio], folder: Path, *, budget: int = BUDGET) -> dict[str, Clip]:
    """Key of the audio -> clip, in the order given until the budget is used up.

    Small Ogg and MP3 files are taken as they are; others become MP3, of their first minute. A file is not taken when
    it lies outside the folder, is not there, or is another than the manifest says (SHA-256): its clip says so.
    """
    clips: dict[str, Clip] = {}
    left = budget
    for audio in wanted:
        if audio.key in clips:
            continue
        try:
            kind, content, note = _playable(audio, folder)
        except _Unplayable as e:
            clips[audio.key] = Clip("", str(e))
            continue
        uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        if len(uri) > left:
            clips[audio.key] = Clip("", f"left out: the audio of a page is kept under {budget // 1_000_000} MB")
            continue
        left -= len(uri)
        clips[audio.key] = Clip(uri, note)
    return clips


class _Unplayable(Exception):
    """It cannot be played; the message says why."""


def _playable(audio: Audio, folder: Path) -> tuple[str, bytes, str]:
    """Its type, its bytes, and what was done to it."""
    if audio.error:
        raise _Unplayable(f"none was made: {audio.error}")
    path = (folder / audio.path).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise _Unplayable("it lies outside the run's folder")
    try:
        if path.stat().st_size > _LARGEST:
            raise _Unplayable("it is over 200 MB")
        content = path.read_bytes()
    except FileNotFoundError as e:
        raise _Unplayable("the file is not there") from e
    except (OSError, ValueError) as e:
        raise _Unplayable("the file cannot be read") from e
    if audio.sha256 and hashlib.sha256(content).hexdigest() != audio.sha256.lower():
        raise _Unplayable("the file is another than the one that was scored (SHA-256)")
    return _compressed(content)


def _compressed(content: bytes) -> tuple[str, bytes, str]:
    import soundfile
    from reprompt_core.errors import AudioError
    from reprompt_core.generation import encode_audio

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if sound.format in _TYPES and len(content) <= _SMALL:
                return _TYPES[sound.format], content, ""
            rate, length = sound.samplerate, sound.frames / sound.samplerate
            samples: npt.NDArray[Any] = sound.read(_SECONDS * rate, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, ValueError, ZeroDivisionError, MemoryError) as e:
        raise _Unplayable("it is no audio file that can be read") from e
    if samples.shape[1] > 2:
        samples = samples.mean(axis=1, keepdims=True)
    played: npt.NDArray[np.float32] = np.clip(np.nan_to_num(samples), -1, 1)
    try:
        encoded = encode_audio(played.T, rate, "mp3")
    except AudioError as e:
        raise _Unplayable(f"MP3 has no rate of {rate} Hz" if rate > 48_000 else "it cannot be compressed") from e
    return "audio/mpeg", encoded, f"the first {_SECONDS} s of {length:.0f}" if length > _SECONDS else ""
