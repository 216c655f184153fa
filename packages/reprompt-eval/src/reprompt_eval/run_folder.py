"""The folder of a run: what an experiment leaves behind, and what a report is made of.

| file | what it holds |
|---|---|
| `scores.parquet` or `scores.csv` | the scores (`scores.py` says how); the only one that must be there |
| `prompts.jsonl` | an object for each prompt: `id`, `words`, `prompts` (an object: arm -> the prompt it wrote), `_unwritten` (an object: arm -> why a language model wrote none), and anything that may be a stratum, as text (`taste`, `kind`, ...) |
| `prompts.csv` | the same in columns: `id`, `words`, `prompt_ARM` for each arm, strata |
| `manifest.jsonl` | an object for each audio: `path` (within the folder), `prompt_id`, `arm`, `seed`, `sha256` of the file, `made_by`; `error` instead where there is none |
| `plan.toml` | `title`, `bound` (of equivalence), `strata` (a list of columns), `[primary]` with `arm` and `checkpoint`; anything else is the experiment's own |
| `versions.json` | an object: name -> version, of everything that had a hand in it |
| `measures.json` | measures that need no checkpoint (`measured.py`); without scores it must be there |
| `votes.jsonl` | blind comparisons (`votes.py` says how) |
"""  # noqa: E501

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from .errors import RunFolderError
from .jsonl import encodable, json_object, raw_lines
from .measured import read_measures
from .scores import BASELINE, Scores, read_scores
from .tables import rows_of
from .votes import Votes, read_votes

__all__ = ["UNWRITTEN", "Audio", "Plan", "Prompt", "RunFolder", "read_run_folder"]

UNWRITTEN = "_unwritten"
"""In prompts.jsonl: the arms of which a language model wrote no prompt that can be used, and why."""

_LARGEST = 1 << 20  # bytes of plan and versions


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its words, and what each arm made of them."""

    id: str
    words: str
    prompts: Mapping[str, str]  # arm -> prompt
    columns: Mapping[str, str]
    unwritten: Mapping[str, str] = field(default_factory=dict[str, str])  # arm -> why a model wrote none


@dataclass(frozen=True, slots=True)
class Audio:
    """A file of the manifest."""

    path: str  # within the folder
    prompt_id: str
    arm: str
    seed: str
    sha256: str
    error: str  # why there is none
    made_by: str = ""

    @property
    def key(self) -> str:
        """Its path; of one that was not made, what it would have been."""
        return self.path or f"{self.prompt_id}-{self.arm}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What of the plan a report needs; `text` is all of it."""

    title: str = ""
    bound: float | None = None
    strata: tuple[str, ...] = ()
    arm: str | None = None
    checkpoint: str | None = None
    text: str = ""


@dataclass(frozen=True)
class RunFolder:
    """All that is there."""

    folder: Path
    scores: Scores | None  # None: no checkpoint scored the run
    prompts: Mapping[str, Prompt]
    audio: Mapping[tuple[str, str, str], Audio]  # (prompt, arm, seed)
    plan: Plan
    versions: Mapping[str, str]
    votes: Votes | None
    measures: Mapping[str, Any] | None = None


