"""From a Score to samples: the General MIDI synthesizer, a mix by parts, a room, a fade.

symusic 0.5 plays every note at one strength and ignores control changes: what has another velocity is played apart
and mixed by its gain here, and the balance of the parts is made from what they measure.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import AudioError
from .loudness import fast_length

if TYPE_CHECKING:
    from symusic.core import ScoreTick, Synthesizer, TrackTick

    from ..types import MusicPlan

__all__ = ["SAMPLE_RATE", "finish", "mix", "soundfont"]

SAMPLE_RATE = 32_000
_QUALITY = 2  # of the interpolation; 3 and 4 take two and four times as long and sound the same

# level in dB of a part while it plays, and its place from -1 (left) to 1
_MIX = {"lead": (-1.0, 0.1), "chords": (-5.0, -0.25), "bass": (-2.0, 0.0), "pad": (-9.0, 0.35), "drums": (-2.0, 0.0)}
_LEVEL = 0.1  # RMS of a part at 0 dB and full velocity
_ACTIVE_S = 0.05

# dB above 2 kHz, and how far away: what a timbre does to the whole
_TILT = {
    "bright": 3, "crisp": 2, "shimmering": 2, "glassy": 2, "sparkling": 3, "sharp": 3, "piercing": 4, "metallic": 3,
    "warm": -2, "dark": -4, "soft": -2, "mellow": -3, "muffled": -8, "lo-fi": -4, "velvety": -3, "deep": -3,
    "round": -2,
}  # fmt: skip
_DISTANCE = {"reverberant": 2.0, "spacious": 1.8, "airy": 1.5, "echoing": 1.8, "dry": 0.0, "intimate": 0.5}
_DYNAMICS_TILT = {"soft": -3, "moderate": 0, "loud": 2}  # who plays louder plays brighter
_ROOM_S, _ROOM_LEVEL = 0.7, 0.16


def soundfont() -> Path:
    """The General MIDI SoundFont that pretty-midi carries; the package itself is not imported.

    Raises:
        AudioError: it is not there.
    """
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin).parent / "TimGM6mb.sf2" if found and found.origin else None
    if path is None or not path.is_file():
        raise AudioError("The preview needs the SoundFont of pretty-midi; install pretty-midi.")
    return path


def mix(score: "ScoreTick", *, seconds: float) -> npt.NDArray[np.float32]:
    """The Score played: float32 [2, seconds * 32000], parts balanced, velocities heard, nothing normalised."""
    from symusic.core import Synthesizer

    synthesizer = Synthesizer(str(soundfont()), SAMPLE_RATE, _QUALITY)
    n = round(seconds * SAMPLE_RATE)
    mixed = np.zeros((2, n), np.float32)
    for track in score.tracks:
        level, place = _MIX[track.name]
        layers = list(_layers(synthesizer, score, track, n))
        if not layers:
            continue
        full = np.zeros((2, n), np.float32)
        for _, samples in layers:
            full += samples
        scale = _LEVEL * 10 ** (level / 20) / max(_active_rms(full), 1e-6)
        sides = np.array([[np.cos((1 + place) * np.pi / 4)], [np.sin((1 + place) * np.pi / 4)]]) * np.sqrt(2)
        for velocity, samples in layers:
            mixed += samples * (sides * scale * (velocity / 127) ** 2).astype(np.float32)
    return mixed


def _layers(
    synthesizer: "Synthesizer", score: "ScoreTick", track: "TrackTick", n: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(velocity, float32 [2, n]) for each velocity of a track."""
    from symusic.core import ScoreTick, TrackTick

    for velocity in sorted({note.velocity for note in track.notes}):
        alone = ScoreTick(score.ticks_per_quarter)
        alone.tempos = score.tempos
        part = TrackTick(track.name, track.program, track.is_drum)
        for note in track.notes:
            if note.velocity == velocity:
                part.notes.append(note)
        alone.tracks.append(part)
        played = synthesizer.render(alone, True)[:, :n]
        samples = np.zeros((2, n), np.float32)
        samples[:, : played.shape[1]] = played
        yield velocity, samples


def _active_rms(samples: npt.NDArray[np.float32]) -> float:
    """RMS over the 50 ms blocks that lie within 20 dB of the loudest: short notes weigh as much as long ones."""
    block = round(_ACTIVE_S * SAMPLE_RATE)
    n = samples.shape[1] // block * block
    if not n:
        return float(np.sqrt(np.square(samples).mean()))
    power = np.square(samples[:, :n]).mean(0).reshape(-1, block).mean(1)
    return float(np.sqrt(power[power >= 0.01 * power.max()].mean()))


def finish(samples: npt.NDArray[np.float32], plan: "MusicPlan", *, fade_s: float) -> npt.NDArray[np.float32]:
    """The mix [2, n] in its room, coloured by the plan's timbres and dynamics, fading out over the last `fade_s`."""
    n = samples.shape[1]
    tilt = _DYNAMICS_TILT[plan.dynamics] + sum(_TILT.get(t, 0) for t in plan.timbres)
    distance = max([_DISTANCE.get(t, 1.0) for t in plan.timbres], key=lambda d: abs(d - 1), default=1.0)
    size = fast_length(n + round(_ROOM_S * SAMPLE_RATE))
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    shelf = 10 ** (max(-9, min(7, tilt)) / 20 / (1 + (2000 / np.maximum(frequencies, 1)) ** 2))
    # nothing close to half the sample rate, where codecs and resamplers ring
    shelf *= 0.5 + 0.5 * np.cos(np.pi * np.clip((frequencies - 13_500) / 1_500, 0, 1))
    wet = _ROOM_LEVEL * distance * (0.5 if plan.articulation == "staccato" else 1)
    response = shelf.astype(np.float32) * (1 + np.float32(wet) * np.fft.rfft(_room(), size))
    played = np.fft.irfft(np.fft.rfft(samples, size) * response, size)[:, :n]
    return played.astype(np.float32, copy=False) * _fade(n, fade_s)


def _room() -> npt.NDArray[np.float32]:
    """The answer of a small room [2, m]: decaying noise, of unit energy in each channel, 12 ms after the sound."""
    m, before = round(_ROOM_S * SAMPLE_RATE), round(0.012 * SAMPLE_RATE)
    noise = np.random.default_rng(0).standard_normal((2, m)) * np.exp(-np.arange(m) / SAMPLE_RATE / 0.12)
    noise[:, :before] = 0
    return (noise / np.sqrt(np.square(noise).sum(1, keepdims=True))).astype(np.float32)


def _fade(n: int, fade_s: float) -> npt.NDArray[np.float32]:
    """One, then a half cosine to zero, then 60 ms of silence."""
    gain = np.ones(n, np.float32)
    silent = min(n // 4, round(0.06 * SAMPLE_RATE))
    fading = min(n - silent, round(fade_s * SAMPLE_RATE))
    gain[n - silent - fading : n - silent] = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fading))
    gain[n - silent :] = 0
    return gain
