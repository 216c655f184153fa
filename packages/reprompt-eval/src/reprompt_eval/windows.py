"""A file's sound as the windows that CLAP hears: the same ones every time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import AudioFileError

__all__ = ["RATE", "WINDOW", "Sound", "read_sound", "windows_of"]

RATE = 48_000  # Hz
WINDOW = 480_000  # samples of a window: 10 s
_HOP = 240_000
_SHORTEST_S = 0.5  # less, repeated to 10 s, is a buzz and not music
_SILENCE = 1e-4  # peak, -80 dBFS
_CLIPPED = 0.001  # share of samples at full scale from which a file counts as clipped
_CHUNK = 1 << 20

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A file as mono samples at 48 kHz."""

    samples: Samples  # [n]
    seconds: float
    warnings: tuple[str, ...] = ()


def read_sound(path: str | Path) -> Sound:
    """A file of any rate and number of channels, mixed to mono (mean) and resampled to 48 kHz (soxr, high quality).

    Raises:
        AudioFileError: it is missing, no audio, cut off, silent, not finite, or shorter than half a second.
    """
    import soundfile
    import soxr

    path = Path(path)
    if not path.is_file():
        raise AudioFileError(f"{path.name} is not there.")
    try:
        with soundfile.SoundFile(path) as f:
            told, rate = f.frames, f.samplerate
            # channel by channel sums would need the whole file at once
            parts = [block.mean(1) for block in f.blocks(_CHUNK, dtype="float32", always_2d=True)]
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as e:
        raise AudioFileError(f"{path.name} cannot be read as audio: {e}") from e
    mono = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if _is_cut_off(path, told, len(mono)):
        raise AudioFileError(f"{path.name} is cut off: its header tells of more than the file holds.")
    if not np.isfinite(mono).all():
        raise AudioFileError(f"{path.name} holds samples that are not finite.")
    seconds = len(mono) / rate
    if seconds < _SHORTEST_S:
        raise AudioFileError(f"{path.name} lasts {seconds:.2f} s: at least {_SHORTEST_S:g} s are needed.")
    peak = float(np.abs(mono).max())
    if peak < _SILENCE:
        raise AudioFileError(f"{path.name} is silent.")
    warnings = ["clipped"] if float((np.abs(mono) >= 0.9999).mean()) > _CLIPPED else []
    samples = mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ").astype(np.float32)
    return Sound(np.ascontiguousarray(samples), seconds, tuple(warnings))


def windows_of(samples: Samples) -> Samples:
    """[windows, 480000]: every 5 s one of 10 s, the last one up to the end; a shorter sound is repeated, then zeros.

    Samples are quantised to 16 bits, as laion_clap does with files (its hook.py).
    """
    quantised = (np.clip(samples, -1, 1) * 32767.0).astype(np.int16).astype(np.float32) / np.float32(32767.0)
    if len(quantised) <= WINDOW:
        filled = np.zeros((1, WINDOW), np.float32)
        times = WINDOW // len(quantised)
        filled[0, : times * len(quantised)] = np.tile(quantised, times)
        return filled
    starts = list(range(0, len(quantised) - WINDOW + 1, _HOP))
    if starts[-1] + WINDOW < len(quantised):
        starts.append(len(quantised) - WINDOW)
    return np.stack([quantised[s : s + WINDOW] for s in starts])


def _is_cut_off(path: Path, told: int, found: int) -> bool:
    """Fewer frames or bytes than the header says: libsndfile corrects a WAV's by its size and fills up an MP3."""
    if found < told:
        return True
    with path.open("rb") as f:
        head = f.read(4096)
    size = path.stat().st_size
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        claimed = int.from_bytes(head[4:8], "little")
        return 0 < claimed < 0xFFFFFFFF and size < claimed + 8 - 1  # the pad byte may be missing
    for tag in (b"Xing", b"Info"):  # of an MP3: flags, then the numbers of frames and bytes that they announce
        at = head.find(tag)
        if at >= 0 and (flags := int.from_bytes(head[at + 4 : at + 8], "big")) & 2:
            place = at + 8 + (4 if flags & 1 else 0)
            return size < int.from_bytes(head[place : place + 4], "big")
    return False
