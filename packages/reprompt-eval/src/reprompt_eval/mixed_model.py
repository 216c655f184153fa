"""A mixed model over every seed, as a check on the paired differences of the prompts' means."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .paired import Interval

__all__ = ["MixedModel", "fit"]


@dataclass(frozen=True, slots=True)
class MixedModel:
    """score ~ arm, with a random intercept for each prompt; with several seeds, also a random effect of the arm.

    Without the latter the seeds of a prompt would count as so many prompts.
    """

    n: int  # prompts
    rows: int  # scores
    difference: float | None  # the fixed effect of the arm; None: it could not be fitted
    ci: Interval | None  # Wald
    p: float | None
    converged: bool
    arm_varies: bool  # the effect of the arm differs from prompt to prompt
    notes: tuple[str, ...]  # what the fit complained of


def fit(pairs: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> MixedModel:
    """Fits by REML with statsmodels.

    Args:
        pairs: a prompt, the scores of its seeds in the first arm, and those in the second.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    score = np.array([v for _, first, second in pairs for v in (*first, *second)])
    arm = np.array([a for _, first, second in pairs for a in (*[-0.5] * len(first), *[0.5] * len(second))])
    group = np.array([p for p, first, second in pairs for _ in (*first, *second)])
    several = sum(len(first) > 1 for _, first, _ in pairs) > 1
    design = np.column_stack([np.ones_like(arm), arm])
    if len(pairs) < 3 or np.ptp(score) == 0:
        why = "fewer than 3 prompts" if len(pairs) < 3 else "all scores are the same"
        return MixedModel(len(pairs), len(score), None, None, None, False, several, (f"not fitted: {why}",))
    # to unit variance: the optimizer starts from it, and its tolerances are absolute
    scale = float(score.std())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = MixedLM(score / scale, design, groups=group, exog_re=design if several else design[:, :1])
            fitted: Any = model.fit(reml=True)
            effect, error, p = (float(v[1]) for v in (fitted.fe_params, fitted.bse_fe, fitted.pvalues))
            low, high = (float(v) for v in fitted.conf_int()[1])
            converged = bool(fitted.converged)
        except (np.linalg.LinAlgError, ValueError) as e:
            note = f"not fitted: {str(e).splitlines()[0]}"
            return MixedModel(len(pairs), len(score), None, None, None, False, several, (note,))
    notes = list(dict.fromkeys(str(w.message).splitlines()[0] for w in caught))
    if not converged:
        notes.insert(0, "it did not converge: its figures are not to be relied on")
    if not all(math.isfinite(v) for v in (effect, error, low, high, p)):
        notes.insert(0, "not fitted: no standard error could be computed")
        return MixedModel(len(pairs), len(score), None, None, None, False, several, tuple(notes))
    ci = Interval(low * scale, high * scale, "Wald")
    return MixedModel(len(pairs), len(score), effect * scale, ci, p, converged, several, tuple(notes))
