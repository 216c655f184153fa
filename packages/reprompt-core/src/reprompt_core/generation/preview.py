"""The preview: a MusicPlan played by a synthesizer on the CPU. Not a generated recording; it never passes for one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..errors import AudioError
from ..types import MusicPlan
from .compose import compose
from .loudness import normalise
from .synthesis import SAMPLE_RATE, finish, mix

if TYPE_CHECKING:
    from ..knowledge import Knowledge

__all__ = ["SAMPLE_RATE", "Preview", "render_preview"]

MIN_SECONDS, MAX_SECONDS = 1, 300
_MIN_BPM, _MAX_BPM = 20, 400


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The sound of a plan, with what was measured of it."""

    samples: npt.NDArray[np.float32]  # [2, n], within -1..1
    sample_rate: int  # Hz
    seconds: float
    plan: MusicPlan
    seed: int
    loudness_lufs: float  # integrated, ITU-R BS.1770
    true_peak_dbtp: float
    source: Literal["preview"] = "preview"


def render_preview(plan: MusicPlan, *, seconds: float = 15, seed: int = 0, knowledge: "Knowledge") -> Preview:
    """The plan as sound at -14 LUFS with true peaks under -1 dBTP: exactly `seconds`, stereo, 32 kHz.

    The same plan, seconds and seed give the same samples.

    Raises:
        AudioError: `seconds` is not from 1 to 300, the tempo is none that can be played, or the SoundFont is missing.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise AudioError(f"A preview lasts from {MIN_SECONDS} to {MAX_SECONDS} seconds, not {seconds:g}.")
    raw = render_raw(plan, seconds=seconds, seed=seed, knowledge=knowledge)
    samples, lufs, peak = normalise(raw, SAMPLE_RATE)
    return Preview(np.ascontiguousarray(samples), SAMPLE_RATE, seconds, plan, seed, lufs, peak)


def render_raw(plan: MusicPlan, *, seconds: float, seed: int, knowledge: "Knowledge") -> npt.NDArray[np.float32]:
    """The plan as sound before its loudness is made even: float32 [2, n]; soft plans are softer than loud ones."""
    if not _MIN_BPM <= plan.tempo_bpm <= _MAX_BPM:
        raise AudioError(f"A preview plays {_MIN_BPM} to {_MAX_BPM} BPM, not {plan.tempo_bpm}.")
    score = compose(plan, seconds=seconds, seed=seed, knowledge=knowledge)
    return finish(mix(score, seconds=seconds), plan, fade_s=min(1.2, 0.3 * seconds))
