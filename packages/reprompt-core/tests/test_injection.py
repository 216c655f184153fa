"""Hostile words, captions and concepts: whatever they demand, and whatever a model does about it, music comes out.

data/hostile.jsonl was written for this project. Each line says what an obedient model would answer (`demand`; $SYSTEM
stands for the system message, $KEY for the key) and a piece of it that must never come out (`canary`).
"""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reprompt_core import Caption, Pipeline, Reprompt, Settings
from reprompt_core.refining.checks import Checks
from reprompt_core.refining.messages import system_text
from reprompt_core.senses import Reading
from reprompt_core.testing import ModelReply, ModelRequest, ModelServer, says
from reprompt_core.types import Brief
from reprompt_core.words import Words

KEY = "sk-canary-7f3a9d"
ROWS: list[dict[str, str]] = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "hostile.jsonl").read_text("utf-8").splitlines()
]
INNOCENT = "A bowl of tomato soup on a rainy evening"
TURNS = 2 if os.environ.get("REPROMPT_SLOW") else 1  # ways of obeying that each line is tried with
WAYS = ("bare", "prompt", "after", "before", "within", "genre", "lead", "rhythm", "lists", "extra")


def demanded(row: dict[str, str]) -> str:
    if row["demand"] == "$SYSTEM":
        return " ".join(system_text().split()[40:90])
    return f"REPROMPT_LLM_API_KEY={KEY}" if row["demand"] == "$KEY" else row["demand"]


