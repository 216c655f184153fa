"""Sounds for tests: written as files, a little like music, never silent."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 48_000


def tune(seconds: float, *, seed: int = 0, rate: int = RATE) -> npt.NDArray[np.float32]:
    """Decaying tones of random pitch, four a second: [n]."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    pitch = rng.choice([220, 277, 330, 440, 554, 660], size=int(seconds * 4) + 1)[(t * 4).astype(int)]
    return (0.4 * np.sin(2 * np.pi * pitch * t) * np.exp(-6 * (t * 4 % 1) / 4)).astype(np.float32)


def write(path: Path, samples: npt.NDArray[Any], *, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path
