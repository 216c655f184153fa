"""The pipeline: the steps from words to prompt, in order, and the sync face of the same code."""

import asyncio
import atexit
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from .captions import Captions
from .corpora.concepts import own_concepts
from .database import Database
from .encoder import Encoder, find_bundle
from .errors import PromptError, RepromptError, SettingsError
from .knowledge import Concept, Knowledge
from .phrases import telling
from .planning import Planner, music_words, seed_of
from .reasons import model_reasons
from .refining import write_prompt
from .refining.tokens import MAX_TOKENS, estimated_tokens
from .senses import Reader, Reading
from .settings import Settings
from .stated import read_stated
from .types import Brief, CaptionFilter, Emotion, Mode, MusicPlan, Reason, Reprompt, Senses
from .words import Words, plain

if TYPE_CHECKING:
    from .refining.llm import LlmRefiner

__all__ = ["Pipeline", "Refiner", "reprompt", "transform"]

Refiner = Literal["auto", "llm", "rules"]
_T = TypeVar("_T")
_BATCH = 32  # texts encoded at once by `reprompt_many`
_MOST_CANDIDATES = 8
_ANY_CAPTION = CaptionFilter()


@dataclass(frozen=True, slots=True)
class _Options:
    """How an answer is to be made; checked when made."""

    mode: Mode
    refiner: Refiner
    n: int
    seed: int
    fresh: bool
    captions: CaptionFilter

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise SettingsError(f"Mode {self.mode!r} is unknown: rewrite, append or off.")
        if self.refiner not in get_args(Refiner):
            raise SettingsError(f"Refiner {self.refiner!r} is unknown: {', '.join(get_args(Refiner))}.")
        if not 1 <= self.n <= _MOST_CANDIDATES:
            raise SettingsError(f"n is {self.n}: from 1 to {_MOST_CANDIDATES} candidates can be asked for.")
        if self.seed < 0:
            raise SettingsError(f"The seed is {self.seed}: give 0 or more.")


