"""Files of a run, written so that a kill leaves the old one or the new, and read so that a cut line is not there."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

__all__ = ["append_row", "read_rows", "write_bytes", "write_rows", "write_scores", "write_text"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; a line that a kill cut off is not there."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):  # as bytes: a kill may have cut a character, and words may hold U+2028
        with suppress(ValueError):
            row: Any = json.loads(line)
            if isinstance(row, dict):
                rows.append(cast("dict[str, Any]", row))
    return rows


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """One more line."""
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON Lines file of these."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Beside the file first."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def write_scores(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A table of scores in the long form, as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    columns = [(n, text) for n in ("prompt_id", "arm", "seed", "text", "text_of", "checkpoint")]
    schema = pa.schema([*columns, ("score", pa.float64()), ("error", text)])
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), beside)
    beside.replace(path)
