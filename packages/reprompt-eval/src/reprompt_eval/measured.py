"""The part of a report about what needs no checkpoint, and the whole report where nothing else was measured."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .errors import RunFolderError
from .figures import count
from .markup import Markup, el, join, typeset

__all__ = ["measures_section", "read_measures", "unscored_body"]

_LARGEST = 8 << 20  # bytes


def read_measures(path: Path) -> Mapping[str, Any] | None:
    """What `reprompt-eval run` wrote into measures.json; None: there is none.

    Raises:
        RunFolderError: it is no such file.
    """
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise RunFolderError(f"{path.name} is over {_LARGEST >> 20} megabytes.")
        given = json.loads(path.read_text("utf-8"))
        rows = given["measures"]
        for row in rows:
            if not isinstance(row["measure"], str) or not isinstance(row["arm"], str) or not isinstance(row["n"], int):
                raise TypeError
            if any(row[k] is not None and not math.isfinite(row[k]) for k in ("mean", "low", "high")):
                raise TypeError
        dict(given["definitions"])
        if not all(isinstance(item, dict) for item in given.get("left_out", [])):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise RunFolderError(f"{path.name} is not what `reprompt-eval run` writes.") from e
    return cast("Mapping[str, Any]", given)


def measures_section(measures: Mapping[str, Any] | None) -> Markup | None:
    """A table of every measure and arm, each with its n and interval, and the definitions."""
    if measures is None:
        return None
    rows: list[dict[str, Any]] = list(measures["measures"])
    definitions: dict[str, str] = dict(measures["definitions"])
    head = el("tr", (el("th", name, scope="col") for name in ("measure", "arm", "mean (95 % CI)", "n")))
    body = [
        el("tr", el("th", _named(row), scope="row"), el("td", str(row["arm"]), class_="short"),
           el("td", typeset(_figure(row))), el("td", str(row["n"]), class_="short"))
        for row in rows
    ]  # fmt: skip
    said = [el("li", el("b", name.replace("_", " ")), f": {text}") for name, text in definitions.items()]
    left_out = [str(item.get("file", "")) + ": " + str(item.get("reason", "")) for item in measures.get("left_out", [])]
    return join(
        el("h2", "Measures without a checkpoint"),
        el(
            "p",
            "They describe prompts and sounds. None of them says how well the music fits the words, or how good it is.",
        ),
        el("div", el("table", el("thead", head), el("tbody", body)), class_="scroll", tabindex="0"),
        el("details", el("summary", "What each of them is"), el("ul", said)),
        el(
            "details",
            el("summary", f"{count(len(left_out), 'file')} left out"),
            el("ul", (el("li", x) for x in left_out)),
        )
        if left_out
        else None,
    )


def unscored_body(title: str, measures: Mapping[str, Any], prompts: Mapping[str, Any]) -> Markup:
    """The report of a run that no checkpoint scored: it says so first."""
    rows = [
        el("tr", el("th", p.words, scope="row", dir="auto"), el("td", arm, class_="short"), el("td", text, dir="auto"))
        for p in prompts.values()
        for arm, text in p.prompts.items()
    ]
    return join(
        el("h1", title),
        el("p", "Whether the rewritten prompts made the music fit the words better was not measured: no CLAP "
                "checkpoint scored the audio. The command reprompt-eval doctor says how to get one.", class_="lead"),
        measures_section(measures),
        el("h2", "The prompts"),
        el("div", el("table", el("tbody", rows)), class_="scroll", tabindex="0"),
    )  # fmt: skip


def _named(row: Mapping[str, Any]) -> str:
    name = str(row["measure"]).replace("_", " ")
    return f"{name}: {row['note']}" if row.get("note") else name


def _figure(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "too few to say"
    if row["low"] is None or row["high"] is None:
        return f"{row['mean']:.2f}, of {'all prompts together' if row['n'] > 1 else 'one prompt'}: no interval"
    return f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
