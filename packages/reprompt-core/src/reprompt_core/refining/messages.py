"""What a language model is sent: a system message with the task, and the brief as data between two marks."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from ..types import Brief
from .answer import answer_schema

__all__ = ["TEMPLATE", "brief_data", "first_messages", "repair_messages", "system_text"]

TEMPLATE = "1"
"""Version of the messages. It goes up with every change of a template or of the data's shape (a test sees to it)."""

Message = dict[str, str]
_CAPTIONS, _CAPTION_CHARACTERS = 6, 300
_REASONS = 3  # of each parameter
_ANSWER_CHARACTERS = 4000


@cache
def system_text() -> str:
    """The system message without the schema that follows it."""
    return _template("system")


@cache
def _template(name: str) -> str:
    return (resources.files("reprompt_core.refining") / "templates" / f"{name}.md").read_text("utf-8")


def first_messages(brief: Brief) -> list[Message]:
    """The system message and the brief."""
    # a mark in the data must not be able to end it: < and > travel as escapes, which are the same JSON
    data = json.dumps(brief_data(brief), ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c").replace(">", "\\u003e")
    return [
        {"role": "system", "content": f"{system_text()}{json.dumps(answer_schema())}"},
        {"role": "user", "content": f"<brief>\n{data}\n</brief>"},
    ]


def repair_messages(brief: Brief, answer: str, problems: Sequence[str]) -> list[Message]:
    """The same with the answer that failed and what is wrong with it."""
    told = Template(_template("repair")).substitute(problems="\n".join(f"- {p}" for p in problems))
    return [
        *first_messages(brief),
        {"role": "assistant", "content": answer[:_ANSWER_CHARACTERS]},
        {"role": "user", "content": told},
    ]


def brief_data(brief: Brief) -> dict[str, Any]:
    """The brief as plain data: what the model may know, and nothing else."""
    stated = {k: v for k, v in asdict(brief.stated).items() if v and k not in {"exclude", "exclude_texts"}}
    if brief.stated.instruments:
        stated["instruments"] = [written for _, written in brief.stated.instruments]
    plan = asdict(brief.plan)
    del plan["exclude"]
    emotion = brief.senses.emotion
    return {
        "words": brief.words,
        "language": brief.language,
        "mentions": [
            {"text": m.text, "is": m.concept, "kind": m.kind, "score": round(m.score, 2), "negated": m.negated}
            for m in brief.senses.mentions
        ],
        "tastes": {t: round(v, 2) for t, v in brief.senses.tastes.items() if v >= 0.05},
        "emotion": {
            "valence": round(emotion.valence, 2),
            "arousal": round(emotion.arousal, 2),
            "named": list(emotion.labels),
            "stated": emotion.stated,
        },
        "descriptors": [
            {"dimension": d.dimension, "value": _short(d.value), "weight": round(d.weight, 2), "from": d.origin}
            for d in brief.senses.descriptors
        ],
        "stated": stated,
        "exclude": list(dict.fromkeys((*brief.stated.exclude_texts, *brief.stated.exclude))),
        "rules_plan": plan,
        "reasons": _reasons(brief),
        "conflicts": _conflicts(brief),
        "captions": [c.text[:_CAPTION_CHARACTERS] for c in brief.captions[:_CAPTIONS]],
    }


def _short(value: float | str) -> float | str:
    return round(value, 2) if isinstance(value, float) else value


def _lost(because: str) -> bool:
    return because.endswith("outvoted")


def _reasons(brief: Brief) -> list[dict[str, Any]]:
    """The strongest reasons for each value of the plan."""
    told: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for r in brief.reasons:
        if _lost(r.because) or told.get(r.parameter, 0) >= _REASONS:
            continue
        told[r.parameter] = told.get(r.parameter, 0) + 1
        found.append(
            {"for": r.parameter, "value": r.value, "weight": round(r.weight, 2), "because": r.because,
             "known": r.status}
        )  # fmt: skip
    return found


def _conflicts(brief: Brief) -> list[dict[str, str]]:
    """Researched findings that were outvoted or about which sources disagree."""
    return [
        {"about": r.parameter, "speaks_for": r.value, "because": r.because}
        for r in brief.reasons
        if _lost(r.because) or "disagree" in r.because
    ]
