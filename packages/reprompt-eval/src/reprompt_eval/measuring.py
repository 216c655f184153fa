"""The measures of a run that need no checkpoint: means of each arm with intervals, and how sounds follow plans."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AudioFileError
from .measures import DEFINITIONS, SoundMeasures, distinct, mattr, measure_sound, measure_texts
from .measures.sound import agrees_in_tempo

if TYPE_CHECKING:
    from reprompt_core.encoder import TextEncoder
    from reprompt_core.knowledge import Knowledge

__all__ = ["measure_run"]

_SOUND = ("register", "roughness", "detachment", "loudness_range")
# what a plan says, from less to more, and the measure that should follow it
_ORDERED = {
    "register": ("register", ("low", "mid", "high")),
    "articulation": ("detachment", ("legato", "mixed", "staccato")),
    "harmony": ("roughness", ("consonant", "mixed", "dissonant")),
}


def measure_run(
    prompts: Sequence[Mapping[str, Any]],
    audio: Mapping[tuple[str, str, int], Path],
    arms: Sequence[str],
    *,
    encoder: "TextEncoder",
    knowledge: "Knowledge",
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Everything, as JSON.

    Args:
        prompts: rows of prompts.jsonl, with the plans of their arms.
        audio: files by (prompt, arm, seed).
        arms: in the order of the plan.
        encoder, knowledge: of an open pipeline.
        progress: told how many files are measured, of how many.
    """
    rows: list[dict[str, Any]] = []
    for arm in arms:
        there = [row for row in prompts if arm in row["prompts"]]  # a model may have written none
        texts = [row["prompts"][arm] for row in there]
        found = measure_texts([row["words"] for row in there], texts, encoder=encoder, knowledge=knowledge)
        rows.append(_mean("meaning_kept", arm, [m.meaning_kept for m in found]))
        rows.append(_mean("music_share", arm, [m.music_share for m in found]))
        for name, value in (("mattr", mattr(texts)), ("distinct_2", distinct(texts))):
            rows.append(
                {"measure": name, "arm": arm, "n": len(texts), "mean": _finite(value), "low": None, "high": None}
            )
    sounds: dict[tuple[str, str, int], SoundMeasures] = {}
    failed: list[dict[str, str]] = []
    warned: list[dict[str, str]] = []
    for number, (key, path) in enumerate(sorted(audio.items())):
        try:
            sounds[key] = sound = measure_sound(path)
            warned += [{"file": path.name, "reason": told} for told in sound.warnings]
        except AudioFileError as e:
            failed.append({"file": path.name, "reason": str(e)})
        progress(number + 1, len(audio))
    plans = {(row["id"], arm): row.get("_plans", {}).get(arm) for row in prompts for arm in arms}
    for arm in arms:
        rows += _of_sounds(arm, {k: s for k, s in sounds.items() if k[1] == arm}, plans)
    return {"measures": rows, "definitions": DEFINITIONS, "left_out": failed, "warned": warned}


def _of_sounds(
    arm: str, sounds: Mapping[tuple[str, str, int], SoundMeasures], plans: Mapping[tuple[str, str], Any]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in _SOUND:
        by_prompt: defaultdict[str, list[float]] = defaultdict(list)
        for (prompt, _, _), sound in sounds.items():
            if math.isfinite(value := getattr(sound, name)):
                by_prompt[prompt].append(value)
        rows.append(_mean(name, arm, [statistics.fmean(v) for v in by_prompt.values()]))
    planned = {k: plans[k[0], arm] for k in sounds if plans.get((k[0], arm))}
    if arm == "raw" or not planned:  # its prompt is no plan: there is nothing that the sound could follow
        return rows
    tempo: defaultdict[str, list[float]] = defaultdict(list)
    for key, plan in planned.items():
        tempo[key[0]].append(float(agrees_in_tempo(sounds[key].tempo_bpm, plan["tempo_bpm"])))
    share = _mean("tempo", arm, [statistics.fmean(v) for v in tempo.values()], "share that agrees with the plan")
    if share["low"] is not None:
        share |= {"low": max(0.0, share["low"]), "high": min(1.0, share["high"])}
    rows.append(share)
    for parameter, (name, levels) in _ORDERED.items():
        found: dict[str, tuple[int, list[float]]] = {}  # of each prompt the planned level, and what its takes measure
        for key, plan in planned.items():
            if plan[parameter] in levels and math.isfinite(value := getattr(sounds[key], name)):
                level = levels.index(plan[parameter])
                found.setdefault(key[0], (level, []))[1].append(value)
        pairs = [(level, statistics.fmean(values)) for level, values in found.values()]
        rows.append(_follows(parameter, name, arm, pairs))
    return rows


def _follows(parameter: str, name: str, arm: str, pairs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Spearman's rank correlation of plan and measure, with the interval of Bonett and Wright 2000."""
    from scipy.stats import spearmanr

    row: dict[str, Any] = {"measure": name, "arm": arm, "n": len(pairs), "mean": None, "low": None, "high": None}
    row["note"] = f"rank correlation with the planned {parameter}"
    if len(pairs) < 10 or len({level for level, _ in pairs}) < 2:
        return row
    found: Any = spearmanr([a for a, _ in pairs], [b for _, b in pairs])
    rho = float(found.statistic)
    if math.isfinite(rho) and abs(rho) < 1:
        half = 1.96 * math.sqrt((1 + rho**2 / 2) / (len(pairs) - 3))
        row |= {"mean": rho, "low": math.tanh(math.atanh(rho) - half), "high": math.tanh(math.atanh(rho) + half)}
    return row


def _mean(measure: str, arm: str, values: Sequence[float], note: str = "") -> dict[str, Any]:
    """The mean over prompts with its 95 % interval (Student's t)."""
    from scipy.stats import t

    row: dict[str, Any] = {"measure": measure, "arm": arm, "n": len(values), "mean": None, "low": None, "high": None}
    if note:
        row["note"] = note
    if values:
        row["mean"] = statistics.fmean(values)
    if len(values) > 1:
        half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
        row |= {"low": row["mean"] - half, "high": row["mean"] + half}
    return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
