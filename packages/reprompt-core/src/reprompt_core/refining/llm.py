"""The LLM refiner: any OpenAI-compatible model writes the prompt; code decides whether it may be used."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..database import Database
from ..encoder import Encoder
from ..errors import DatabaseError
from ..knowledge import Knowledge
from ..settings import Settings
from ..tasks import end
from ..types import Attempt, Brief, Candidate, Mode, MusicPlan, Trace
from .answer import Answer, AnswerError, answer_schema, parse_answer
from .checks import Checks, Problem
from .endpoint import Endpoint, ModelError
from .memory import Memory, question
from .messages import TEMPLATE, first_messages, repair_messages, system_text

__all__ = ["LlmRefiner", "Refined"]

_MARGIN_S = 0.03  # after the deadline: for ranking what arrived before it
_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Refined:
    """What a model made of a brief; without a chosen candidate the warning says why."""

    trace: Trace
    chosen: Candidate | None = None
    warning: str = ""


class LlmRefiner:
    """Asks a model for a better plan and a prompt. Never raises because of the model, never outlasts its deadline."""

    def __init__(self, settings: Settings, *, knowledge: Knowledge, encoder: Encoder, database: Database) -> None:
        self._settings, self._knowledge, self._encoder = settings, knowledge, encoder
        self._endpoint = Endpoint(settings)
        self._checks = Checks(knowledge, system=system_text())
        self._memory = Memory(database, size=settings.llm_cache_size, days=settings.llm_cache_days)
        self._flights: dict[bytes, _Flight] = {}  # those that others may join
        self._tasks: set[asyncio.Task[Refined]] = set()

    async def close(self) -> None:
        """Ends what is under way and closes the connections."""
        await end(*self._tasks)
        await self._endpoint.close()

    async def refine(self, brief: Brief, *, mode: Mode, n: int, seed: int, fresh: bool, deadline: float) -> Refined:
        """The best of `n` answers, or why there is none.

        Args:
            brief: what the model is told.
            mode: part of the question that a kept answer must match.
            n: candidates.
            seed: another seed, another answer.
            fresh: ask even if an answer is kept; the new one is kept instead.
            deadline: of `time.monotonic()`.
        """
        key = question(
            words=brief.words,
            mode=mode,
            model=self._endpoint.model,
            server=self._settings.llm_base_url,
            temperature=self._settings.llm_temperature,
            template=TEMPLATE,
            knowledge=self._knowledge.version,
            captions=[c.text for c in brief.captions],
            seed=seed,
            n=n,
        )
        flight = None if fresh else self._flights.get(key)
        if flight is None:
            task = asyncio.create_task(self._fly(key, brief, n=n, seed=seed, fresh=fresh, deadline=deadline))
            flight = _Flight(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if not fresh:
                self._flights[key] = flight
                task.add_done_callback(lambda _: self._forget(flight))
        return await self._wait(flight, deadline)

    def _forget(self, flight: "_Flight") -> None:
        """Nobody is to join it any more."""
        self._flights = {k: f for k, f in self._flights.items() if f is not flight}

    async def _wait(self, flight: "_Flight", deadline: float) -> Refined:
        """Waits with the others who asked the same; the last to leave ends the work, and does not wait for its end."""
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task], timeout=max(0.0, deadline + _MARGIN_S - time.monotonic()))
            if flight.task.done() and not flight.task.cancelled():
                return flight.task.result()
            return self._failed(f"no answer within {self._settings.llm_timeout_s:g} s")
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                self._forget(flight)

    async def _fly(self, key: bytes, brief: Brief, *, n: int, seed: int, fresh: bool, deadline: float) -> Refined:
        if not fresh and (kept := await self._recall(key, brief)):
            return kept
        attempts: list[Attempt] = []
        asked = [
            self._candidate(brief, number, (brief.seed + seed + number) % _SEEDS, attempts, deadline)
            for number in range(n)
        ]
        outcomes = await asyncio.gather(*asked)
        found = [o for o in outcomes if not isinstance(o, str)]
        if not found:
            reasons = dict.fromkeys(o for o in outcomes if isinstance(o, str))
            return self._failed("; ".join(reasons), attempts)
        candidates = await self._ranked(brief, found)
        with suppress(DatabaseError):  # the answer is as good without being kept
            await self._memory.keep(key, [asdict(c) for c in candidates])
        return Refined(self._trace(attempts=attempts, candidates=candidates), candidates[0])

    async def _candidate(
        self, brief: Brief, number: int, seed: int, attempts: list[Attempt], deadline: float
    ) -> tuple[MusicPlan, str] | str:
        """A plan and a prompt that pass all checks, after one repair at most; else why there are none."""
        messages = first_messages(brief)
        problems: tuple[Problem, ...] = ()
        for repair in (False, True):
            started = time.monotonic()

            def note(
                outcome: str, failed: Sequence[Problem] = (), *, at: float = started, again: bool = repair
            ) -> None:
                names = tuple(dict.fromkeys(p.name for p in failed))
                attempts.append(Attempt(number, again, outcome, names, round(1000 * (time.monotonic() - at), 1)))

            try:
                text = await self._endpoint.complete(messages, schema=answer_schema(), seed=seed, deadline=deadline)
            except ModelError as e:
                note(str(e))
                return str(e)
            answer, problems = self._look_at(text, brief)
            if answer is not None and not problems:
                note("accepted")
                return answer.plan(brief.plan.exclude), answer.prompt.strip()
            note("failed checks", problems)
            messages = repair_messages(brief, text, [p.tell for p in problems])
        return f"its answer failed these checks twice: {', '.join(dict.fromkeys(p.name for p in problems))}"

    def _look_at(self, text: str, brief: Brief) -> tuple[Answer | None, tuple[Problem, ...]]:
        try:
            answer = parse_answer(text)
        except AnswerError as e:
            return None, (Problem("schema", str(e)),)
        return answer, self._checks.problems(answer.plan(brief.plan.exclude), answer.prompt.strip(), brief)

    async def _ranked(self, brief: Brief, found: Sequence[tuple[MusicPlan, str]]) -> list[Candidate]:
        """The candidates, best first: half the meaning of the words that is kept, half the rules plan."""
        unlike = dict.fromkeys(found)
        vectors, _ = await asyncio.to_thread(self._encoder.encode, [brief.words, *(prompt for _, prompt in unlike)])
        near = vectors[1:] @ vectors[0]  # [candidates]
        scored = [
            Candidate(prompt, plan, round(0.5 * max(0.0, float(cosine)) + 0.5 * _agreement(plan, brief.plan), 4))
            for (plan, prompt), cosine in zip(unlike, near, strict=True)
        ]
        best, *others = sorted(scored, key=lambda c: (-c.score, c.prompt))
        return [replace(best, chosen=True), *others]

    async def _recall(self, key: bytes, brief: Brief) -> Refined | None:
        """The kept answer, if there is one and it passes the checks of today."""
        with suppress(DatabaseError):
            kept = await self._memory.recall(key)
            candidates = _restored(kept, brief.plan.exclude) if kept else []
            if candidates and not any(self._checks.problems(c.plan, c.prompt, brief) for c in candidates):
                return Refined(self._trace(cached=True, candidates=candidates), candidates[0])
        return None

    def _failed(self, why: str, attempts: Sequence[Attempt] = ()) -> Refined:
        warning = f"The language model did not write this prompt, the rules did: {why}."
        return Refined(self._trace(attempts=attempts), warning=warning)

    def _trace(
        self, *, cached: bool = False, attempts: Sequence[Attempt] = (), candidates: Sequence[Candidate] = ()
    ) -> Trace:
        return Trace(
            model=self._endpoint.model,
            server=self._endpoint.server,
            template=TEMPLATE,
            structured=self._endpoint.structured,
            cached=cached,
            attempts=tuple(attempts),
            candidates=tuple(candidates),
        )


class _Flight:
    """A question under way, and how many wait for its answer."""

    def __init__(self, task: "asyncio.Task[Refined]") -> None:
        self.task = task
        self.waiting = 0


def _agreement(plan: MusicPlan, rules: MusicPlan) -> float:
    """The share of the rules plan's values that a plan keeps; a tempo within a tenth is kept."""
    names = [f.name for f in fields(MusicPlan) if f.name not in {"tempo_bpm", "exclude", "rhythm"}]
    kept = sum(_same(getattr(plan, name), getattr(rules, name)) for name in names)
    kept += abs(plan.tempo_bpm - rules.tempo_bpm) <= 0.1 * rules.tempo_bpm
    return kept / (len(names) + 1)


def _same(ours: Any, theirs: Any) -> float:
    """1 for equal values; for lists the share of theirs that is in ours."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(set(ours) & set(theirs)) / len(theirs) if theirs else 1.0
    return float(ours == theirs)


def _restored(kept: Any, exclude: tuple[str, ...]) -> list[Candidate]:
    """Candidates from their kept form, the first chosen; none when it is of another shape."""
    try:
        candidates = [_candidate(c["plan"] | {"prompt": c["prompt"]}, float(c["score"]), exclude) for c in kept]
    except (KeyError, TypeError, ValueError):
        return []
    return [replace(c, chosen=i == 0) for i, c in enumerate(candidates)]


def _candidate(kept: dict[str, Any], score: float, exclude: tuple[str, ...]) -> Candidate:
    if not 0 <= score <= 1:
        raise ValueError
    answer = Answer.model_validate({name: value for name, value in kept.items() if name != "exclude"})
    return Candidate(answer.prompt, answer.plan(exclude), score)
