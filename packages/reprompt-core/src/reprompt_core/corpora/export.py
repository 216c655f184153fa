"""The captions of a corpus as a file: CSV, JSON Lines, or Parquet, which has their vectors too."""

import csv
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..database import Database, query
from ..errors import CorpusError
from .rows import NEEDS_PYARROW

__all__ = ["export_captions"]

_BATCH = 1024  # captions in memory at once, and in a row group of Parquet
_COLUMNS = ("text", "flags", "genres", "instruments")
_Write = Callable[[Sequence[tuple[Any, ...]]], object]  # what writes captions: _COLUMNS, and for Parquet the vector


async def export_captions(database: Database, corpus_id: int, path: Path) -> int:
    """Writes the captions of a corpus in the format of the path's ending; the number of captions.

    The file is written beside its place and renamed when it is whole.

    Raises:
        CorpusError: another ending, no pyarrow for Parquet, or a file that cannot be written.
    """
    if path.suffix not in _FORMATS:
        raise CorpusError(f"{path.name}: the file's name must end in .csv, .jsonl or .parquet.")
    named, opened = _FORMATS[path.suffix]
    part, count = path.with_name(path.name + ".part"), 0
    try:
        with opened(part) as write:
            async with (
                database.connection() as connection,
                connection.transaction(),
                connection.cursor("export", binary=True) as cursor,  # of the server: the rows come as they are read
            ):
                await cursor.execute(query(named), {"id": corpus_id, "limit": None})
                while rows := await cursor.fetchmany(_BATCH):
                    write(rows)  # some 20 ms; in a thread, a cancelled export would close the file under it
                    count += len(rows)
        part.replace(path)
    except OSError as e:
        raise CorpusError(f"{path} cannot be written: {e.strerror or e}.") from e
    finally:
        with suppress(OSError):
            part.unlink()
    return count


@contextmanager
def _csv(path: Path) -> Generator[_Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        yield lambda rows: table.writerows((text, flags, "|".join(g), "|".join(i)) for text, flags, g, i in rows)


@contextmanager
def _jsonl(path: Path) -> Generator[_Write]:
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(rows: Sequence[tuple[Any, ...]]) -> None:
            for row in rows:
                file.write(json.dumps(dict(zip(_COLUMNS, row, strict=True)), ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Generator[_Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise CorpusError(NEEDS_PYARROW) from e
    strings, numbers = pa.list_(pa.string()), pa.list_(pa.float32())
    columns = zip((*_COLUMNS, "vector"), (pa.string(), pa.int16(), strings, strings, numbers), strict=True)
    schema = pa.schema(list(columns))
    # a file of ours: what the system says of its errors comes through as it is
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as table:

        def write(rows: Sequence[tuple[Any, ...]]) -> None:
            values = dict(zip(schema.names, zip(*rows, strict=True), strict=True))
            table.write_batch(pa.RecordBatch.from_pydict(values, schema=schema))

        yield write


# ending: the query of its columns, and what opens the file
_FORMATS = {
    ".csv": ("some_captions", _csv),
    ".jsonl": ("some_captions", _jsonl),
    ".parquet": ("captions_with_vectors", _parquet),
}
