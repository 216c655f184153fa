"""Tables of scores: which text was held against which audio, and how well they fit. Read from CSV or Parquet, checked.

**The long form** has one row for each text and audio that were compared:

| column | what it holds |
|---|---|
| `prompt_id` | the prompt: the unit of the statistics |
| `arm` | how the prompt that made the *audio* was written: `raw` for the person's words, else `rules`, `llm`, ... |
| `text` | which *text* was compared: `own` (the person's words), `refined` (an arm's prompt), `shuffled` (the words of another prompt: the control) |
| `score` | a number, higher fits better; empty where there is none |
| `seed` | of the audio; the same seed in two arms makes a pair. Left out: one seed |
| `checkpoint` | the model that scored, or the name of another measure. Left out: one, without a name |
| `text_of` | whose text: for `refined` the arm that wrote it (empty: the arm of the audio; on `raw` audio with one other arm: that one), for `shuffled` the prompt whose words they are |
| `error` | why there is no score |
| any other | may be asked for as a stratum (`taste`, `kind`, ...): one value for each prompt |

**The wide form**, as the original study was published, has one row for each prompt: `pair` (or `prompt_id`),
`user_text_user_audio`, `user_text_refined_audio`, and as far as they were measured `refined_text_refined_audio` and
`refined_text_user_audio`; `seed`, `checkpoint`, `error` and others as above. Its arms are `raw` and `refined`.
"""  # noqa: E501

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .errors import ScoresError
from .tables import rows_of

__all__ = ["BASELINE", "LeftOut", "Score", "Scores", "Text", "read_scores"]

Text = Literal["own", "refined", "shuffled"]
BASELINE = "raw"
"""The arm whose audio was made from the person's words as they are."""

_TEXTS: tuple[Text, ...] = ("own", "refined", "shuffled")
_NEEDED = ("prompt_id", "arm", "text", "score")
_KNOWN = {*_NEEDED, "seed", "checkpoint", "text_of", "error"}
_WIDE: dict[str, tuple[str, Text]] = {  # column -> arm of the audio, text
    "user_text_user_audio": (BASELINE, "own"),
    "user_text_refined_audio": ("refined", "own"),
    "refined_text_refined_audio": ("refined", "refined"),
    "refined_text_user_audio": (BASELINE, "refined"),
}
_WIDE_NEEDED = ("user_text_user_audio", "user_text_refined_audio")
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Score:
    """How well one text fits one audio."""

    prompt_id: str
    arm: str  # of the audio
    text: Text
    text_of: str  # refined: the arm whose prompt it is; shuffled: the prompt whose words they are; own: empty
    seed: str
    checkpoint: str
    score: float
    place: str  # "line 7", for messages


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row without a score that can be used, and why."""

    place: str  # "line 7" of a CSV, "row 6" of a Parquet file
    prompt_id: str
    arm: str
    text: str
    seed: str
    checkpoint: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """A checked table."""

    source: str
    rows: tuple[Score, ...]
    left_out: tuple[LeftOut, ...]
    others: Mapping[str, Mapping[str, tuple[str, ...]]]  # further column -> prompt -> its values

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """In the order in which they appear."""
        return tuple(dict.fromkeys(r.checkpoint for r in self.rows))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms beside the baseline, in the order in which they appear."""
        return tuple(dict.fromkeys(r.arm for r in self.rows if r.arm != BASELINE))

    @property
    def prompts(self) -> tuple[str, ...]:
        """In the order in which they appear."""
        return tuple(dict.fromkeys(r.prompt_id for r in self.rows))

    @property
    def reasons(self) -> dict[str, int]:
        """Why rows were left out, and how many for each reason, the most frequent first."""
        return dict(Counter(r.reason for r in self.left_out).most_common())

    def cells(self, *, arm: str, text: Text, checkpoint: str, text_of: str = "") -> dict[str, dict[str, float]]:
        """Prompt -> seed -> score of these audios against this text; several shuffled texts are averaged."""
        found: dict[str, dict[str, list[float]]] = {}
        for r in self.rows:
            if (r.arm, r.text, r.checkpoint) == (arm, text, checkpoint) and text_of in ("", r.text_of):
                found.setdefault(r.prompt_id, {}).setdefault(r.seed, []).append(r.score)
        return {p: {s: math.fsum(v) / len(v) for s, v in seeds.items()} for p, seeds in found.items()}

    def stratum(self, name: str) -> dict[str, str]:
        """Prompt -> its value of this column; prompts without one are not in it.

        Raises:
            ScoresError: there is no such column, or a prompt has two values.
        """
        if name not in self.others:
            there = ", ".join(sorted(self.others)) or "there are none"
            raise ScoresError(f"{self.source} has no column {name!r} for a stratum; those that can be used: {there}.")
        for prompt, values in self.others[name].items():
            if len(values) > 1:
                raise ScoresError(
                    f"{self.source}: prompt {prompt!r} is in two strata of {name!r}: {values[0]!r} and {values[1]!r}; "
                    "a prompt belongs to one."
                )
        return {prompt: values[0] for prompt, values in self.others[name].items()}

    def with_columns(self, columns: Mapping[str, Mapping[str, str]]) -> "Scores":
        """With further columns (column -> prompt -> value) for strata; a column that the table has stays."""
        added = {name: {p: (v,) for p, v in values.items() if v} for name, values in columns.items()}
        return replace(self, others={**added, **self.others})


