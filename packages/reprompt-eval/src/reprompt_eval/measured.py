"""The part of a report about what needs no checkpoint, and the whole report where nothing else was measured."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from .errors import RunFolderError
from .figures import count
from .markup import Markup, el, join, typeset

__all__ = ["measures_section", "read_measures", "unscored_body"]

_LARGEST = 8 << 20  # bytes
_LABELS = {
    "meaning_kept": "meaning kept", "music_share": "music words", "mattr": "variety of words (MATTR)",
    "distinct_2": "distinct pairs of words", "loudness_range": "loudness range",
}  # fmt: skip
_UNITS = {
    "music_share": ", share", "register": ", MIDI note", "detachment": ", share of the time", "loudness_range": ", LU",
}  # fmt: skip


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
        if not all(isinstance(item, dict) for name in ("left_out", "warned") for item in given.get(name, [])):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise RunFolderError(f"{path.name} is not what `reprompt-eval run` writes.") from e
    return cast("Mapping[str, Any]", given)


def measures_section(measures: Mapping[str, Any] | None) -> Markup | None:
    """A table of every measure, its arms under each other, each with its n and interval; and the definitions."""
    if measures is None:
        return None
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in measures["measures"]:
        by_name.setdefault(_named(row), []).append(row)
    definitions: dict[str, str] = dict(measures["definitions"])
    head = el("tr", (el("th", name, scope="col") for name in ("arm", "mean (95 % CI)", "n")))
    bodies = [
        el("tbody", el("tr", el("th", name, scope="rowgroup", colspan="3")), (
            el("tr", el("td", str(row["arm"])), el("td", typeset(_figure(row))), el("td", str(row["n"])))
            for row in rows
        ))
        for name, rows in by_name.items()
    ]  # fmt: skip
    said = [el("li", el("b", _LABELS.get(name, name)), f": {text}") for name, text in definitions.items()]
    return join(
        el("h2", "Measures without a checkpoint"),
        el(
            "p",
            "They describe prompts and sounds. None of them says how well the music fits the words, or how good it is.",
        ),
        el("table", el("thead", head), *bodies, class_="measures"),
        el("details", el("summary", "What each of them is"), el("ul", said)),
        _files(measures.get("left_out", []), "left out"),
        _files(measures.get("warned", []), "with a warning"),
    )


def _files(items: Sequence[Mapping[str, Any]], what: str) -> Markup | None:
    if not items:
        return None
    listed = (el("li", f"{item.get('file', '')}: {item.get('reason', '')}") for item in items)
    return el("details", el("summary", f"{count(len(items), 'file')} {what}"), el("ul", listed))


def unscored_body(title: str, measures: Mapping[str, Any], said: Sequence[str], *parts: Markup | None) -> Markup:
    """The report of a run that no checkpoint scored: it says so first.

    Args:
        title: of the run.
        measures: of measures.json.
        said: what else must be said first.
        parts: what stands below the measures.
    """
    return join(
        el("p", title, class_="eyebrow"),
        el("span", "Not measured", class_="chip"),
        el("h1", "Whether the rewritten prompts made the music fit the words better was not measured: ",
           el("span", "no CLAP checkpoint scored the audio. ", el("code", "reprompt-eval doctor", class_="whole"),
              " says how to get one.", class_="evidence")),
        el("ul", (el("li", line) for line in said)) if said else None,
        measures_section(measures),
        *parts,
    )  # fmt: skip


def _named(row: Mapping[str, Any]) -> str:
    name = _LABELS.get(str(row["measure"]), str(row["measure"]))
    return f"{name}: {row['note']}" if row.get("note") else f"{name}{_UNITS.get(str(row['measure']), '')}"


def _figure(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "too few to say"
    if row["low"] is None or row["high"] is None:
        return f"{row['mean']:.2f} (no interval: of {'all prompts together' if row['n'] > 1 else 'one prompt'})"
    return f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
