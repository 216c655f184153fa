"""A language model that stalls, and the rules requests beside those that wait for it. Run with `make bench`.

The reference of each ratio is the same pipeline with nothing waiting, in the same run.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

from report import percentile, report
from reprompt_core import Pipeline, Settings
from reprompt_core.testing import ModelReply, ModelRequest, ModelServer, says

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
WAITING = 500


async def rules(pipeline: Pipeline, count: int) -> list[float]:
    """Milliseconds of rules requests, one after the other, a moment between them as people leave it."""
    times: list[float] = []
    for i in range(count):
        started = time.perf_counter()
        await pipeline.reprompt(SENTENCES[i % len(SENTENCES)], refiner="rules")
        times.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(0.01)
    return times


async def beside_waiting(server: ModelServer) -> tuple[list[float], list[float], int, int]:
    """Rules requests with nothing and with WAITING model requests beside them; threads before and while they wait."""
    server.answers(ModelReply(stall_after=0))
    settings = Settings(llm_base_url=server.url, llm_model="stalled", llm_timeout_s=60.0, llm_max_concurrency=WAITING)
    async with Pipeline(settings) as pipeline:
        await rules(pipeline, 50)
        idle = await rules(pipeline, 300)
        threads = threading.active_count()
        waiting = [asyncio.create_task(pipeline.reprompt(f"{SENTENCES[0]} {i}", refiner="llm")) for i in range(WAITING)]
        while server.open < WAITING:  # noqa: ASYNC110 - the server runs on another thread
            await asyncio.sleep(0.05)
        busy = await rules(pipeline, 300)
        assert not any(task.done() for task in waiting)
        held = threading.active_count()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return idle, busy, threads, held


async def late(server: ModelServer) -> list[float]:
    """Milliseconds past the deadline of one request after another to a stalled server."""
    server.answers(ModelReply(stall_after=0))
    settings = Settings(llm_base_url=server.url, llm_model="stalled", llm_timeout_s=0.3, llm_breaker_failures=1000)
    over: list[float] = []
    async with Pipeline(settings) as pipeline:
        for i in range(20):
            started = time.perf_counter()
            await pipeline.reprompt(f"{SENTENCES[1]} {i}", refiner="llm")
            over.append(1000 * (time.perf_counter() - started) - 300)
    return over


def good(request: ModelRequest) -> ModelReply:
    """An answer that passes the checks."""
    sent = request.body["messages"][1]["content"]
    plan = json.loads(sent.removeprefix("<brief>\n").removesuffix("\n</brief>"))["rules_plan"]
    who = " and ".join([plan["lead"], *plan["accompaniment"]])
    prompt = f"{plan['genre']} at {plan['tempo_bpm']} BPM in {plan['key']} {plan['mode']} with {who}."
    return says(json.dumps({**plan, "prompt": prompt}))


async def overhead(server: ModelServer) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds with a model that answers at once, with its kept answers, and by the rules."""
    server.obeys(good)
    settings = Settings(llm_base_url=server.url, llm_model="instant")
    asked: list[float] = []
    kept: list[float] = []
    async with Pipeline(settings) as pipeline:
        for fresh, times in ((True, []), (True, asked), (False, kept)):
            for sentence in SENTENCES * 5:
                started = time.perf_counter()
                await pipeline.reprompt(sentence, fresh=fresh)
                times.append(1000 * (time.perf_counter() - started))
        return asked, kept, await rules(pipeline, 100)


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    with ModelServer() as server:
        idle, busy, threads, held = asyncio.run(beside_waiting(server))
        over = asyncio.run(late(server))
        asked, kept, plain = asyncio.run(overhead(server))
    ratio = percentile(busy, 0.99) / percentile(idle, 0.99)
    rows = [
        ("rules request, nothing waiting, p50 / p99", both(idle), "", ""),
        (f"the same beside {WAITING} waiting for a stalled model", both(busy), "p99 < 3x", f"p99 {ratio:.2f}x"),
        (f"threads before / while {WAITING} wait", f"{threads} / {held}", "none each", ""),
        ("past a deadline of 300 ms, p50 / p99", both(over), "< 50 ms", "stalled model"),
        ("model that answers at once, p50 / p99", both(asked), "", "checks, ranking and keeping included"),
        ("kept answer, p50 / p99", both(kept), "", ""),
        ("rules alone, p50 / p99", both(plain), "", ""),
    ]
    report("reprompt-core with a language model", rows, "llm.json")


def both(times: list[float]) -> str:
    """p50 and p99."""
    return f"{percentile(times, 0.5):.1f} / {percentile(times, 0.99):.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
