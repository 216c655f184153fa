"""The plan of an experiment, written before it runs: prompts x arms x seeds, what makes the audio, what scores it.

title = "Do the rules help?"
prompts = "prompts.csv"             # columns id and words; others may be strata
arms = ["raw", "rules"]             # raw rules append llm llm-without-captions
seeds = 4                           # or a list
seconds = 10
generator = "preview"               # preview musicgen runpod auto, the https:// of an API, or a folder of audio
checkpoints = ["music.pt"]          # of CLAP: files, folders, or ids of the hub
checkpoints_if_there = ["more.pt"]  # the same, where they lie beside the plan or in the folder of the command
bound = 0.02                        # differences under it count as none; set before the run
sd = 0.096                          # expected of the paired differences, to say what can be found
strata = ["taste"]
split_texts = false                 # texts over the 77 tokens that CLAP reads: in parts, averaged; else left out
[primary]
arm = "rules"

Files and folders are looked for from the folder of the plan; ~ is the home folder. Without a checkpoint only what needs
none is measured.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .errors import OptionError, RunFolderError
from .run_folder import Prompt
from .scores import BASELINE
from .tables import rows_of

__all__ = ["ARMS", "PLACES", "Arm", "ExperimentPlan", "model_arms", "read_plan"]

_PUBLISHED_SD = 0.096  # of the original study (facts in docs/evaluation.md)
_FIELDS = {
    "title", "prompts", "arms", "seeds", "seconds", "generator", "checkpoints", "bound", "sd", "strata", "primary",
    "tokenizer", "checkpoints_if_there", "split_texts",
}  # fmt: skip
_LONGEST_ID = 150
PLACES = ("auto", "preview", "musicgen", "runpod")
"""Generators of the project's own."""

ArmName = Literal["raw", "rules", "append", "llm", "llm-without-captions"]


@dataclass(frozen=True, slots=True)
class Arm:
    """How the prompt of an arm is written."""

    name: str
    mode: Literal["rewrite", "append", "off"]
    refiner: Literal["auto", "rules", "llm"] = "rules"
    captions: bool = True


ARMS: Mapping[str, Arm] = {
    "raw": Arm("raw", "off"),
    "rules": Arm("rules", "rewrite"),
    "append": Arm("append", "append"),
    "llm": Arm("llm", "rewrite", "llm"),
    "llm-without-captions": Arm("llm-without-captions", "rewrite", "llm", captions=False),
}


