"""Bodies: read whole within a size and a time, and strict JSON of the type that a route expects."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import msgspec
from litestar import Request

from .problems import FieldProblem, ProblemError, in_json

__all__ = ["BODY_LIMIT", "GoneError", "JsonRequest", "read_body", "read_json"]

BODY_LIMIT = 64 * 1024
_MOST_ERRORS = 20
_LONGEST_NAME = 100
_T = TypeVar("_T", bound=msgspec.Struct)
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_TOO_LARGE = f"The body is larger than {BODY_LIMIT // 1024} KB."


class GoneError(Exception):
    """The client has gone."""


async def read_body(receive: _Receive, *, length: str | None, within_s: float) -> bytes:
    """The body of a request.

    Args:
        receive: of ASGI.
        length: the header Content-Length.
        within_s: for the whole of it.

    Raises:
        ProblemError: it is too large, or comes too slowly.
        GoneError: it will not come.
    """
    if length is not None and (not length.isascii() or not length.isdigit() or int(length[:20]) > BODY_LIMIT):
        raise ProblemError(413, _TOO_LARGE)
    content = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                content += message.get("body", b"")
                if len(content) > BODY_LIMIT:
                    raise ProblemError(413, _TOO_LARGE)
                if not message.get("more_body", False):
                    return bytes(content)
    except TimeoutError:
        raise ProblemError(
            408, f"The body was not there within {within_s:g} s.", headers={"Connection": "close"}
        ) from None


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body is JSON of the type that its route expects, and nothing else."""

    async def body(self) -> bytes:
        """The bytes.

        Raises:
            ProblemError: there are none, or they are said to be something else.
        """
        kind, *parameters = (part.strip().lower() for part in self.headers.get("content-type", "").split(";"))
        charset = [p for p in parameters if p.startswith("charset=") and p not in {"charset=utf-8", 'charset="utf-8"'}]
        if kind != "application/json" or charset or self.headers.get("content-encoding", "identity") != "identity":
            raise ProblemError(
                415,
                "Send JSON in UTF-8, not compressed, with `Content-Type: application/json`.",
                headers={"Accept-Post": "application/json"},
            )
        content = await super().body()
        if not content:
            raise ProblemError(400, "The body is empty: send a JSON object.")
        return content

    async def json(self) -> Any:
        """The struct of this route."""
        field = self.route_handler.parsed_data_field
        assert field is not None  # a route without a body does not come here
        return read_json(await self.body(), field.annotation)


def read_json(content: bytes, kind: type[_T]) -> _T:
    """The struct of a JSON object, strictly: no value is converted, no name is unknown or stands twice.

    A number such as 2.0 is an integer, as JSON Schema says.

    Raises:
        ProblemError: 400, it is no JSON; 422, it does not fit, with each place where.
    """
    try:
        text = content.decode()
        value = msgspec.json.decode(content, type=kind)
        json.loads(text, object_pairs_hook=_once)
    except msgspec.ValidationError as e:
        return _mended(content, kind, str(e))
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError, ValueError) as e:
        raise ProblemError(400, f"The body is no JSON in UTF-8: {_why(e, content)}.") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _why(error: Exception, content: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a byte that is not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if re.search(rb"\\u[dD][89a-fA-F]", content) and "name" not in str(error):
        return "half of a character pair (a lone surrogate)"
    if "truncated" in str(error):
        return "it ends too early"
    return str(error).removeprefix("JSON is malformed: ")


def _mended(content: bytes, kind: type[_T], first: str) -> _T:
    """The struct where whole numbers were written with a point; else every place that does not fit."""
    try:
        value: Any = msgspec.json.decode(content)
        json.loads(content, object_pairs_hook=_once)
    except (msgspec.ValidationError, RecursionError):  # a number that no type holds, or too deep for any
        said, _, path = first.partition(" - at `$")
        raise _misfit([FieldProblem(_pointer(path.rstrip("`")), in_json(said, None))]) from None
    except ValueError as e:  # what does not fit came before what cannot be read
        raise ProblemError(400, f"The body is no JSON in UTF-8: {_why(e, content)}.") from None
    if not isinstance(value, dict):
        raise _misfit([FieldProblem("", "Expected an object.")])
    given: dict[str, Any] = {
        name: int(item) if isinstance(item, float) and item.is_integer() else item
        for name, item in value.items()  # pyright: ignore[reportUnknownVariableType]
    }
    try:
        return msgspec.convert(given, kind, strict=True)
    except msgspec.ValidationError:
        raise _misfit(_misfits(given, kind)) from None


def _misfit(errors: list[FieldProblem]) -> ProblemError:
    return ProblemError(422, "The body does not fit; `errors` says where.", errors=errors)


def _misfits(given: dict[str, Any], kind: type[msgspec.Struct]) -> list[FieldProblem]:
    """Every place that does not fit: msgspec itself tells the first alone."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found = [FieldProblem(_member(name), "There is no such field.") for name in given if name not in fields]
    for name, field in fields.items():
        if name not in given:
            if field.required:
                found.append(FieldProblem(_member(name), "This field is required."))
            continue
        try:
            msgspec.convert(given[name], field.type, strict=True)
        except msgspec.ValidationError as e:
            said, _, path = str(e).partition(" - at `$")
            found.append(FieldProblem(_member(name) + _pointer(path.rstrip("`")), in_json(said, field.type)))
    return found[:_MOST_ERRORS]


def _member(name: str) -> str:
    """The JSON pointer of a member, RFC 6901."""
    return "/" + name[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")


def _pointer(path: str) -> str:
    """The JSON pointer of a path such as .corpora[0]."""
    return "".join(_member(name or number) for name, number in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path))
