"""What a row of a file becomes, a `Row` or a `Reject` that says why it cannot be used, and how far the file is read."""

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError
from ..words import MAX_CHARACTERS

__all__ = [
    "EXCERPT",
    "NEEDS_PYARROW",
    "BadRow",
    "Columns",
    "Finder",
    "Format",
    "Maker",
    "Place",
    "Reject",
    "Row",
    "Rows",
    "reject",
]

Format = Literal["musiccaps", "songdescriber", "csv", "jsonl", "parquet"]
"""The first two are CSV files whose columns are known."""

_TEXT_COLUMNS = ("caption", "text", "description", "prompt")
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "musiccaps": ("caption", "aspect_list"),
    "songdescriber": ("caption", "caption_id", "track_id"),
}
_TAG_LIST = 20_000  # characters of a list literal, at most: the parser of Python takes much memory for much text
NEEDS_PYARROW = "Parquet files need pyarrow: pip install 'reprompt-core[corpora]'"
EXCERPT = 80  # characters of a rejected row that are shown
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """A caption: one line of at most 2,000 characters."""

    line: int  # of the file, where its record starts, from 1; for Parquet the number of the row
    text: str
    tags: tuple[str, ...] = ()
    # [dimensions], the same for all rows of a file; an array cannot be compared as a whole
    vector: npt.NDArray[np.float32] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be used."""

    line: int  # as in Row
    reason: str
    excerpt: str  # of the record, at most 80 printable characters


class Place:
    """How far a file is read. It is looked up when somebody asks: a row costs no more for it."""

    def __init__(self) -> None:
        self._whole = 0
        self._read: Callable[[], int] = int
        self._share = 0.0

    def begin(self, whole: int, read: Callable[[], int]) -> None:
        """The file has so many bytes or rows; `read` tells how many of them are read."""
        self._whole, self._read = whole, read

    def end(self) -> None:
        """The file is read."""
        self._whole, self._share = 0, 1.0

    @property
    def share(self) -> float:
        """The share of the file that is read, 0..1; 0 while that cannot be told, as of a pipe."""
        if self._whole:
            with suppress(ValueError):  # an error closed the file: it stays where it was
                self._share = min(1.0, self._read() / self._whole)
        return self._share


class Rows(Iterator[Row | Reject]):
    """The rows of a file in its order; the file is closed when they end or go."""

    def __init__(self, rows: Iterator[Row | Reject], place: Place) -> None:
        self._rows, self._place = rows, place

    def __next__(self) -> Row | Reject:
        return next(self._rows)

    @property
    def share(self) -> float:
        """The share of the file that is read, 0..1; 0 while that cannot be told, as of a pipe."""
        return self._place.share


class BadRow(Exception):
    """A row cannot be used; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns to read."""

    text: str
    tags: str | None
    vectors: str | None


# Columns


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the columns that were asked for among those that are there."""

    path: Path
    format: Format | None
    text: str | None
    tags: str | None
    vectors: str | None

    def columns(self, names: Sequence[str]) -> Columns:
        """The columns to read, by their names in the file."""
        for needed in _LAYOUTS.get(self.format or "", ()):
            self._named(names, needed, f"--format {self.format} needs it")
        text = self.text and self._named(names, self.text, "--text asks for it")
        tags = self.tags and self._named(names, self.tags, "--tags asks for it")
        vectors = self.vectors and self._named(names, self.vectors, "--vectors asks for it")
        if not text:
            text = self.any_text(names)
        if not text:
            raise CorpusError(
                f"{self.path} has no column {', '.join(_TEXT_COLUMNS[:-1])} or {_TEXT_COLUMNS[-1]}; it has "
                f"{_listed(names)}. Give --text with the column of the captions."
            )
        if not tags and self.format in {None, "musiccaps"} and all(_named(names, c) for c in _LAYOUTS["musiccaps"]):
            tags = _named(names, "aspect_list")
        return Columns(text, tags or None, vectors or None)

    def any_text(self, names: Sequence[str]) -> str | None:
        """The column of the captions, if it is there."""
        wanted = (self.text,) if self.text else _TEXT_COLUMNS
        return next((found for name in wanted if (found := _named(names, name)) is not None), None)

    def _named(self, names: Sequence[str], name: str, why: str) -> str:
        found = _named(names, name)
        if found is None:
            raise CorpusError(f"{self.path} has no column {name!r} ({why}); it has {_listed(names)}.")
        return found