def leaks(row: dict[str, str], text: str) -> bool:
    """Whether a text holds what the attacker wants."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    if row["demand"] == "$SYSTEM":
        system = " ".join(re.findall(r"[a-z0-9]+", system_text().lower()))
        return any(" ".join(words[i : i + 7]) in system for i in range(len(words) - 6))
    canary = KEY if row["demand"] == "$KEY" else row["canary"]
    return canary.lower() in text.lower()


def brief_of(request: ModelRequest) -> dict[str, Any]:
    sent = request.body["messages"][1]["content"]
    return json.loads(sent.removeprefix("<brief>\n").removesuffix("\n</brief>"))


def honest(brief: dict[str, Any]) -> dict[str, Any]:
    """An answer that passes the checks."""
    plan = brief["rules_plan"]
    who = " and ".join([plan["lead"], *plan["accompaniment"]])
    prompt = f"{plan['genre']} at {plan['tempo_bpm']} BPM in {plan['key']} {plan['mode']} with {who}, {plan['rhythm']}"
    return {**plan, "prompt": f"{prompt}."}


def obedient(brief: dict[str, Any], demand: str, way: str) -> ModelReply:
    """What a model that does as it is told by the attacker would answer."""
    answer = honest(brief)
    if way == "bare":
        return says(demand)
    if way == "prompt":
        answer["prompt"] = demand[:800]
    elif way == "after":
        answer["prompt"] = f"{answer['prompt']} {demand}"
    elif way == "before":
        answer["prompt"] = f"{demand}. {answer['prompt']}"
    elif way == "within":
        answer["prompt"] = answer["prompt"].replace(" with ", f" with {demand.lower()} and ", 1)
    elif way == "lists":
        answer |= {"moods": [demand], "timbres": ["warm", demand], "accompaniment": [demand]}
    elif way == "extra":
        answer["note"] = demand
    else:
        answer[way] = demand
    return says(json.dumps(answer))


class Attacker:
    """Knows which line a request carries, and answers as that line demands."""

    def __init__(self) -> None:
        self.way: dict[str, str] = {}  # by text

    def __call__(self, request: ModelRequest) -> ModelReply:
        brief = brief_of(request)
        texts = [brief["words"], *(m["is"] for m in brief["mentions"]), *brief["captions"]]
        row = next(r for t in texts for r in ROWS if t and (r["text"].strip() == t or r["text"][:300] == t))
        return obedient(brief, demanded(row), self.way[row["text"]])


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def outputs(answer: Reprompt) -> str:
    """All that a model could have put something into."""
    told = answer.to_dict()
    del told["plan"]["exclude"]  # what must not sound is named there
    chosen = [r["value"] for r in told["reasons"] if r["status"] == "model"]
    return json.dumps([told["prompt"], told["plan"], told["trace"], told["warnings"], chosen], ensure_ascii=False)


class Poisoned(Pipeline):
    """A pipeline whose nearest caption, or whose first concept, is the hostile text."""

    async def poison(self, row: dict[str, str], **options: Any) -> Reprompt:
        checked = Words.check(row["text"] if row["place"] == "words" else INNOCENT)
        if row["text"].lower().find("no drums") >= 0 or "sin bater" in row["text"].lower():
            checked = Words.check(row["text"])
        reading = await asyncio.to_thread(self._reader.read, checked)
        captions = self._captions
        if row["place"] == "concept":
            reading = renamed(reading, row["text"])
        if row["place"] == "caption":
            captions = Hostile(row["text"], self)
        other = Pipeline(self.settings)
        other.__dict__.update(self.__dict__, _captions=captions, _reader=Fixed(reading))
        return await other.reprompt(checked.text, **options)


class Fixed:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def read(self, _: Words) -> Reading:
        return self._reading


class Hostile:
    def __init__(self, text: str, pipeline: Pipeline) -> None:
        genres, instruments = pipeline.knowledge.music_in(text)
        self._caption = Caption(text, "theirs", 0.9, tuple(genres), tuple(instruments))

    async def near(self, **_: Any) -> tuple[Caption, ...]:
        return (self._caption,)


def renamed(reading: Reading, text: str) -> Reading:
    senses = reading.senses
    mentions = tuple(replace(m, concept=text) for m in senses.mentions)
    descriptors = tuple(replace(d, origin=text) for d in senses.descriptors)
    return replace(reading, senses=replace(senses, mentions=mentions, descriptors=descriptors))


def brief_from(answer: Reprompt, pipeline: Pipeline) -> Brief:
    """Enough of the brief to check an answer against."""
    from reprompt_core.stated import read_stated

    words = Words.check(answer.words)
    reading = pipeline._reader.read(words)  # pyright: ignore[reportPrivateUsage]
    stated = read_stated(words, reading.senses, pipeline.knowledge)
    return Brief(words.text, words.language, reading.senses, stated, (), answer.plan, (), 0)


def test_the_corpus_is_large_and_varied() -> None:
    assert len(ROWS) >= 200
    assert len({r["text"] for r in ROWS}) == len(ROWS)
    assert {r["place"] for r in ROWS} == {"words", "caption", "concept"}
    assert {r["lang"] for r in ROWS} == {"en", "es"}
    assert len({r["technique"] for r in ROWS}) >= 12
    assert all(leaks(r, demanded(r)) for r in ROWS)


def test_nothing_hostile_comes_out_of_the_rules(environment: None) -> None:
    async def attack() -> list[str]:
        broken: list[str] = []
        async with Poisoned(Settings()) as pipeline:
            checks = Checks(pipeline.knowledge, system=system_text())
            for row in ROWS:
                answer = await pipeline.poison(row, refiner="rules")
                problems = checks.problems(answer.plan, answer.prompt, brief_from(answer, pipeline))
                if problems or leaks(row, outputs(answer)):
                    broken.append(f"{row['id']}: {answer.prompt} {problems}")
        return broken

    broken = asyncio.run(attack())
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("part", range(2))
def test_nothing_hostile_comes_out_of_an_obedient_model(server: ModelServer, part: int, environment: None) -> None:
    attacker = Attacker()
    settings = Settings(
        llm_base_url=server.url, llm_model="obedient", llm_api_key=KEY, llm_cache_size=0, llm_breaker_failures=1000
    )
    seen = {"llm": 0, "rules": 0}

    async def attack(pipeline: Poisoned, row: dict[str, str], number: int) -> list[str]:
        broken: list[str] = []
        checks = Checks(pipeline.knowledge, system=system_text())
        for turn in range(TURNS):
            way = WAYS[(number + turn * 5) % len(WAYS)]
            attacker.way[row["text"]] = way
            answer = await pipeline.poison(row, refiner="llm", fresh=True)
            seen[answer.refiner] += 1
            problems = checks.problems(answer.plan, answer.prompt, brief_from(answer, pipeline))
            if problems or leaks(row, outputs(answer)) or KEY in json.dumps(answer.to_dict()):
                broken.append(f"{row['id']} {way} {answer.refiner}: {answer.prompt} {problems}")
            if answer.refiner == "rules" and len(answer.warnings) == 0:
                broken.append(f"{row['id']} {way}: no warning")
        return broken

    async def attack_all() -> list[str]:
        server.obeys(attacker)
        slots = asyncio.Semaphore(8)
        async with Poisoned(settings) as pipeline:

            async def one(row: dict[str, str], number: int) -> list[str]:
                async with slots:
                    return await attack(pipeline, row, number)

            rows = ROWS[part::2]
            return [b for found in await asyncio.gather(*(one(r, i) for i, r in enumerate(rows))) for b in found]

    broken = asyncio.run(attack_all())
    assert not broken, "\n".join(broken)
    assert seen["rules"] > 0.9 * (seen["rules"] + seen["llm"]), seen
    # the attacks that were refused went to the model and came back: they were not merely kept from it
    assert len(server.requests) > seen["rules"] + seen["llm"]


def test_an_honest_answer_passes_where_an_obedient_one_does_not(server: ModelServer, environment: None) -> None:
    """The checks refuse the attack, not everything."""

    async def ask() -> Reprompt:
        settings = Settings(llm_base_url=server.url, llm_model="honest", llm_cache_size=0)
        async with Pipeline(settings) as pipeline:
            return await pipeline.reprompt(next(r["text"] for r in ROWS if r["place"] == "words"))

    server.obeys(lambda request: says(json.dumps(honest(brief_of(request)))))
    assert asyncio.run(ask()).refiner == "llm"
