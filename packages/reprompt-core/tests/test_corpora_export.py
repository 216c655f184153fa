"""What is written out of a corpus: three formats, Parquet that comes back with its vectors, and nothing half done."""

import asyncio
import csv
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core import CorpusError, Pipeline, Settings
from reprompt_core.corpora.partition import Entry, Partition, text_hash
from reprompt_core.corpora.store import Corpora
from reprompt_core.database import query
from reprompt_core.encoder import Encoder

REPROMPT = str(Path(sys.executable).parent / "reprompt")
TEXTS = ['A "quoted", comma piano', "Ein größeres Orchester", "A low quality recording of jazz with a saxophone"]
STORED = (
    "SELECT text, flags, genres, instruments, embedding::text FROM reprompt.captions WHERE corpus_id = %s ORDER BY id"
)


def with_corpora(url: str, work: Callable[[Pipeline, Corpora], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Pipeline(Settings(database_url=url)) as pipeline:
            return await work(pipeline, Corpora.of(pipeline))

    return asyncio.run(run())


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows((t,) for t in ("caption", *texts))
    return path


async def stored(pipeline: Pipeline, corpus_id: int) -> list[tuple[Any, ...]]:
    async with pipeline.database.connection() as connection:
        return await (await connection.execute(STORED, (corpus_id,))).fetchall()


def test_csv_and_json_lines_have_the_words_alone(url: str, tmp_path: Path) -> None:
    async def work(_: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", TEXTS), name="mine", license="CC0")
        for ending in ("csv", "jsonl"):
            assert await corpora.export("mine", tmp_path / f"out.{ending}") == 3

    with_corpora(url, work)
    assert (tmp_path / "out.csv").read_bytes().decode() == (
        "text,flags,genres,instruments\r\n"
        '"A ""quoted"", comma piano",0,,piano\r\n'
        "Ein größeres Orchester,0,,\r\n"
        "A low quality recording of jazz with a saxophone,1,jazz,saxophone\r\n"
    )
    assert (tmp_path / "out.jsonl").read_bytes().decode().splitlines()[1:] == [
        '{"text": "Ein größeres Orchester", "flags": 0, "genres": [], "instruments": []}',
        '{"text": "A low quality recording of jazz with a saxophone", "flags": 1, "genres": ["jazz"], '
        '"instruments": ["saxophone"]}',
    ]


def test_parquet_comes_back_with_the_same_vectors(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [*TEXTS, *(f"A slow piano piece number {i}" for i in range(1100))]

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", texts), name="mine", license="CC0")
        assert await corpora.export("mine", tmp_path / "out.parquet") == len(texts)
        monkeypatch.setattr(Encoder, "encode", None)  # the vectors of the file are taken
        report = await corpora.add(tmp_path / "out.parquet", name="copy", license="CC0", vectors="vector")
        assert (report.added, report.flagged, report.rejected) == (len(texts), 1, 0)
        assert await stored(pipeline, 3) == await stored(pipeline, 2)

    with_corpora(url, work)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "out.parquet"]
    table = pq.read_table(tmp_path / "out.parquet")
    strings = pa.list_(pa.string())
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "text": pa.string(), "flags": pa.int16(), "genres": strings, "instruments": strings,
        "vector": pa.list_(pa.float32()),
    }  # fmt: skip
    assert table["text"].to_pylist() == texts
    last = table.slice(2, 1).to_pylist()[0]
    assert (last["flags"], last["genres"], last["instruments"]) == (1, ["jazz"], ["saxophone"])
    assert np.linalg.norm(last["vector"]) == pytest.approx(1, abs=1e-3)


def test_parquet_of_many_captions_is_not_held(url: str, tmp_path: Path, encoder: Encoder) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with suppress(ImportError):
        import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport]  # pyarrow imports it where it is: not counted here
    count = 8000
    vectors = np.random.default_rng(3).standard_normal((count, 384)).astype(np.float32)

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        async with pipeline.database.connection() as connection, connection.transaction():
            new = {"name": "big", "license": "CC0", "encoder": encoder.fingerprint, "version": "", "source": ""}
            row = await (await connection.execute(query("add_corpus"), new)).fetchone()
            assert row is not None
            partition = Partition(connection, row[0])
            await partition.create()
            await partition.copy([Entry(f"song {i}", text_hash(str(i)), 0, [], [], v) for i, v in enumerate(vectors)])
            await partition.show(dimensions=384)
        usual = pa.default_memory_pool()
        pool = pa.proxy_memory_pool(usual)  # which counts from here on
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            assert await corpora.export("big", tmp_path / "out.parquet") == count
            python = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(usual)
        assert 0 < pool.max_memory() < vectors.nbytes / 2
        assert python < vectors.nbytes / 2

    with_corpora(url, work)
    assert pq.read_table(tmp_path / "out.parquet", columns=["text"])["text"].to_pylist() == [
        f"song {i}" for i in range(count)
    ]


@pytest.mark.parametrize("target", ["file/out.parquet", "full.parquet", "folder.parquet"])
def test_parquet_that_cannot_be_written_is_told_and_spoils_nothing(url: str, tmp_path: Path, target: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "file").touch()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "full.parquet").write_text("of before")
    (tmp_path / "full.parquet.part").symlink_to("/dev/full")

    async def work(_: Pipeline, corpora: Corpora) -> None:
        with pytest.raises(CorpusError, match=r"^[^\n]+ cannot be written: [A-Z][^\n]+\Z"):
            await corpora.export("reprompt", tmp_path / target)
        assert (tmp_path / "full.parquet").read_text() == "of before"
        assert await corpora.export("reprompt", tmp_path / "out.parquet") == 856  # its connection was given back

    with_corpora(url, work)


def test_without_pyarrow_parquet_says_what_to_install(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    async def work(_: Pipeline, corpora: Corpora) -> None:
        with pytest.raises(CorpusError, match=r"^Parquet files need pyarrow: pip install 'reprompt-core\[corpora\]'$"):
            await corpora.export("reprompt", tmp_path / "out.parquet")
        assert await corpora.export("reprompt", tmp_path / "out.csv") == 856

    with_corpora(url, work)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_the_commands_write_parquet_and_read_it_again(url: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    env = os.environ | {"REPROMPT_DATABASE_URL": url}

    def call(*args: str) -> str:
        done = subprocess.run([REPROMPT, "corpus", *args], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    file = str(tmp_path / "out.parquet")
    assert "856 captions written to" in call("export", "reprompt", file)
    added = call("add", file, "--name", "copy", "--license", "MIT", "--vectors", "vector")
    assert added.startswith("copy: 856 captions added")