def read_scores(path: str | Path) -> Scores:
    """Reads a table of scores; rows with an error or without a score are left out, each with its reason.

    Raises:
        ScoresError: the file cannot be read, columns are missing, a score or text is none, a cell is there twice, or
            there is not a baseline and another arm.
    """
    path = Path(path)
    columns, rows = rows_of(path)
    scores: list[Score] = []
    left_out: list[LeftOut] = []
    others: dict[str, dict[str, tuple[str, ...]]] = {}
    if "score" not in columns and any(c in columns for c in _WIDE):
        known, rows = _wide(path, columns, rows)
    else:
        known = _KNOWN
        _check_columns(path, columns)
    for place, row in rows:
        _read_row(path, place, row, scores, left_out)
        _note_others(place, row, known, others)
    checked = Scores(path.name, tuple(_text_of_baseline(path, scores)), tuple(left_out), others)
    _check_cells(checked)
    _check_arms(checked)
    return checked


# rows


def _wide(
    path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, Mapping[str, Any]]]
) -> tuple[set[str], Iterator[tuple[str, Mapping[str, Any]]]]:
    """The wide form as rows of the long one."""
    missing = [c for c in _WIDE_NEEDED if c not in columns]
    unit = next((c for c in ("pair", "prompt_id") if c in columns), None)
    if missing or unit is None:
        missing += [] if unit else ["pair"]
        raise ScoresError(f"{path.name} looks like the wide form but has no column {_listed(missing)}.")

    def long() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for place, row in rows:
            for column, (arm, text) in _WIDE.items():
                if column in columns:
                    yield place, {**row, "prompt_id": row[unit], "arm": arm, "text": text, "score": row[column]}

    return _KNOWN | set(_WIDE) | {unit}, long()


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    missing = [c for c in _NEEDED if c not in columns]
    if missing:
        raise ScoresError(
            f"{path.name} has no column {_listed(missing)} (it has {_listed(columns)}). A table of scores has the "
            f"columns {_listed(_NEEDED)}; or, wide, {_listed(['pair', *_WIDE_NEEDED])}."
        )


def _read_row(path: Path, place: str, row: Mapping[str, Any], scores: list[Score], left_out: list[LeftOut]) -> None:
    named = {c: _label(row.get(c)) for c in ("prompt_id", "arm", "text", "seed", "checkpoint", "text_of")}
    for column in ("prompt_id", "arm"):
        if not named[column]:
            raise ScoresError(f"{path.name}, {place}: {column} is empty.")
    text = named["text"].lower()
    if text not in _TEXTS:
        raise ScoresError(f"{path.name}, {place}: text is {text!r}; it must be {_listed(_TEXTS, 'or')}.")
    if text == "shuffled" and named["text_of"] == named["prompt_id"]:
        raise ScoresError(f"{path.name}, {place}: the shuffled text is that of the prompt itself.")
    seed = named["seed"] or "0"
    value, reason = _value(path, place, row)
    if value is None:
        where = (named["prompt_id"], named["arm"], text, seed, named["checkpoint"])
        left_out.append(LeftOut(place, *where, reason[:_LONGEST_REASON]))
        return
    text_of = {"own": "", "refined": named["text_of"] or (named["arm"] if named["arm"] != BASELINE else "")}
    scores.append(
        Score(
            prompt_id=named["prompt_id"],
            arm=named["arm"],
            text=text,
            text_of=text_of.get(text, named["text_of"]),
            seed=seed,
            checkpoint=named["checkpoint"],
            score=value,
            place=place,
        )
    )


