"""Lines of JSON that others wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import EvalError

__all__ = ["encodable", "json_object", "raw_lines"]

_LONGEST_LINE = 1 << 20  # bytes
_BOM = b"\xef\xbb\xbf"


def raw_lines(path: Path, error: type[EvalError]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers.

    Raises:
        EvalError: of the kind given; the file cannot be read, or a line is over a megabyte.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
                if len(raw) > _LONGEST_LINE:
                    raise error(f"{path.name}, line {number}: over a megabyte; lines of JSON are expected.")
                yield number, raw.removeprefix(_BOM) if number == 1 else raw
    except FileNotFoundError as e:
        raise error(f"{path} cannot be read: there is no such file.") from e
    except IsADirectoryError as e:
        raise error(f"{path} cannot be read: it is a folder; give a file in it.") from e
    except OSError as e:
        raise error(f"{path} cannot be read: {e.strerror or e}.") from e


def json_object(raw: bytes) -> dict[str, Any] | None:
    """The object of a line; None of an empty one.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as e:
        raise ValueError("not UTF-8 text") from e
    if not text:
        return None
    try:
        given = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as e:
        raise ValueError("not JSON") from e
    if not isinstance(given, dict):
        raise ValueError("not a JSON object")
    return encodable(given)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def encodable(value: Any) -> Any:
    r"""The value, half a surrogate pair, which JSON can write as "\ud800" and UTF-8 cannot, as a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        items: list[Any] = value
        return [encodable(v) for v in items]
    if isinstance(value, dict):
        members: dict[str, Any] = value
        return {encodable(k): encodable(v) for k, v in members.items()}
    return value