def model_arms(arms: Iterable[Arm]) -> list[str]:
    """Those that a language model writes."""
    return [arm.name for arm in arms if arm.refiner == "llm"]


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """A plan that was checked."""

    path: Path
    text: str  # of the file, as it is kept
    title: str
    prompts: tuple[Prompt, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    seconds: float
    generator: str
    checkpoints: tuple[str, ...]
    absent: tuple[str, ...]  # of checkpoints_if_there
    tokenizer: str
    bound: float | None
    sd: float
    strata: tuple[str, ...]
    split_texts: bool
    primary: Mapping[str, str]

    @property
    def primary_arm(self) -> str:
        """The arm that the answer is about: the one named, else the first beside the baseline."""
        return self.primary.get("arm") or next(arm.name for arm in self.arms if arm.name != BASELINE)


def read_plan(path: str | Path) -> ExperimentPlan:
    """Reads a plan and the prompts that it names.

    Raises:
        OptionError: a value that cannot be used; says which, and what it may be.
        RunFolderError: a file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        given = tomllib.loads(text)
    except OSError as e:
        raise RunFolderError(f"{path} cannot be read: {e.strerror or e}.") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RunFolderError(f"{path.name} is not TOML: {e}.") from e
    if unknown := sorted(given.keys() - _FIELDS):
        raise OptionError(f"{path.name}: {unknown[0]!r} is no part of a plan ({', '.join(sorted(_FIELDS))}).")
    arms = _names(given, "arms", ("raw", "rules"))
    if bad := [a for a in arms if a not in get_args(ArmName)]:
        raise OptionError(f"{path.name}: arm {bad[0]!r} is unknown: {', '.join(get_args(ArmName))}.")
    if BASELINE not in arms or len(set(arms)) < max(2, len(arms)):
        raise OptionError(f"{path.name}: arms must hold {BASELINE!r} and at least one other, each once.")
    seconds, bound, sd = _number(given, "seconds", 10.0), given.get("bound"), _number(given, "sd", _PUBLISHED_SD)
    if not 1 <= seconds <= 300:
        raise OptionError(f"{path.name}: seconds must be from 1 to 300, not {seconds:g}.")
    if bound is not None:
        bound = _number(given, "bound", 0.0)
    prompts, strata = _prompts(path, given), _names(given, "strata", ())
    perhaps = {name: _perhaps(path, name) for name in _names(given, "checkpoints_if_there", ())}
    named = [_beside(path, name) for name in _names(given, "checkpoints", ())]
    checkpoints = (*named, *(found for found in perhaps.values() if found))
    scored = [Path(c).name for c in checkpoints]
    if twice := [name for name in scored if scored.count(name) > 1]:
        raise OptionError(f"{path.name}: two checkpoints are called {twice[0]}: their scores could not be told apart.")
    columns = prompts[0].columns
    if lost := [s for s in strata if s not in columns]:
        raise OptionError(
            f"{path.name}: strata: the prompts have no column {lost[0]!r} ({', '.join(columns) or 'none'})."
        )
    _check_primary(path, given.get("primary", {}), arm=[a for a in arms if a != BASELINE], checkpoint=scored)
    return ExperimentPlan(
        path=path,
        text=text,
        title=str(given.get("title", path.stem)),
        prompts=prompts,
        arms=tuple(ARMS[a] for a in arms),
        seeds=_seeds(given),
        seconds=seconds,
        generator=_beside(path, str(given.get("generator", "preview"))),
        checkpoints=checkpoints,
        absent=tuple(name for name, found in perhaps.items() if not found),
        tokenizer=_beside(path, str(given.get("tokenizer", "roberta-base"))),
        bound=bound,
        sd=sd,
        strata=strata,
        split_texts=_switch(given, "split_texts"),
        primary=given.get("primary", {}),
    )


def _check_primary(path: Path, given: Any, **known: list[str]) -> None:
    """Before the run, not when its report is written."""
    if not isinstance(given, dict):
        raise OptionError(f"{path.name}: primary must be a table with arm and checkpoint.")
    for name, value in cast("dict[str, Any]", given).items():
        if name not in known:
            raise OptionError(f"{path.name}: primary.{name} is no part of a plan ({', '.join(known)}).")
        if value not in known[name]:
            raise OptionError(
                f"{path.name}: primary.{name} is {value!r}; it must be one of {', '.join(known[name]) or 'none there'}."
            )


def _from(path: Path, name: str) -> Path:
    """A file or folder that a plan names."""
    try:
        return path.parent / Path(name).expanduser()
    except RuntimeError as e:
        raise OptionError(f"{path.name}: {name}: there is no such home folder.") from e


def _beside(path: Path, name: str) -> str:
    """The same, where it is one: the name of a generator, an address or an id of the hub stays as it is."""
    if "://" in name:
        return name
    found = _from(path, name)
    is_path = found.suffix in {".pt", ".pth"} or name.startswith((".", "/", "~"))
    return str(found) if is_path or (found.exists() and name not in PLACES) else name


def _perhaps(path: Path, name: str) -> str | None:
    there = (p for p in (_from(path, name), Path(name)) if p.exists())
    return next(map(str, there), None)


def _prompts(path: Path, given: Mapping[str, Any]) -> tuple[Prompt, ...]:
    named = given.get("prompts")
    if not isinstance(named, str):
        raise OptionError(f"{path.name}: prompts must name a CSV file with the columns id and words.")
    columns, rows = rows_of(_from(path, named), RunFolderError)
    if missing := [c for c in ("id", "words") if c not in columns]:
        raise RunFolderError(f"{named} has no column {' and '.join(missing)} (it has {', '.join(columns)}).")
    if bad := [c for c in columns if c == "prompts" or c.startswith("_")]:
        raise RunFolderError(f"{named}: a column cannot be called {bad[0]!r}: the run's own prompts.jsonl has that.")
    made: dict[str, Prompt] = {}
    for place, row in rows:
        cells = {c: "" if v is None else str(v).strip() for c, v in row.items()}  # of Parquet they may be numbers
        id, words = cells.pop("id"), cells.pop("words")
        if not id or not words or id in made or "/" in id or id.startswith(".") or not id.isprintable():
            raise RunFolderError(f"{named}, {place}: an id (each once, no /) and words are needed.")
        if len(id.encode()) > _LONGEST_ID:  # it is part of the names of files
            raise RunFolderError(f"{named}, {place}: the id has over {_LONGEST_ID} bytes.")
        made[id] = Prompt(id, words, {}, cells)
    if len(made) < 2:
        raise RunFolderError(f"{named} holds {len(made)} prompts: at least 2 are needed.")
    return tuple(made.values())


def _names(given: Mapping[str, Any], field: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = given.get(field, list(default))
    if not isinstance(value, list) or not all(isinstance(v, str) for v in cast("list[Any]", value)):
        raise OptionError(f"{field} must be a list of texts, not {value!r}.")
    return tuple(cast("list[str]", value))


def _number(given: Mapping[str, Any], field: str, default: float) -> float:
    value = given.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise OptionError(f"{field} must be a number above 0, not {value!r}.")
    return float(value)


def _switch(given: Mapping[str, Any], field: str) -> bool:
    value = given.get(field, False)
    if not isinstance(value, bool):
        raise OptionError(f"{field} must be true or false, not {value!r}.")
    return value


def _seeds(given: Mapping[str, Any]) -> tuple[int, ...]:
    value = given.get("seeds", 4)
    seeds = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    whole = isinstance(seeds, list) and all(
        isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in cast("list[Any]", seeds)
    )
    if not whole or not seeds or len(set(cast("list[int]", seeds))) < len(cast("list[int]", seeds)):
        raise OptionError(f"seeds must be a number above 0, or a list of whole numbers, each once, not {value!r}.")
    return tuple(cast("list[int]", seeds))