def _value(path: Path, place: str, row: Mapping[str, Any]) -> tuple[float | None, str]:
    """The score, or None and the reason why the row is left out."""
    if reason := " ".join(_label(row.get("error")).split()):
        return None, reason
    given = row.get("score")
    if given is None or (isinstance(given, str) and not given.strip()):
        return None, "no score"
    if isinstance(given, bool):
        raise ScoresError(f"{path.name}, {place}: the score is {given!r}, not a number.")
    try:
        value = float(given)
    except (TypeError, ValueError) as e:
        hint = " Write decimals with a point." if isinstance(given, str) and "," in given else ""
        raise ScoresError(f"{path.name}, {place}: the score {_shown(given)} is not a number.{hint}") from e
    if math.isnan(value):
        return None, "the score is NaN"
    if math.isinf(value):
        return None, "the score is infinite"
    return value, ""


def _note_others(
    place: str, row: Mapping[str, Any], known: set[str], others: dict[str, dict[str, tuple[str, ...]]]
) -> None:
    prompt = _label(row.get("prompt_id"))
    for column, value in row.items():
        if column in known:
            continue
        values = others.setdefault(column, {})
        label = _label(value)
        seen = values.get(prompt, ())
        # two are enough to know that a column is no stratum
        if label and label not in seen and len(seen) < 2:
            values[prompt] = (*seen, label)


def _text_of_baseline(path: Path, scores: list[Score]) -> Iterator[Score]:
    """Refined texts on the baseline's audio must say whose they are, unless there is one other arm only."""
    arms = list(dict.fromkeys(s.arm for s in scores if s.arm != BASELINE))
    for s in scores:
        if s.text != "refined" or s.text_of:
            yield s
        elif len(arms) == 1:
            yield Score(s.prompt_id, s.arm, s.text, arms[0], s.seed, s.checkpoint, s.score, s.place)
        else:
            raise ScoresError(
                f"{path.name}, {s.place}: a refined text on the audio of {BASELINE!r} must say in the column text_of "
                f"which arm wrote it ({_listed(arms, 'or')})."
            )


# the table as a whole


def _check_cells(scores: Scores) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for r in scores.rows:
        key = (r.prompt_id, r.arm, r.text, r.text_of, r.seed, r.checkpoint)
        if key in seen:
            of = f" of {r.text_of!r}" if r.text_of else ""
            raise ScoresError(
                f"{scores.source}, {seen[key]} and {r.place}: the same cell twice (prompt {r.prompt_id!r}, arm "
                f"{r.arm!r}, text {r.text}{of}, seed {r.seed!r}, checkpoint {r.checkpoint!r}). If they differ in "
                "seed, checkpoint or text_of, say so in that column."
            )
        seen[key] = r.place


def _check_arms(scores: Scores) -> None:
    left = f" ({len(scores.left_out)} rows were left out: {_listed(scores.reasons)})" if scores.left_out else ""
    if not scores.rows:
        raise ScoresError(f"{scores.source} has no row with a score{left}.")
    own = {r.arm for r in scores.rows if r.text == "own"}
    if BASELINE not in own:
        raise ScoresError(
            f"{scores.source} has no score of the person's own text on the audio of the arm {BASELINE!r}, which every "
            f"arm is compared with{left}. Arms with one: {_listed(sorted(own)) or 'none'}."
        )
    if own == {BASELINE}:
        raise ScoresError(
            f"{scores.source} has no score of the person's own text on the audio of any arm but {BASELINE!r}{left}: "
            "there is nothing to compare it with."
        )


def _label(value: Any) -> str:
    """A cell as a name: 3.0 of a column of numbers is 3, nothing and NaN are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(names: Iterable[str], last: str = "and") -> str:
    *first, final = list(names) or [""]
    return f"{', '.join(first)} {last} {final}" if first else final