class Pipeline:
    """Words in, `Reprompt` out. The only place that knows the order of the steps.

        async with Pipeline(Settings()) as p:
            r = await p.reprompt("a bowl of ramen under neon signs")

    Raises (on entering):
        EncoderError, DatabaseError: with the setting to change.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._database: Database | None = None
        self._llm: LlmRefiner | None = None

    async def __aenter__(self) -> "Pipeline":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Loads the encoder and the knowledge while the database starts."""
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        try:
            self._database = await Database.open(self.settings)
        finally:
            with suppress(RepromptError):
                await loading
        try:
            self._encoder, self._knowledge = loading.result()
            await self._database.sync_captions(self._knowledge, self._encoder)
            if extra := await own_concepts(self._database, self._knowledge):
                self._knowledge = await asyncio.to_thread(self._extend, extra)
        except BaseException:
            await self.close()
            raise
        self._reader = Reader(self._knowledge, self._encoder)
        self._captions = Captions(self._database, self._encoder, self._knowledge)
        self._planner = Planner(self._knowledge)
        if self.settings.llm_model is not None:
            from .refining.llm import LlmRefiner  # a quarter of a second of imports: only when a model is configured

            self._llm = LlmRefiner(
                self.settings, knowledge=self._knowledge, encoder=self._encoder, database=self._database
            )

    async def close(self) -> None:
        """Ends what is under way with a language model, and gives the database back."""
        if self._llm is not None:
            await self._llm.close()
            self._llm = None
        if self._database is not None:
            await self._database.close()
            self._database = None

    @property
    def knowledge(self) -> Knowledge:
        """The knowledge of an opened pipeline."""
        return self._knowledge

    @property
    def encoder(self) -> Encoder:
        """The encoder of an opened pipeline."""
        return self._encoder

    @property
    def database(self) -> Database:
        """The database of an opened pipeline."""
        if self._database is None:
            raise RepromptError("The pipeline is not open: use `async with Pipeline() as p`, or `await p.open()`.")
        return self._database

    def _check_open(self, options: _Options) -> None:
        _ = self.database
        if options.refiner == "llm" and self._llm is None:
            raise SettingsError('Refiner "llm" needs a language model: set REPROMPT_LLM_MODEL (see docs/llm.md).')

    def _load(self) -> tuple[Encoder, Knowledge]:
        encoder = Encoder(find_bundle(self.settings), threads=self.settings.threads)
        knowledge = Knowledge.load(encoder, cache_dir=self.settings.cache_dir)
        _ = knowledge.lexicon  # built here, while the database starts
        if self.settings.llm_model is not None:
            from .refining import llm  # noqa: F401  # pyright: ignore[reportUnusedImport]  # most of a second, here rather than in the first answer
        return encoder, knowledge

    def _extend(self, concepts: Sequence[Concept]) -> Knowledge:
        knowledge = self._knowledge.with_concepts(concepts, self._encoder)
        _ = knowledge.lexicon  # built here rather than in the first answer
        return knowledge

    async def reprompt(
        self,
        words: str,
        *,
        mode: Mode = "rewrite",
        refiner: Refiner = "auto",
        n: int = 1,
        seed: int = 0,
        fresh: bool = False,
        captions: CaptionFilter = _ANY_CAPTION,
    ) -> Reprompt:
        """The music prompt for a person's words, with everything between.

        Args:
            words: a scene, a mood, a dish, or music talk; at most 2,000 characters.
            mode: rewrite the words, append the music to them, or leave them as they are ("off").
            refiner: who writes the prompt: a language model ("llm"), the rules, or the model if one is configured,
                else the rules ("auto"). Where the model fails the rules write it, and a warning says why.
            n: candidates that the model is asked for, 1 to 8; the best is chosen.
            seed: of the model's answer: another seed, another answer.
            fresh: ask the model even if it answered the same before.
            captions: which captions may be found and lean the plan.

        Raises:
            PromptError: the words cannot be used.
            SettingsError: an unknown mode or refiner, or "llm" with no model configured.
            DatabaseError: the database went away.
            CorpusError: a corpus or licence that `captions` names is not there.
        """
        options = _Options(mode, refiner, n, seed, fresh, captions)
        started = time.perf_counter()
        checked = Words.check(words)
        self._check_open(options)
        reading = await asyncio.to_thread(self._reader.read, checked)
        return await self._answer(checked, reading, options, started, time.perf_counter() - started)

    async def reprompt_many(
        self,
        texts: Sequence[str],
        *,
        mode: Mode = "rewrite",
        refiner: Refiner = "auto",
        n: int = 1,
        seed: int = 0,
        fresh: bool = False,
        captions: CaptionFilter = _ANY_CAPTION,
    ) -> list[Reprompt | PromptError]:
        """The same for several texts, faster; a text that cannot be used gives its error in its place."""
        options = _Options(mode, refiner, n, seed, fresh, captions)
        self._check_open(options)
        batches = [[_checked(t) for t in texts[i : i + _BATCH]] for i in range(0, len(texts), _BATCH)]
        answers: list[Reprompt | PromptError] = []
        reading: asyncio.Task[tuple[list[Reading], float]] | None = None
        try:
            for number, batch in enumerate(batches):
                readings, each = await (reading or self._read(batch))
                # the next batch is read while this one is answered
                following = batches[number + 1 : number + 2]
                reading = asyncio.create_task(self._read(following[0])) if following else None
                answers += await self._answer_batch(batch, readings, each, options)
        finally:
            if reading is not None and not reading.done():
                await asyncio.wait([reading])
        return answers

    async def literal_plan(self, words: str) -> tuple[MusicPlan, tuple[Reason, ...]]:
        """The plan of the music words alone that the person used: what is left of the words without rewriting.

        Raises:
            PromptError: the words cannot be used.
        """
        checked = Words.check(words)
        reading = await asyncio.to_thread(self._reader.read, checked)
        stated = read_stated(checked, reading.senses, self._knowledge)
        nothing = Senses((), (), {}, Emotion(0.0, 0.0))
        return self._planner.plan(senses=nothing, stated=stated, captions=(), votes=(), seed=seed_of(checked))

    async def _read(self, batch: Sequence[Words | PromptError]) -> tuple[list[Reading], float]:
        """The readings of the usable texts, and the seconds that each took."""
        started = time.perf_counter()
        good = [c for c in batch if isinstance(c, Words)]
        readings = await asyncio.to_thread(self._reader.read_many, good)
        return readings, (time.perf_counter() - started) / max(len(good), 1)

    async def _answer_batch(
        self, checked: Sequence[Words | PromptError], readings: Sequence[Reading], each: float, options: _Options
    ) -> list[Reprompt | PromptError]:
        good = [c for c in checked if isinstance(c, Words)]
        tasks: list[asyncio.Task[Reprompt]] = []
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:  # when one fails, the others are not left behind
                tasks += [
                    group.create_task(self._answer(w, r, options, time.perf_counter() - each, each))
                    for w, r in zip(good, readings, strict=True)
                ]
        except* RepromptError as failures:
            failure = failures.exceptions[0]
        if failure is not None:  # raised up there it would come in a group
            raise failure from None
        answered = iter([task.result() for task in tasks])
        return [next(answered) if isinstance(c, Words) else c for c in checked]

    async def _answer(
        self, words: Words, reading: Reading, options: _Options, started: float, read_s: float
    ) -> Reprompt:
        """Everything after the senses."""
        clock = _Clock(read_s)
        senses, seed = reading.senses, seed_of(words)
        stated = read_stated(words, senses, self._knowledge)
        votes = self._planner.votes(senses)
        moods = self._planner.moods(senses, seed=seed)
        clock.lap("planning")
        captions = await self._captions.near(
            terms=" ".join(telling(words)),
            vector=reading.vector,
            music_words=music_words(votes, moods),
            wanted=options.captions,
        )
        clock.lap("captions")
        plan, reasons = self._planner.plan(senses=senses, stated=stated, captions=captions, votes=votes, seed=seed)
        clock.lap("planning")
        brief = Brief(words.text, words.language, senses, stated, captions, plan, reasons, seed)
        written, warnings, refiner, trace = write_prompt(brief), list[str](), "rules", None
        if self._llm is not None and options.refiner != "rules" and options.mode != "off":
            refined = await self._llm.refine(
                brief,
                mode=options.mode,
                n=options.n,
                seed=options.seed,
                fresh=options.fresh,
                deadline=time.monotonic() + self.settings.llm_timeout_s - (time.perf_counter() - started),
            )
            trace = refined.trace
            if refined.chosen is None:
                warnings.append(refined.warning)
            else:
                refiner, written = "llm", refined.chosen.prompt
                reasons = model_reasons(reasons, plan, refined.chosen.plan, model=trace.model)
                plan = refined.chosen.plan
        clock.lap("refining")
        prompt, notes = _by_mode(words, written, options.mode)
        return Reprompt(
            words=words.text,
            prompt=prompt,
            mode=options.mode,
            refiner=refiner,
            language=words.language,
            tastes=senses.tastes,
            emotion=senses.emotion,
            mentions=senses.mentions,
            descriptors=senses.descriptors,
            captions=captions,
            plan=plan,
            reasons=reasons,
            warnings=(*reading.warnings, *_language_warning(words), *warnings, *notes),
            timings_ms={**clock.laps, "total": round(1000 * (time.perf_counter() - started), 2)},
            trace=trace,
        )