def _named(names: Sequence[str], name: str) -> str | None:
    """The name as it stands in the file: the same, or the same but for case."""
    if name in names:
        return name
    return next((n for n in names if n.casefold() == name.casefold()), None)


def _listed(names: Sequence[str]) -> str:
    shown = [_excerpt(n, 40) for n in names if n.strip()]
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    return (", ".join(shown[:20]) or "none with a name") + more


# Values


class Maker:
    """Makes rows of values, or says why not."""

    def __init__(self, columns: Columns, *, surrogates: str) -> None:
        self._with_vectors = columns.vectors is not None
        self._surrogates = surrogates  # what a lone surrogate means in this format
        self._dimensions: int | None = None  # of the first vector

    def row(self, line: int, source: str, text: object, tags: object, vector: object) -> Row | Reject:
        """A row, or a reject with an excerpt of the source."""
        try:
            checked = self._text(text)
            return Row(line, checked, self._tags(tags), self._vector(vector) if self._with_vectors else None)
        except BadRow as e:
            return reject(line, str(e), source)

    def _text(self, value: object) -> str:
        if value is None:
            raise BadRow("no text")
        if not isinstance(value, str | bytes):
            raise BadRow(f"the text is no string but of type {type(value).__name__}")
        text = self._line(value)
        if not text:
            raise BadRow("no text")
        if len(text) > MAX_CHARACTERS:
            raise BadRow(f"a text of {len(text):,} characters; the most is {MAX_CHARACTERS:,}")
        return text

    def _tags(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str | bytes):
            string = self._line(value)
            value = _list_literal(string) if string.startswith("[") else re.split(r"[|;]", string)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str | bytes) for v in cast(list[object], value)):
            raise BadRow("the tags are no list of strings")
        return tuple(tag for v in cast(list[str | bytes], value) if (tag := self._line(v)))

    def _line(self, value: str | bytes) -> str:
        """One line of characters that the database can hold."""
        # older writers of Parquet give strings as bytes
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        if _SURROGATE.search(text):
            raise BadRow(self._surrogates)
        if "\0" in text:
            raise BadRow("a NUL character")
        return " ".join(text.split())

    def _vector(self, value: object) -> npt.NDArray[np.float32]:
        if value is None:
            raise BadRow("no vector")
        numbers = value if isinstance(value, np.ndarray) else _array(value)
        if numbers.dtype.kind not in "fiu" or not len(numbers):
            raise BadRow("the vector is no list of numbers")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told below
            vector = numbers.astype(np.float32)
        if not np.isfinite(vector).all():
            raise BadRow("the vector has a number that is missing, not finite or too large")
        if self._dimensions not in {None, len(vector)}:
            raise BadRow(f"a vector of {len(vector)} numbers; the first of the file has {self._dimensions}")
        self._dimensions = len(vector)
        return vector


def _list_literal(text: str) -> object:
    if len(text) > _TAG_LIST:
        raise BadRow(f"a list of tags of {len(text):,} characters; the most is {_TAG_LIST:,}")
    try:
        if "\\" not in text:
            return ast.literal_eval(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's, about backslashes
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as e:
        raise BadRow("the tags begin like a list but are none") from e


def _array(value: object) -> npt.NDArray[np.float64]:
    if not isinstance(value, list) or not all(type(v) in {int, float} for v in cast(list[object], value)):
        raise BadRow("the vector is no list of numbers")
    try:
        return np.array(value, np.float64)
    except OverflowError as e:
        raise BadRow("the vector has a number that is missing, not finite or too large") from e


def reject(line: int, reason: str, source: str) -> Reject:
    """A reject with the start of its source."""
    return Reject(line, reason, _excerpt(source, EXCERPT))


def _excerpt(text: str, length: int) -> str:
    """The start of a text, on one line and printable."""
    line = " ".join(text[: 8 * length].split())
    shown = "".join(c if c.isprintable() else "\ufffd" for c in line[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1] + "…"
