"""Rows of a CSV or Parquet file, as mappings with the place they stand at."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import EvalError, ScoresError

__all__ = ["rows_of"]

_PARQUET = b"PAR1"
_LONGEST_FIELD = 1 << 20  # characters
_BATCH = 1 << 14  # rows
Rows = Iterator[tuple[str, Mapping[str, Any]]]


def rows_of(path: Path, error: type[EvalError] = ScoresError) -> tuple[tuple[str, ...], Rows]:
    """The columns of a file, and its rows with their places ("line 7" of a CSV, "row 6" of a Parquet file).

    What the file is, is told by its first bytes. A CSV may have commas, semicolons or tabs.

    Raises:
        EvalError: of the kind given; the file cannot be read, now or while its rows are taken.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError as e:
        raise error(f"{path} cannot be read: there is no such file.") from e
    except IsADirectoryError as e:
        raise error(f"{path} cannot be read: it is a folder; give a file in it.") from e
    except OSError as e:
        raise error(f"{path} cannot be read: {e.strerror or e}.") from e
    if not start:
        raise error(f"{path} is empty.")
    return _parquet(path, error) if start == _PARQUET else _csv(path, error)


def _csv(path: Path, error: type[EvalError]) -> tuple[tuple[str, ...], Rows]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as e:
        raise error(f"{path} cannot be read: it is not UTF-8 text (byte {e.start + 1}), nor Parquet.") from e
    except OSError as e:
        raise error(f"{path} cannot be read: {e.strerror or e}.") from e
    if not text.strip():
        raise error(f"{path} is empty.")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = tuple(name.strip() for name in next(reader, []))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise error(f"{path.name} has the column {twice[0]!r} twice.")

    def rows() -> Rows:
        while True:
            line = reader.line_num + 1
            try:
                record = next(reader, None)
            except csv.Error as e:
                raise error(f"{path.name}, line {line}: {e}.") from e
            if record is None:
                return
            if not any(cell.strip() for cell in record):
                continue
            if len(record) != len(header):
                raise error(f"{path.name}, line {line}: {len(record)} fields where the header has {len(header)}.")
            yield f"line {line}", dict(zip(header, record, strict=True))

    return header, rows()


def _parquet(path: Path, error: type[EvalError]) -> tuple[tuple[str, ...], Rows]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as e:
        raise error(f"{path} cannot be read as Parquet: {str(e).splitlines()[0]}") from e

    def rows() -> Rows:
        number = 0
        try:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
        except (pyarrow.ArrowException, OSError) as e:
            raise error(f"{path} cannot be read as Parquet: {str(e).splitlines()[0]}") from e

    return tuple(file.schema_arrow.names), rows()
