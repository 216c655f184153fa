"""Measures of sounds, to be held against the plan that they were made from. `text.DEFINITIONS` says what they are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..windows import read_sound

__all__ = ["SoundMeasures", "agrees_in_tempo", "measure_sound", "roughness"]

RATE = 22_050  # Hz; the measures look at what lies below 8 kHz
_LEVELS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_TOLERANCE = 0.04
_FALL_DB = 10.0
_PARTIALS = 20
_UNHEARD = 1e-5  # peak, -100 dBFS: what resampling leaves of a sound above 11 kHz
_LOWEST_NOTE, _NOTES = 36, 73  # C2 to C8

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SoundMeasures:
    """Of one file."""

    tempo_bpm: float
    register: float  # MIDI note number; NaN: nothing sounds between C2 and C8
    roughness: float  # 0 and up; only comparisons mean something
    detachment: float  # 0..1
    loudness_range: float  # LU; NaN: up to 4 s, or too quiet
    warnings: tuple[str, ...] = ()  # of the file: clipped


def measure_sound(path: str | Path) -> SoundMeasures:
    """Of a file.

    Raises:
        AudioFileError: it cannot be used.
    """
    import librosa
    import soxr
    from pyloudnorm import Meter

    sound = read_sound(path)
    y: Samples = soxr.resample(sound.samples, 48_000, RATE, quality="HQ").astype(np.float32)
    envelope = librosa.onset.onset_strength(y=y, sr=RATE)
    tempo = float(np.atleast_1d(librosa.feature.tempo(onset_envelope=envelope, sr=RATE, max_tempo=260.0))[0])
    meter = Meter(48_000)
    spread = float(meter.loudness_range(sound.samples)) if sound.seconds > 4 else float("nan")
    values = (tempo, _register(y), roughness(y, RATE), _detachment(y, envelope), spread)
    return SoundMeasures(*values, warnings=sound.warnings)


def agrees_in_tempo(measured: float, planned: float) -> bool:
    """Within 4 % of the planned tempo at some metrical level."""
    return any(abs(measured / (planned * level) - 1) <= _TOLERANCE for level in _LEVELS)


def _register(y: Samples) -> float:
    import librosa

    if np.abs(y).max() < _UNHEARD:
        return float("nan")
    lowest = librosa.midi_to_hz(_LOWEST_NOTE)
    spectrum = np.abs(librosa.cqt(y, sr=RATE, fmin=lowest, n_bins=_NOTES))
    notes = np.arange(_LOWEST_NOTE, _LOWEST_NOTE + _NOTES)
    heard = 10 ** (librosa.A_weighting(librosa.midi_to_hz(notes)) / 20)  # a bass has more energy than it is heard
    loudness = (spectrum * heard[:, None]).sum(1)
    return float((loudness * notes).sum() / loudness.sum())


def roughness(y: Samples, rate: int) -> float:
    """Sensory dissonance between the strongest partials of each frame (Sethares 1993), averaged by energy.

    Args:
        y: [n] mono.
        rate: Hz.
    """
    import librosa

    spectrum = np.abs(librosa.stft(y, n_fft=4096, hop_length=2048))[: int(8000 * 4096 / rate)]  # [bins, frames]
    inner = spectrum[1:-1]
    peaks = np.where((inner > spectrum[:-2]) & (inner >= spectrum[2:]), inner, 0)
    strongest = np.argsort(peaks, axis=0)[-_PARTIALS:]  # [20, frames]
    amplitude = np.take_along_axis(peaks, strongest, 0)
    frequency = (strongest + 1) * rate / 4096
    low = np.minimum(frequency[:, None], frequency[None])
    gap = np.abs(frequency[:, None] - frequency[None]) * 0.24 / (0.0207 * low + 18.96)
    pairs = amplitude[:, None] * amplitude[None] * (np.exp(-3.51 * gap) - np.exp(-5.75 * gap))
    power = (amplitude**2).sum(0)
    return float(pairs.sum() / 2 / max(float(power.sum()), 1e-12))


def _detachment(y: Samples, envelope: npt.NDArray[np.floating]) -> float:
    import librosa

    level = librosa.amplitude_to_db(librosa.feature.rms(y=y, frame_length=1024, hop_length=512)[0], ref=1.0, amin=1e-4)
    onsets = [s for s in librosa.onset.onset_detect(onset_envelope=envelope, sr=RATE) if _starts_a_note(level, int(s))]
    if len(onsets) < 2:
        return 0.0
    fallen = counted = 0
    for start, end in zip(onsets, [*onsets[1:], len(level)], strict=True):
        part = level[start:end]
        if len(part):
            fallen += int((part < np.maximum.accumulate(part) - _FALL_DB).sum())
            counted += len(part)
    return fallen / max(counted, 1)


def _starts_a_note(level: npt.NDArray[np.floating], onset: int) -> bool:
    """The end of a note that is cut off sounds in all bands, as an onset does; but the level falls there."""
    before, after = level[max(0, onset - 4) : max(1, onset - 1)], level[onset + 2 : onset + 5]
    return len(after) > 0 and bool(after.max() >= before.max() - _FALL_DB)
