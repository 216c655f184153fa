"""An experiment from its plan to its scores, in one folder; taken up again where it was left.

Prompts of every arm, audio of every prompt, arm and seed, then all cells of text x audio and the shuffled control.
"""

import asyncio
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, cast

from reprompt_core import CaptionFilter, Pipeline, RepromptError

from .errors import AudioFileError, EvalError, RunFolderError, TextError
from .plan import Arm, ExperimentPlan
from .run_folder import Prompt
from .scores import BASELINE
from .sources import source_of

__all__ = ["Experiment", "Progress"]

_AT_ONCE = 32  # generations asked for
_PACKAGES = (
    "reprompt-core", "reprompt-eval", "laion-clap", "librosa", "numpy", "scipy", "statsmodels", "torch", "transformers",
)  # fmt: skip
Progress = Callable[[str, int, int], None]
"""Called with a step's name, how many are done, and of how many."""


class _Piece(NamedTuple):
    prompt: Prompt
    arm: Arm
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.prompt.id, self.arm.name, self.seed


class Experiment:
    """A run.

    Args:
        plan: checked.
        folder: where everything goes; of this plan, or new.
        progress: told how far it is.

    Raises:
        RunFolderError: the folder holds another plan's run, or cannot be written.
    """

    def __init__(self, plan: ExperimentPlan, folder: str | Path, *, progress: Progress | None = None) -> None:
        self.plan, self.folder = plan, Path(folder)
        self._progress = progress or _quiet
        kept = self.folder / "plan.toml"
        try:
            (self.folder / "audio").mkdir(parents=True, exist_ok=True)
            if kept.is_file() and kept.read_text("utf-8") != plan.text:
                raise RunFolderError(f"{self.folder} holds the run of another plan: give another folder with --output.")
            _write(kept, plan.text)
        except OSError as e:
            raise RunFolderError(f"{self.folder} cannot be written: {e.strerror or e}.") from e

    async def run(self) -> None:
        """Everything that is not there yet.

        Raises:
            EvalError: what cannot be done; single failures stand in the results instead.
        """
        try:
            async with Pipeline() as pipeline:
                prompts = await self._write_prompts(pipeline)
                await self._make_audio(prompts, pipeline)
                await asyncio.to_thread(self._measure, prompts, pipeline)
        except RepromptError as e:
            raise EvalError(str(e)) from e
        await asyncio.to_thread(self._score, prompts)
        self._keep_versions()

    # -- prompts -------------------------------------------------------------------------------------------------

    async def _write_prompts(self, pipeline: Pipeline) -> list[dict[str, Any]]:
        """Each prompt with what every arm makes of its words, and the plans."""
        path = self.folder / "prompts.jsonl"
        kept = {row["id"]: row for row in _lines(path)}
        rows: list[dict[str, Any]] = []
        for number, prompt in enumerate(self.plan.prompts):
            row = kept.get(prompt.id) or {"id": prompt.id, "words": prompt.words, "prompts": {}, **prompt.columns}
            if row["words"] != prompt.words:
                raise RunFolderError(f"{path}: prompt {prompt.id} had other words; give another folder with --output.")
            plans: dict[str, Any] = row.setdefault("_plans", {})
            for arm in self.plan.arms:
                if arm.name not in row["prompts"]:
                    captions = CaptionFilter() if arm.captions else CaptionFilter(corpora=())
                    answer = await pipeline.reprompt(
                        prompt.words, mode=arm.mode, refiner=arm.refiner, captions=captions
                    )
                    if arm.refiner == "llm" and answer.refiner != "llm":
                        raise EvalError(
                            f"The language model did not answer for {prompt.id}: {'; '.join(answer.warnings)}"
                        )
                    row["prompts"][arm.name] = answer.prompt
                    plans[arm.name] = answer.to_dict()["plan"]
            rows.append(row)
            self._progress("prompts", number + 1, len(self.plan.prompts))
        _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return rows

    # -- audio ---------------------------------------------------------------------------------------------------

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def _pieces(self) -> Iterator[_Piece]:
        for prompt in self.plan.prompts:
            for seed in self.plan.seeds:
                for arm in self.plan.arms:
                    yield _Piece(prompt, arm, seed)

    def _made(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """The audio that is there, as the manifest says and the files bear out."""
        return {k: row for k, row in self._told().items() if row.get("path") and self._is_whole(row)}

    def _told(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """What the manifest says of each audio; of one that was made again the last line counts."""
        told: dict[tuple[str, str, int], dict[str, Any]] = {}
        for row in _lines(self._manifest):
            with suppress(KeyError, TypeError, ValueError):  # a line that is none of ours
                told[row["prompt_id"], row["arm"], int(row["seed"])] = row
        return told

    def _missing(self) -> dict[tuple[str, str, int], str]:
        """Why there is no audio, of each piece that has none."""
        made, told = self._made(), self._told()
        missing = [piece.key for piece in self._pieces() if piece.key not in made]
        return {k: str(told.get(k, {}).get("error") or "There is no audio.") for k in missing}

    def _is_whole(self, row: dict[str, Any]) -> bool:
        path = self.folder / row["path"]
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == row.get("sha256")

    async def _make_audio(self, prompts: Sequence[dict[str, Any]], pipeline: Pipeline) -> None:
        texts = {row["id"]: row["prompts"] for row in prompts}
        if await asyncio.to_thread(self._manifest.is_file):  # without the line that a kill cut off
            _write(
                self._manifest, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _lines(self._manifest))
            )
        made = await asyncio.to_thread(self._made)
        missing = [piece for piece in self._pieces() if piece.key not in made]
        total, done = sum(1 for _ in self._pieces()), len(made)
        self._progress("audio", done, total)
        if not missing:
            return
        run = hashlib.sha256(f"{self.folder.resolve()}\n{self.plan.text}".encode()).hexdigest()
        slots = asyncio.Semaphore(_AT_ONCE)
        async with source_of(self.plan.generator, pipeline=pipeline, run=run) as source:

            async def make(piece: _Piece) -> None:
                nonlocal done
                async with slots:
                    row: dict[str, Any] = {"prompt_id": piece.prompt.id, "arm": piece.arm.name, "seed": piece.seed}
                    try:
                        text = texts[piece.prompt.id][piece.arm.name]
                        content, suffix = await source.audio(
                            piece.prompt, text, piece.arm, piece.seed, self.plan.seconds
                        )
                        name = f"audio/{piece.prompt.id}-{piece.arm.name}-{piece.seed}{suffix}"
                        await asyncio.to_thread(self._keep, name, content)
                        row |= {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "made_by": source.name}
                    except AudioFileError as e:
                        row["error"] = str(e)
                    _append(self._manifest, row)
                    done += 1
                    self._progress("audio", done, total)

            try:
                async with asyncio.TaskGroup() as group:
                    for piece in missing:
                        group.create_task(make(piece))
            except ExceptionGroup as e:  # one of ours is told as any other
                if (ours := e.subgroup(EvalError)) is None:
                    raise
                raise _first(ours) from e

    def _keep(self, name: str, content: bytes) -> None:
        try:
            _write_bytes(self.folder / name, content)
        except OSError as e:
            raise RunFolderError(f"{self.folder / name} cannot be written: {e.strerror or e}.") from e

    # -- scores --------------------------------------------------------------------------------------------------

    def _score(self, prompts: Sequence[dict[str, Any]]) -> None:
        """All four cells and the shuffled control, by every checkpoint."""
        if not self.plan.checkpoints:
            return
        from .clap import ClapScorer

        rows: list[dict[str, Any]] = []
        for checkpoint in self.plan.checkpoints:
            scorer = ClapScorer.load(checkpoint, tokenizer=self.plan.tokenizer, cache=self.folder / "embeddings")
            rows += self._cells(prompts, scorer, Path(checkpoint).name)
        _write_parquet(self.folder / "scores.parquet", rows)

    def _cells(self, prompts: Sequence[dict[str, Any]], scorer: Any, checkpoint: str) -> Iterable[dict[str, Any]]:
        from .clap import cosine

        made, missing, pieces = self._made(), self._missing(), list(self._pieces())
        there = [p for p in pieces if p.key in made]
        sounds: dict[tuple[str, str, int], Any] = {}
        paths = [self.folder / made[p.key]["path"] for p in there]
        for number, (piece, found) in enumerate(zip(there, scorer.embed_files(paths), strict=True)):
            sounds[piece.key] = found
            self._progress(f"scores, {checkpoint}", number + 1, len(there))
        vectors: dict[str, Any] = {}
        for text in {t for row in prompts for t in (row["words"], *row["prompts"].values())}:
            try:
                vectors[text] = scorer.embed_texts([text])[0]
            except TextError as e:
                vectors[text] = e
        words = {row["id"]: row["words"] for row in prompts}
        others = _shuffled([row["id"] for row in prompts])
        written = {row["id"]: row["prompts"] for row in prompts}
        for piece in pieces:
            id, arm = piece.prompt.id, piece.arm.name
            sound = sounds.get(piece.key) or AudioFileError(missing[piece.key])
            refined = [a.name for a in self.plan.arms if a.name != BASELINE] if arm == BASELINE else [arm]
            held = [("own", "", words[id]), ("shuffled", others[id], words[others[id]])]
            held += [("refined", by, written[id][by]) for by in refined]
            for kind, of, text in held:
                row: dict[str, Any] = {
                    "prompt_id": id, "arm": arm, "seed": str(piece.seed), "text": kind, "text_of": of,
                    "checkpoint": checkpoint, "score": None, "error": "",
                }  # fmt: skip
                if isinstance(sound, EvalError) or isinstance(vectors[text], EvalError):
                    row["error"] = str(sound if isinstance(sound, EvalError) else vectors[text])
                else:
                    row["score"] = cosine(vectors[text], sound.vector)
                yield row

    def _measure(self, prompts: Sequence[dict[str, Any]], pipeline: Pipeline) -> None:
        from .measuring import measure_run

        made = {key: self.folder / row["path"] for key, row in self._made().items()}
        found = measure_run(
            prompts, made, [a.name for a in self.plan.arms], encoder=pipeline.encoder, knowledge=pipeline.knowledge,
            progress=lambda done, total: self._progress("measures", done, total),
        )  # fmt: skip
        found["left_out"] += [
            {"file": "-".join(map(str, key)), "reason": why} for key, why in sorted(self._missing().items())
        ]
        _write(self.folder / "measures.json", json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False))

    def _keep_versions(self) -> None:
        found = {"python": platform.python_version()}
        for name in _PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        makers = sorted({str(row["made_by"]) for row in _lines(self._manifest) if row.get("made_by")})
        found["audio made by"] = ", ".join(makers)
        _write(self.folder / "versions.json", json.dumps(found, indent=1))


def _quiet(step: str, done: int, total: int) -> None:
    pass


def _shuffled(ids: Sequence[str]) -> dict[str, str]:
    """For each prompt another one: the same ones every time, by a turn of the ids in the order of their hashes."""
    order = sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; a line that a kill cut off is not there."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):  # as bytes: a kill may have cut a character, and words may hold U+2028
        with suppress(ValueError):
            row: Any = json.loads(line)
            if isinstance(row, dict):
                rows.append(cast("dict[str, Any]", row))
    return rows


def _first(group: ExceptionGroup[EvalError]) -> EvalError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    columns = [(n, text) for n in ("prompt_id", "arm", "seed", "text", "text_of", "checkpoint")]
    schema = pa.schema([*columns, ("score", pa.float64()), ("error", text)])
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), beside)
    beside.replace(path)