class _Clock:
    def __init__(self, read_s: float) -> None:
        self.laps = {"senses": round(1000 * read_s, 2)}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + 1000 * (now - self._last), 2)
        self._last = now


def _checked(text: str) -> Words | PromptError:
    try:
        return Words.check(text)
    except PromptError as e:
        return e


def _by_mode(words: Words, written: str, mode: Mode) -> tuple[str, list[str]]:
    """(the prompt, warnings): the words alone, the words with the music after them, or the music."""
    if mode == "off":
        return words.text, []
    if mode == "rewrite":
        return written, []
    said = plain(words.text).rstrip(" .,;")
    prompt = f"{said}. {written}" if said else written
    if estimated_tokens(prompt) > MAX_TOKENS:
        return prompt, [f"The words and the music together may exceed {MAX_TOKENS} tokens; CLAP reads no more."]
    return prompt, []


def _language_warning(words: Words) -> list[str]:
    if words.language in {"en", "es", "und"}:
        return []
    return [f"The words seem to be in language {words.language!r}; English and Spanish are understood best."]


# -- the sync face -----------------------------------------------------------------------------------------------


class _Background:
    """One pipeline on an event loop of its own thread, so that sync callers work where a loop already runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pipeline: Pipeline | None = None

    def run(self, make: Callable[[Pipeline], Coroutine[Any, Any, _T]]) -> _T:
        with self._lock:
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="reprompt", daemon=True).start()
                atexit.register(self.close)
            if self._pipeline is None:
                pipeline = Pipeline()
                self._wait(loop, pipeline.open())
                self._pipeline = pipeline
        return self._wait(loop, make(self._pipeline))

    @staticmethod
    def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def close(self) -> None:
        with self._lock:
            if self._loop is not None and self._pipeline is not None:
                with suppress(Exception):
                    self._wait(self._loop, self._pipeline.close())
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = self._pipeline = None


_background = _Background()


def reprompt(
    words: str,
    *,
    mode: Mode = "rewrite",
    refiner: Refiner = "auto",
    n: int = 1,
    seed: int = 0,
    fresh: bool = False,
    captions: CaptionFilter = _ANY_CAPTION,
) -> Reprompt:
    """`Pipeline.reprompt` for code without an event loop, or inside one (a notebook).

    The pipeline is opened at the first call, with `Settings()`, and kept until the process ends.
    """
    Words.check(words)
    _Options(mode, refiner, n, seed, fresh, captions)
    return _background.run(
        lambda pipeline: pipeline.reprompt(
            words, mode=mode, refiner=refiner, n=n, seed=seed, fresh=fresh, captions=captions
        )
    )


def transform(prompt: str) -> str:
    """The music prompt for a person's words: the contract of the original Audio Reprompt wheel."""
    return reprompt(prompt).prompt
