"""Captions out of files, row by row: CSV, JSON Lines and Parquet of any size, in constant memory.

A row that cannot be used is a `Reject` with its line and reason, and the rest is read; a file that cannot be used is a
`CorpusError`.
"""

import csv
import io
import json
import os
import re
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast, get_args

from ..errors import CorpusError
from .rows import EXCERPT, NEEDS_PYARROW, BadRow, Finder, Format, Maker, Place, Reject, Row, Rows, reject

__all__ = ["Format", "Reject", "Row", "Rows", "read_rows"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_FIELD = 1 << 20  # characters of a CSV field, and bytes of a JSON line, at most
_RECORD = 4 * _FIELD  # characters of a CSV record: quotation marks that never pair would make one of the whole file
_HEAD = 100  # JSON lines, within _FIELD bytes, whose keys are the columns
_BATCH = 256  # Parquet rows
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNDECODABLE = b"\xff"  # stands for a Parquet string that is not UTF-8

# The limit of csv is one for the process. It is ours for a record at a time, and under a lock, so that two readers
# cannot restore each other's.
_csv_limit = threading.Lock()


class _LongRecord(csv.Error):
    """A CSV record is over the limit."""


def read_rows(
    path: Path,
    *,
    format: Format | None = None,
    text: str | None = None,
    tags: str | None = None,
    vectors: str | None = None,
) -> Rows:
    """The captions of a file in its order, and what stands between them that cannot be used.

    The file is opened and its columns are found before this returns; it is closed when the iterator ends or goes.

    Args:
        path: a CSV (also with tabs or semicolons), JSON Lines or Parquet file in UTF-8, with a header or keys.
        format: by default the suffix decides, and MusicCaps is known by its columns wherever they stand.
        text: the column of the captions; by default the first of caption, text, description, prompt.
        tags: a column of lists, list literals, or values separated by | or ;. Only that of MusicCaps is read unasked.
        vectors: a column of lists of numbers (Parquet, JSON Lines), one vector for each caption.

    Raises:
        CorpusError: the file cannot be read, its format is unknown, or a column is not there; also while rows are
            read: the disk fails, or a Parquet file is broken further on.
    """
    place = Place()
    rows = _read(path, Finder(path, format, text, tags, vectors), place)
    first = list(islice(rows, 1))  # for which the file is opened
    return Rows(chain(first, rows), place)


def _read(path: Path, find: Finder, place: Place) -> Iterator[Row | Reject]:
    known = find.format or _SUFFIXES.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            start = file.peek(4)[:4]
            if not start:
                raise CorpusError(f"{path} is empty; give a file with captions.")
            if known is None and start == b"PAR1":
                known = "parquet"
            if known not in get_args(Format):
                raise CorpusError(
                    f"The format of {path} is not known by its name; give --format with one of "
                    f"{', '.join(get_args(Format))}."
                )
            place.begin(os.fstat(file.fileno()).st_size, file.tell)
            match known:
                case "parquet":
                    yield from _parquet_rows(path, find, place)
                case "jsonl":
                    yield from _json_rows(file, find)
                case _:
                    yield from _csv_rows(file, find)
            place.end()
    except FileNotFoundError as e:
        raise CorpusError(f"{path} cannot be read: there is no such file.") from e
    except IsADirectoryError as e:
        raise CorpusError(f"{path} cannot be read: it is a folder; give a file in it.") from e
    except OSError as e:
        raise CorpusError(f"{path} cannot be read: {e.strerror or e}.") from e


# CSV


class _Lines:
    """The lines of a file for csv.reader, bounded, numbered, and given again when a record was none."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._size = 0
        self.number = 0  # of the last line given
        self.record: list[str] = []  # the lines of the record in hand

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self._size += len(line)
        if self._size > _RECORD:
            raise _LongRecord
        return line

    def _read(self) -> str:
        """The next line; of one over the limit, only its start."""
        line = rest = self._file.readline(_RECORD + 1)
        while len(line) > _RECORD and rest and not rest.endswith(("\n", "\r")):
            rest = self._file.readline(_RECORD)
        return line

    def begin(self) -> None:
        """The next line begins a record."""
        self.record = []
        self._size = 0

    def give_again(self, *, after: int) -> None:
        """The lines of the record in hand, but for the first `after`, are to be read as records of their own."""
        again = self.record[after:]
        self._again.extendleft(reversed(again))
        self.number -= len(again)
        self.begin()


def _csv_rows(file: BinaryIO, find: Finder) -> Iterator[Row | Reject]:
    if find.vectors:
        raise CorpusError(f"{find.path} is CSV; --vectors needs a Parquet or JSON Lines file.")
    # a byte that is not UTF-8 becomes a surrogate, so that it spoils its row and no other
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as decoded:
        lines = _Lines(decoded)
        records = _records(lines, _delimiter(lines, find))
        _, header = next(records, (0, None))
        if not isinstance(header, list):
            why = header.reason if header else "there is none"
            raise CorpusError(f"The header of {find.path} cannot be read: {why}.")
        names = [name.strip() for name in header]
        columns = find.columns(names)
        text_at = names.index(columns.text)
        tags_at = names.index(columns.tags) if columns.tags else len(names)
        maker = Maker(columns, surrogates="bytes that are not UTF-8")
        for line, record in records:
            if isinstance(record, Reject):
                yield record
                continue
            source = lines.record[0]
            if any(record[len(names) :]):
                why = "is a text with a delimiter not in quotation marks?"
                yield reject(line, f"{len(record)} values for {len(names)} columns: {why}", source)
            elif text_at >= len(record):
                yield reject(line, f"{len(record)} of {len(names)} columns: the text is missing", source)
            else:
                tags = record[tags_at] if tags_at < len(record) else None
                yield maker.row(line, source, record[text_at], tags, None)


def _delimiter(lines: _Lines, find: Finder) -> str:
    """The one that makes the first line a header: with the column of the captions in it, then with most columns."""
    try:
        line = next((line for line in lines if line.strip()), None)
    except _LongRecord as e:
        raise CorpusError(f"The header of {find.path} cannot be read: it is over {_RECORD >> 20} MiB long.") from e
    if line is None:
        raise CorpusError(f"{find.path} is empty; give a file with captions.")
    if _SURROGATE.search(line) or "\0" in line:
        raise CorpusError(
            f"The first line of {find.path} is not UTF-8 text: save it as UTF-8, or give --format if it is no CSV."
        )
    lines.give_again(after=0)
    if find.path.suffix.lower() == ".tsv":
        return "\t"

    def fit(delimiter: str) -> tuple[bool, int]:
        names = [n.strip() for n in line.replace('"', "").split(delimiter)]
        return find.any_text(names) is not None, len(names)

    return max(",;\t", key=fit)


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | Reject]]:
    """The records, each with the line at which it starts; strictly, since a stray quotation mark swallows rows."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin()
        line = lines.number + 1
        try:
            record = _next_record(reader)
        except csv.Error as e:
            yield line, reject(line, _csv_reason(e), lines.record[0])
            lines.give_again(after=1)
            continue
        if record is None:
            return
        if record:  # an empty line is no record
            yield line, record


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    with _csv_limit:
        before = csv.field_size_limit(_FIELD)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


def _csv_reason(error: csv.Error) -> str:
    if isinstance(error, _LongRecord):
        return f"a record over {_RECORD >> 20} MiB: is a quotation mark left open?"
    if "field limit" in str(error):
        return f"a field over {_FIELD >> 20} MiB: is a quotation mark left open?"
    return "quotation marks that do not pair: those inside a text are doubled"


# JSON Lines


def _json_rows(file: BinaryIO, find: Finder) -> Iterator[Row | Reject]:
    lines = _json_lines(file)
    head: list[tuple[int, bytes]] = []
    size = 0
    for line, raw in lines:
        head.append((line, raw))
        size += len(raw)
        if len(head) == _HEAD or size > _FIELD:
            break
    columns = find.columns(_keys(head, find.path))
    maker = Maker(columns, surrogates="half of a surrogate pair")
    for line, raw in chain(head, lines):
        source = raw[: 8 * EXCERPT].decode("utf-8", "replace")
        try:
            values = _json_object(raw)
        except BadRow as e:
            yield reject(line, str(e), source)
            continue
        tags = values.get(columns.tags) if columns.tags else None
        vector = values.get(columns.vectors) if columns.vectors else None
        yield maker.row(line, source, values.get(columns.text), tags, vector)


def _json_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered; of one over the limit, only its start."""
    number = 0
    while raw := file.readline(_FIELD + 1):
        number += 1
        rest = raw
        while len(raw) > _FIELD and rest and not rest.endswith(b"\n"):
            rest = file.readline(_FIELD)
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield number, raw


def _keys(head: Sequence[tuple[int, bytes]], path: Path) -> list[str]:
    """The keys of the first lines, in their order: one line may lack what others have."""
    keys: dict[str, None] = {}
    objects = 0
    for _, raw in head:
        try:
            keys.update(dict.fromkeys(_json_object(raw)))
            objects += 1
        except BadRow:
            continue
    if not head:
        raise CorpusError(f"{path} is empty; give a file with captions.")
    if not objects:
        raise CorpusError(
            f"None of the first lines of {path} is a JSON object. JSON Lines has one in each line, in UTF-8; give "
            "--format if the file is something else."
        )
    return list(keys)


def _json_object(raw: bytes) -> dict[str, object]:
    if len(raw) > _FIELD:
        raise BadRow(f"a line over {_FIELD >> 20} MiB")
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise BadRow("bytes that are not UTF-8") from e
    except (ValueError, RecursionError) as e:
        raise BadRow("not JSON") from e
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    return cast(dict[str, object], value)


# Parquet


def _parquet_rows(path: Path, find: Finder, place: Place) -> Iterator[Row | Reject]:
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise CorpusError(NEEDS_PYARROW) from e
    with _whole(path):
        # a buffer: else a row group is read whole
        file = pq.ParquetFile(path, buffer_size=_FIELD, pre_buffer=False)
        names: list[str] = list(file.schema_arrow.names)
    with file:
        columns = find.columns(names)
        wanted = [c for c in (columns.text, columns.tags, columns.vectors) if c]
        maker = Maker(columns, surrogates="bytes that are not UTF-8")
        batches = file.iter_batches(batch_size=_BATCH, columns=wanted)
        line = 0
        place.begin(file.metadata.num_rows, lambda: line)
        while True:
            with _whole(path):
                batch = next(batches, None)
                if batch is None:
                    if line < file.metadata.num_rows:
                        raise ValueError("it ends too early")
                    return
                there: list[str] = batch.schema.names
                texts, tags = (
                    _values(batch.column(there.index(c))) if c else [None] * len(batch)
                    for c in (columns.text, columns.tags)
                )
                vectors = (
                    [_numbers(v) for v in batch.column(there.index(columns.vectors))]
                    if columns.vectors
                    else [None] * len(batch)
                )
            for text, tag_list, vector in zip(texts, tags, vectors, strict=True):
                line += 1
                source = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
                yield maker.row(line, source, text, tag_list, vector)


@contextmanager
def _whole(path: Path) -> Generator[None]:
    """Tells errors of Parquet as those of the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError) as e:
        why = str(e).partition("\n")[0].rstrip(".")
        raise CorpusError(f"{path} cannot be read as Parquet: {why}. Write it again, or give another --format.") from e


def _values(column: Any) -> list[object]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _UNDECODABLE


def _numbers(scalar: Any) -> object:
    """The array of a list, without a detour through Python's numbers; those that are missing are NaN."""
    if not scalar.is_valid:
        return None
    to_numpy = getattr(getattr(scalar, "values", None), "to_numpy", None)
    return scalar if to_numpy is None else to_numpy(zero_copy_only=False)
