"""Audio made ready to be heard, and written. Samples are float [channels, n] everywhere."""

import io
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyloudnorm
import soundfile

from .errors import AudioError

__all__ = ["FORMATS", "Samples", "check_path", "encode", "finish", "measure", "write"]

Samples = npt.NDArray[np.float32]
Gain = npt.NDArray[np.float64]

FORMATS: Mapping[str, str] = MappingProxyType(
    {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
)
"""What can be written, with libsndfile's name of the encoding."""

_BLOCK = 1 << 14  # samples a write: libsndfile lays each on the stack, which a minute of Vorbis overflows
_MP3_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_OVERSAMPLING = 4  # ITU-R BS.1770-5, annex 2
_FFT, _REACH = 1 << 15, 512  # of a block whose peaks are looked for, with what it overlaps at each side
_METER_S = 0.4  # the shortest that has a loudness: one block of the meter
_SILENCE = 10 ** (-70 / 20)  # a peak; the meter's gate is at -70 LUFS
_MOST_LIMITING_DB = 6.0  # beyond it the limiter is heard: such a piece stays quieter
_LOOK_AHEAD_S = 0.02  # long enough not to follow the waves of a bass
_ROUNDS = 5  # of making up the loudness that the limiter takes
_CLOSE_DB = 0.02


def finish(
    samples: Samples,
    sample_rate: int,
    *,
    loudness_lufs: float = -14.0,
    true_peak_db: float = -1.0,
    fade_s: float = 0.05,
) -> Samples:
    """A piece at the loudness of streaming services, without an abrupt end.

    Its end is faded; one gain brings it to the loudness; where its peaks are then too high, a look-ahead limiter lowers
    them, by 6 dB at most: a piece with higher peaks than that stays quieter. A piece too short to have a loudness is
    brought to the peak; silence (below -70 LUFS or dBTP) stays silence.

    Args:
        samples: [channels, n].
        sample_rate: in Hz.
        loudness_lufs: integrated loudness (ITU-R BS.1770) to reach.
        true_peak_db: highest true peak, in dBTP.
        fade_s: length of the fade.

    Raises:
        AudioError: the samples are not finite, or not [1 or 2 channels, n].
    """
    _check(samples)
    x = samples.astype(np.float32)
    n = min(x.shape[1], round(fade_s * sample_rate))
    if n:
        x[:, -n:] *= np.square(np.cos(np.linspace(0, np.pi / 2, n, dtype=np.float32)))
    lufs, peaks, limit = _loudness(x, sample_rate), _peaks(x), _factor(true_peak_db)
    highest = peaks.max(initial=np.float32(0))
    if highest < _SILENCE:
        return x
    if not math.isfinite(lufs):
        too_short = x.shape[1] < _METER_S * sample_rate
        return x * (limit / highest if too_short else min(np.float32(1), limit / highest))
    missing, gain, most = loudness_lufs - lufs, np.float32(1), limit / highest * _factor(_MOST_LIMITING_DB)
    y = x
    for _ in range(_ROUNDS):
        gain = min(gain * _factor(missing), most)
        y = _limit(gain * x, gain * peaks, sample_rate, limit)
        missing = loudness_lufs - _loudness(y, sample_rate)
        if missing < _CLOSE_DB or gain == most:
            break
    return y * min(np.float32(1), limit / _peaks(y).max())  # what the limiter let through: hundredths of a dB


def measure(samples: Samples, sample_rate: int) -> tuple[float, float]:
    """Loudness and peak.

    Returns:
        The integrated loudness in LUFS (ITU-R BS.1770), -inf for what is silent or shorter than 0.4 s; and the true
        peak in dBTP (four times oversampled), -inf for silence.

    Raises:
        AudioError: the samples are not finite, or not [1 or 2 channels, n].
    """
    _check(samples)
    peak = float(_peaks(samples).max(initial=0))
    return _loudness(samples, sample_rate), 20 * math.log10(peak) if peak else -math.inf


def write(path: Path, samples: Samples, sample_rate: int) -> None:
    """Writes a file whose suffix is one of `FORMATS`. It appears whole or not at all.

    Raises:
        AudioError: the suffix, the samples or the sample rate cannot be written, or the disk refuses.
    """
    content = encode(samples, sample_rate, path.suffix.removeprefix("."))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            beside.write_bytes(content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as e:
        raise AudioError(f"{path} cannot be written: {e.strerror or e}.") from e


def check_path(path: Path) -> None:
    """Refuses a path that cannot be written, before anything is made for it.

    Raises:
        AudioError: the suffix is none of `FORMATS`, or its folder is not there or not to be written in.
    """
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise AudioError(f"{path}: the file's name must end in one of .{', .'.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise AudioError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise AudioError(f"{path} cannot be written: it is a folder.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise AudioError(f"{path} cannot be written: the folder {path.parent} may not be written in.")


def encode(samples: Samples, sample_rate: int, format: str) -> bytes:
    """The content of a file.

    Args:
        samples: [channels, n]; what is beyond -1..1 is clipped.
        sample_rate: in Hz.
        format: one of `FORMATS`, in any case.

    Raises:
        AudioError: no such format, a sample rate that it does not have, or samples that are none.
    """
    _check(samples)
    format = format.lower()
    if format not in FORMATS:
        raise AudioError(f'Audio cannot be written as "{format}"; there are {", ".join(FORMATS)}.')
    if not samples.shape[1]:
        raise AudioError("There is no sound to write.")
    if format == "mp3" and sample_rate not in _MP3_RATES:
        rates = ", ".join(str(rate) for rate in sorted(_MP3_RATES))
        raise AudioError(f"MP3 has {rates} Hz, not {sample_rate} Hz.")
    clipped = np.ascontiguousarray(samples.T, dtype=np.float32).clip(-1, 1)
    content = io.BytesIO()
    try:
        with soundfile.SoundFile(
            content, "w", sample_rate, clipped.shape[1], format=format.upper(), subtype=FORMATS[format]
        ) as file:
            for start in range(0, len(clipped), _BLOCK):
                file.write(clipped[start : start + _BLOCK])
    except soundfile.SoundFileError as e:
        raise AudioError(f"The sound cannot be written as {format}: {e}") from e
    return content.getvalue()


def _check(samples: Samples) -> None:
    if samples.ndim != 2 or len(samples) not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"Audio is float [1 or 2 channels, n], not {samples.dtype} {list(samples.shape)}.")
    if not np.isfinite(samples).all():
        raise AudioError("The audio has samples that are not finite.")


def _factor(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def _loudness(samples: Samples, sample_rate: int) -> float:
    if samples.shape[1] < _METER_S * sample_rate:
        return -math.inf
    return float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples.T.astype(np.float64)))


def _peaks(samples: Samples) -> Samples:
    """[n] the highest magnitude from each sample to the next, over all channels.

    Interpolated by zeros in the spectrum, block by block: the filters of resamplers take away what is close to half the
    sample rate, and with it most of a decibel of a cymbal's peak.
    """
    n = samples.shape[1]
    highest = np.zeros(n, np.float32)
    padded = np.pad(samples.astype(np.float32), ((0, 0), (_REACH, _REACH + _FFT)))
    for start in range(0, n, _FFT - 2 * _REACH):
        spectrum = np.fft.rfft(padded[:, start : start + _FFT])
        spectrum[:, -1] /= 2  # it stands for both of its sides
        fine = _OVERSAMPLING * np.fft.irfft(spectrum, _OVERSAMPLING * _FFT)
        block = np.abs(fine).max(0).reshape(_FFT, _OVERSAMPLING).max(1)[_REACH:-_REACH]
        highest[start : start + len(block)] = block[: n - start]
    return highest


def _limit(samples: Samples, peaks: Samples, sample_rate: int, limit: np.float32) -> Samples:
    """The samples with peaks at the limit: a gain that goes down before each peak and up after it."""
    if peaks.max() <= limit:
        return samples
    # the mean of what is lowest around is low enough at each peak, as all that it is the mean of is
    width = 2 * round(_LOOK_AHEAD_S * sample_rate) + 1
    needed = (limit / np.maximum(peaks, limit)).astype(np.float64)
    return samples * _means(_lowest(needed, width), width).astype(np.float32)


def _lowest(values: Gain, width: int) -> Gain:
    """The lowest of the `width` values around each, by windows that double."""
    values = np.pad(values, width // 2, mode="edge")
    span = 1
    while 2 * span <= width:
        values = np.minimum(values[span:], values[:-span])
        span *= 2
    rest = width - span
    return np.minimum(values[rest:], values[: len(values) - rest])


def _means(values: Gain, width: int) -> Gain:
    """The mean of the `width` values around each."""
    sums = np.cumsum(np.pad(values, (width // 2 + 1, width // 2), mode="edge"))
    return (sums[width:] - sums[:-width]) / width
