"""What every arm makes of the words, kept prompt by prompt, so that a run goes on where it ended.

The arms of a language model hold what the model wrote and nothing else. Where it writes nothing that can be used, the
pipeline answers with the rules' prompt; in an experiment that would pass for the model's, so it is left out, and its
rows say why. A model that cannot be reached ends the run instead: that says nothing of how it writes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprompt_core import CaptionFilter, Pipeline, Reprompt

from .errors import EvalError, OptionError, RunFolderError
from .figures import count
from .kept import append_row, read_rows, write_rows
from .plan import Arm, ExperimentPlan, model_arms
from .run_folder import UNWRITTEN, Prompt

__all__ = ["WRITER", "write_prompts"]

WRITER = "_written_by"
"""In prompts.jsonl: the model of each prompt that one was asked for."""

_NO_CAPTIONS = CaptionFilter(corpora=())
# how an attempt ends that failed by what the model said; every other end is the server's, and may be another tomorrow
_OWN_FAULTS = ("failed checks", "it refused", "its answer ")


async def write_prompts(
    plan: ExperimentPlan, path: Path, pipeline: Pipeline, *, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """A row for each prompt: what every arm makes of its words, the plans, and what a model did not write, and why.

    Args:
        plan: prompts and arms.
        path: prompts.jsonl; what it holds is kept, also what a model failed at: its first answer counts.
        pipeline: an open one.
        progress: told how many prompts are done, of how many.

    Raises:
        RunFolderError: the file holds other words, or prompts of another model.
        OptionError: an arm needs a language model, and none is configured.
        EvalError: the model cannot be reached, or wrote not one prompt of the primary arm.
    """
    kept = {str(row["id"]): row for row in read_rows(path) if "id" in row}
    if kept:  # each prompt once, without the line that a kill cut off
        write_rows(path, kept.values())
    _check_kept(plan, path, kept, pipeline)
    rows: list[dict[str, Any]] = []
    for number, prompt in enumerate(plan.prompts):
        row = {"prompts": {}, **kept.get(prompt.id, {}), "id": prompt.id, "words": prompt.words, **prompt.columns}
        if missing := _missing(row, plan.arms):
            try:
                for arm in missing:
                    await _write(row, prompt, arm, pipeline)
            finally:
                append_row(path, row)  # what was written before the model was gone, too
        rows.append(row)
        progress(number + 1, len(plan.prompts))
    write_rows(path, rows)
    _check_primary(plan, rows)
    return rows


def _missing(row: Mapping[str, Any], arms: Sequence[Arm]) -> list[Arm]:
    return [arm for arm in arms if arm.name not in row["prompts"] and arm.name not in row.get(UNWRITTEN, {})]


def _check_kept(plan: ExperimentPlan, path: Path, kept: Mapping[str, Mapping[str, Any]], pipeline: Pipeline) -> None:
    """Before anything is written: the words are the same, and so is the model."""
    for prompt in plan.prompts:
        row = kept.get(prompt.id)
        if row and (row.get("words") != prompt.words or not isinstance(row.get("prompts"), dict)):
            raise RunFolderError(f"{path}: prompt {prompt.id} had other words; give another folder with --output.")
    open_rows = [kept.get(p.id, {"prompts": {}}) for p in plan.prompts]
    wanted = sorted({name for row in open_rows for name in model_arms(_missing(row, plan.arms))})
    if not wanted:
        return
    model = pipeline.settings.llm_model
    if model is None:
        raise OptionError(
            f"{plan.path.name}: {' and '.join(wanted)} must be written by a language model: set REPROMPT_LLM_MODEL "
            "(docs/llm.md)."
        )
    others = {w["model"] for row in kept.values() for w in row.get(WRITER, {}).values()} - {model}
    if others:
        raise RunFolderError(
            f"{path} holds prompts of the model {sorted(others)[0]!r}, and REPROMPT_LLM_MODEL is {model!r}: an arm is "
            "written by one model. Set it back, or give another folder with --output."
        )


async def _write(row: dict[str, Any], prompt: Prompt, arm: Arm, pipeline: Pipeline) -> None:
    captions = CaptionFilter() if arm.captions else _NO_CAPTIONS
    answer = await pipeline.reprompt(prompt.words, mode=arm.mode, refiner=arm.refiner, captions=captions)
    if arm.refiner == "llm" and (trace := answer.trace) is not None:
        row.setdefault(WRITER, {})[arm.name] = {
            "model": trace.model, "server": trace.server, "template": trace.template, "cached": trace.cached,
            "requests": len(trace.attempts),
        }  # fmt: skip
        if answer.refiner != "llm":
            row.setdefault(UNWRITTEN, {})[arm.name] = _own_fault(answer, prompt, arm)
            return
    row["prompts"][arm.name] = answer.prompt
    row.setdefault("_plans", {})[arm.name] = answer.to_dict()["plan"]


def _own_fault(answer: Reprompt, prompt: Prompt, arm: Arm) -> str:
    """Why the model's answer cannot be used.

    Raises:
        EvalError: there was none.
    """
    last = answer.trace.attempts[-1] if answer.trace and answer.trace.attempts else None
    if last is not None and last.outcome.startswith(_OWN_FAULTS):
        which = f" ({', '.join(last.failed)})" if last.failed else ""
        return f"The language model wrote no prompt that can be used: {last.outcome}{which}."
    why = last.outcome if last else "no answer in time; REPROMPT_LLM_TIMEOUT_S says how long it may take"
    raise EvalError(
        f"The language model could not be asked for {prompt.id} (arm {arm.name}): {why}. What was written before is "
        "kept; the same command goes on with it."
    )


def _check_primary(plan: ExperimentPlan, rows: Sequence[Mapping[str, Any]]) -> None:
    """Before hours of audio: the arm that the answer is about must be there."""
    primary = plan.primary_arm
    if any(primary in row["prompts"] for row in rows):
        return
    reasons = dict.fromkeys(str(row[UNWRITTEN][primary]) for row in rows)
    raise EvalError(
        f"The language model wrote none of the {count(len(rows), 'prompt')} of the arm {primary}, which the answer is "
        f"about: there is nothing to compare. {' '.join(list(reasons)[:3])} Try another model, or make another arm the "
        "primary one."
    )