def read_run_folder(folder: str | Path) -> RunFolder:
    """Reads a run's folder; what is missing beside the scores is empty.

    Raises:
        RunFolderError: there is no such folder or no scores in it, or a file of it cannot be used.
        ScoresError, VotesError: of its scores and votes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(
            f"{folder} is {'no folder' if folder.exists() else 'not there'}; give the folder of a run."
        )
    found = [folder / name for name in ("scores.parquet", "scores.csv") if (folder / name).is_file()]
    measures = read_measures(folder / "measures.json")
    if not found and measures is None:
        raise RunFolderError(f"{folder} holds neither scores.parquet nor scores.csv: there is nothing to report.")
    if len(found) > 1:
        raise RunFolderError(f"{folder} holds scores.parquet and scores.csv: keep the one that counts.")
    scores, prompts = read_scores(found[0]) if found else None, _prompts(folder)
    columns: dict[str, dict[str, str]] = {}
    for p in prompts.values():
        for name, value in p.columns.items():
            columns.setdefault(name, {})[p.id] = value
    votes = folder / "votes.jsonl"
    return RunFolder(
        folder=folder,
        scores=scores.with_columns(columns) if scores else None,
        prompts=prompts,
        audio=_manifest(folder / "manifest.jsonl"),
        plan=_plan(folder / "plan.toml"),
        versions=_versions(folder / "versions.json"),
        votes=read_votes(votes) if votes.is_file() else None,
        measures=measures,
    )


def _prompts(folder: Path) -> dict[str, Prompt]:
    lines, table = folder / "prompts.jsonl", folder / "prompts.csv"
    made: dict[str, Prompt] = {}
    rows = _json_prompts(lines) if lines.is_file() else _csv_prompts(table) if table.is_file() else []
    for where, prompt in rows:
        if not prompt.id:
            raise RunFolderError(f"{where}: the prompt has no id.")
        if prompt.id in made:
            raise RunFolderError(f"{where}: the prompt {prompt.id!r} again.")
        made[prompt.id] = prompt
    return made


def _json_prompts(path: Path) -> list[tuple[str, Prompt]]:
    made: list[tuple[str, Prompt]] = []
    for where, given in _objects(path):
        prompts = given.get("prompts") or {}
        if not isinstance(prompts, dict):
            raise RunFolderError(f"{where}: prompts must be an object of arms and their prompts.")
        columns = {
            k: _text(v) for k, v in given.items() if k not in {"id", "words", "prompts"} and not k.startswith("_")
        }
        written = {str(arm): _text(p) for arm, p in cast("dict[str, Any]", prompts).items()}
        unwritten = given.get(UNWRITTEN) or {}
        if not isinstance(unwritten, dict):
            raise RunFolderError(f"{where}: {UNWRITTEN} must be an object of arms and reasons.")
        why = {str(arm): _text(reason) for arm, reason in cast("dict[str, Any]", unwritten).items()}
        made.append((where, Prompt(_text(given.get("id")), _text(given.get("words")), written, columns, why)))
    return made


def _csv_prompts(path: Path) -> list[tuple[str, Prompt]]:
    columns, rows = rows_of(path, RunFolderError)
    missing = [c for c in ("id", "words") if c not in columns]
    if missing:
        raise RunFolderError(f"{path.name} has no column {' and '.join(missing)} (it has {', '.join(columns)}).")
    made: list[tuple[str, Prompt]] = []
    for place, row in rows:
        written = {c.removeprefix("prompt_"): v for c, v in row.items() if c.startswith("prompt_") and v}
        others = {c: v.strip() for c, v in row.items() if c not in {"id", "words"} and not c.startswith("prompt_")}
        made.append((f"{path.name}, {place}", Prompt(row["id"].strip(), row["words"], written, others)))
    return made


def _manifest(path: Path) -> dict[tuple[str, str, str], Audio]:
    made: dict[tuple[str, str, str], Audio] = {}
    for where, given in _objects(path) if path.is_file() else []:
        fields = ("path", "prompt_id", "arm", "seed", "sha256", "error", "made_by")
        audio = Audio(*(_text(given.get(k)) for k in fields))
        missing = [k for k in ("prompt_id", "arm") if not getattr(audio, k)]
        if missing or not (audio.path or audio.error):
            raise RunFolderError(f"{where}: {(missing or ['path'])[0]} is missing.")
        # of a run that was taken up again the last line counts
        made[audio.prompt_id, audio.arm, audio.seed or "0"] = audio
    return made


def _objects(path: Path) -> list[tuple[str, dict[str, Any]]]:
    made: list[tuple[str, dict[str, Any]]] = []
    for number, raw in raw_lines(path, RunFolderError):
        where = f"{path.name}, line {number}"
        try:
            given = json_object(raw)
        except ValueError as e:
            raise RunFolderError(f"{where}: {e}.") from e
        if given is not None:
            made.append((where, given))
    return made


def _plan(path: Path) -> Plan:
    if not path.is_file():
        return Plan()
    text = _small_text(path)
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise RunFolderError(f"{path.name} is not TOML: {e}.") from e
    bound, strata, primary = given.get("bound"), given.get("strata", []), given.get("primary", {})
    if bound is not None and (isinstance(bound, bool) or not isinstance(bound, (int, float)) or not bound > 0):
        raise RunFolderError(f"{path.name}: bound must be a number above 0, not {bound!r}.")
    if not isinstance(strata, list) or not all(isinstance(s, str) for s in cast("list[Any]", strata)):
        raise RunFolderError(f"{path.name}: strata must be a list of column names, not {strata!r}.")
    if not isinstance(primary, dict):
        raise RunFolderError(f"{path.name}: primary must be a table with arm and checkpoint.")
    named = {k: _text(v) for k, v in cast("dict[str, Any]", primary).items()}
    arms = given.get("arms")
    if "arm" not in named and isinstance(arms, list):  # also where the first of them has no score at all
        named |= {"arm": next((_text(a) for a in cast("list[Any]", arms) if a != BASELINE), "")}
    return Plan(
        title=_text(given.get("title")),
        bound=None if bound is None else float(bound),
        strata=tuple(cast("list[str]", strata)),
        arm=named.get("arm") or None,
        checkpoint=named.get("checkpoint"),
        text=text,
    )


def _versions(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        given = json.loads(_small_text(path))
    except (ValueError, RecursionError) as e:
        raise RunFolderError(f"{path.name} is not JSON.") from e
    if not isinstance(given, dict):
        raise RunFolderError(f"{path.name} must be an object of names and versions.")
    return {str(k): _text(v) for k, v in encodable(cast("dict[str, Any]", given)).items()}


def _small_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise RunFolderError(f"{path.name} is over a megabyte.")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as e:
        raise RunFolderError(f"{path.name} is not UTF-8 text.") from e
    except OSError as e:
        raise RunFolderError(f"{path} cannot be read: {e.strerror or e}.") from e


def _text(value: Any) -> str:
    """A value of JSON or TOML as text: nothing is empty, 3.0 is 3."""
    if value is None:
        return ""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
