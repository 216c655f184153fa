"""An experiment from its plan to its scores, in one folder; taken up again where it was left.

Prompts of every arm, audio of every prompt, arm and seed, then all cells of text x audio and the shuffled control.
"""

import asyncio
import hashlib
import json
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from reprompt_core import Pipeline, RepromptError

from .errors import AudioFileError, EvalError, RunFolderError, TextError
from .kept import append_row, read_rows, write_bytes, write_rows, write_scores, write_text
from .plan import Arm, ExperimentPlan
from .run_folder import UNWRITTEN, Prompt
from .scores import BASELINE
from .sources import Source, source_of
from .writing import WRITER, write_prompts

__all__ = ["Experiment", "Progress"]

_AT_ONCE = 32  # generations asked for
_TOO_LONG = "The text is over the 77 tokens that CLAP reads; split_texts in a plan has such texts read in parts."
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

    @property
    def named(self) -> dict[str, Any]:
        return {"prompt_id": self.prompt.id, "arm": self.arm.name, "seed": self.seed}


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
        self._progress, self._interrupted = progress or _quiet, threading.Event()
        kept = self.folder / "plan.toml"
        try:
            (self.folder / "audio").mkdir(parents=True, exist_ok=True)
            if kept.is_file() and kept.read_text("utf-8") != plan.text:
                raise RunFolderError(f"{self.folder} holds the run of another plan: give another folder with --output.")
            write_text(kept, plan.text)
        except OSError as e:
            raise RunFolderError(f"{self.folder} cannot be written: {e.strerror or e}.") from e

    async def run(self) -> None:
        """Everything that is not there yet.

        Raises:
            EvalError: what cannot be done; single failures stand in the results instead.
        """
        try:
            async with Pipeline() as pipeline:
                prompts = await write_prompts(
                    self.plan,
                    self.folder / "prompts.jsonl",
                    pipeline,
                    progress=lambda done, total: self._tell("prompts", done, total),
                )
                await self._make_audio(prompts, pipeline)
                await self._in_thread(self._measure, prompts, pipeline)
        except RepromptError as e:
            raise EvalError(str(e)) from e
        await self._in_thread(self._score, prompts)
        self._keep_versions(prompts)

    async def _in_thread(self, work: Callable[..., None], *args: Any) -> None:
        """Long work, which ends at its next file when the run is interrupted."""
        try:
            await asyncio.to_thread(work, *args)
        except asyncio.CancelledError:
            self._interrupted.set()
            raise

    def _tell(self, step: str, done: int, total: int) -> None:
        if self._interrupted.is_set():  # nobody waits for it any more
            raise EvalError("The run was interrupted.")
        self._progress(step, done, total)

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
        for row in read_rows(self._manifest):
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
        if await asyncio.to_thread(self._manifest.is_file):  # without the line that a kill cut off
            write_rows(self._manifest, read_rows(self._manifest))
        made = await asyncio.to_thread(self._made)
        missing = [piece for piece in self._pieces() if piece.key not in made]
        total, done = sum(1 for _ in self._pieces()), len(made)
        texts = {(row["id"], arm): text for row in prompts for arm, text in row["prompts"].items()}
        done += self._keep_unwritten(prompts, [p for p in missing if (p.prompt.id, p.arm.name) not in texts])
        missing = [p for p in missing if (p.prompt.id, p.arm.name) in texts]
        self._tell("audio", done, total)
        if not missing:
            return
        run = hashlib.sha256(f"{self.folder.resolve()}\n{self.plan.text}".encode()).hexdigest()
        slots = asyncio.Semaphore(_AT_ONCE)
        async with source_of(self.plan.generator, pipeline=pipeline, run=run) as source:

            async def make(piece: _Piece) -> None:
                nonlocal done
                async with slots:
                    row = await self._make(piece, texts[piece.prompt.id, piece.arm.name], source)
                    append_row(self._manifest, row)
                    done += 1
                    self._tell("audio", done, total)

            try:
                async with asyncio.TaskGroup() as group:
                    for piece in missing:
                        group.create_task(make(piece))
            except ExceptionGroup as e:  # one of ours is told as any other
                if (ours := e.subgroup(EvalError)) is None:
                    raise
                raise _first(ours) from e

    async def _make(self, piece: _Piece, text: str, source: Source) -> dict[str, Any]:
        """Its line of the manifest."""
        row = piece.named
        try:
            take = await source.audio(piece.prompt, text, piece.arm, piece.seed, self.plan.seconds)
        except AudioFileError as e:
            return row | {"error": str(e)}
        name = f"audio/{piece.prompt.id}-{piece.arm.name}-{piece.seed}{take.suffix}"
        await asyncio.to_thread(self._keep, name, take.content)
        return row | {"path": name, "sha256": hashlib.sha256(take.content).hexdigest(), "made_by": take.made_by}

    def _keep_unwritten(self, prompts: Sequence[dict[str, Any]], pieces: Sequence[_Piece]) -> int:
        """Says in the manifest why there is no prompt to make these from; how many they are."""
        why = {(row["id"], arm): reason for row in prompts for arm, reason in row.get(UNWRITTEN, {}).items()}
        told = self._told()
        for piece in pieces:
            reason = why[piece.prompt.id, piece.arm.name]
            if told.get(piece.key, {}).get("error") != reason:
                append_row(self._manifest, piece.named | {"error": reason})
        return len(pieces)

    def _keep(self, name: str, content: bytes) -> None:
        try:
            write_bytes(self.folder / name, content)
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
        write_scores(self.folder / "scores.parquet", rows)

    def _cells(self, prompts: Sequence[dict[str, Any]], scorer: Any, checkpoint: str) -> Iterable[dict[str, Any]]:
        from .clap import cosine

        made, missing, pieces = self._made(), self._missing(), list(self._pieces())
        there = [p for p in pieces if p.key in made]
        sounds: dict[tuple[str, str, int], Any] = {}
        paths = [self.folder / made[p.key]["path"] for p in there]
        for number, (piece, found) in enumerate(zip(there, scorer.embed_files(paths), strict=True)):
            sounds[piece.key] = found
            self._tell(f"scores, {checkpoint}", number + 1, len(there))
        vectors: dict[str, Any] = {}
        for text in {t for row in prompts for t in (row["words"], *row["prompts"].values())}:
            try:
                vectors[text] = scorer.embed_texts([text], split=self.plan.split_texts)[0]
            except TextError:
                vectors[text] = TextError(_TOO_LONG)
        words = {row["id"]: row["words"] for row in prompts}
        others = _shuffled([row["id"] for row in prompts])
        written = {row["id"]: row["prompts"] for row in prompts}
        unwritten = {row["id"]: row.get(UNWRITTEN, {}) for row in prompts}
        for piece in pieces:
            id, arm = piece.prompt.id, piece.arm.name
            sound = sounds.get(piece.key) or AudioFileError(missing[piece.key])
            refined = [a.name for a in self.plan.arms if a.name != BASELINE] if arm == BASELINE else [arm]
            held = [("own", "", words[id]), ("shuffled", others[id], words[others[id]])]
            held += [("refined", by, written[id].get(by, "")) for by in refined]
            for kind, of, text in held:
                row: dict[str, Any] = {
                    "prompt_id": id, "arm": arm, "seed": str(piece.seed), "text": kind, "text_of": of,
                    "checkpoint": checkpoint, "score": None, "error": "",
                }  # fmt: skip
                vector = vectors[text] if text else TextError(unwritten[id][of])
                if isinstance(sound, EvalError) or isinstance(vector, EvalError):
                    row["error"] = str(sound if isinstance(sound, EvalError) else vector)
                else:
                    row["score"] = cosine(vector, sound.vector)
                yield row

    def _measure(self, prompts: Sequence[dict[str, Any]], pipeline: Pipeline) -> None:
        from .measuring import measure_run

        made = {key: self.folder / row["path"] for key, row in self._made().items()}
        found = measure_run(
            prompts, made, [a.name for a in self.plan.arms], encoder=pipeline.encoder, knowledge=pipeline.knowledge,
            progress=lambda done, total: self._tell("measures", done, total),
        )  # fmt: skip
        found["left_out"] += [
            {"file": "-".join(map(str, key)), "reason": why} for key, why in sorted(self._missing().items())
        ]
        write_text(self.folder / "measures.json", json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False))

    def _keep_versions(self, prompts: Sequence[dict[str, Any]]) -> None:
        found = {"python": platform.python_version()}
        for name in _PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        makers = sorted({str(row["made_by"]) for row in self._made().values() if row.get("made_by")})
        found["audio made by"] = ", ".join(makers)
        writers = [w for row in prompts for w in row.get(WRITER, {}).values()]
        if writers:
            told = {f"{w['model']} at {w['server']}, messages {w['template']}" for w in writers}
            found["prompts of the llm arms by"] = "; ".join(sorted(told))
        write_text(self.folder / "versions.json", json.dumps(found, indent=1))


def _quiet(step: str, done: int, total: int) -> None:
    pass


def _shuffled(ids: Sequence[str]) -> dict[str, str]:
    """For each prompt another one: the same ones every time, by a turn of the ids in the order of their hashes."""
    order = sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _first(group: ExceptionGroup[EvalError]) -> EvalError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner
