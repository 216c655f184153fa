"""Audio over HTTP: ranges, entity tags, names for downloads."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from litestar import Request, Response
from litestar.response import Stream
from reprompt_core import AudioStoreError
from reprompt_core.generation.contract import CONTENT_TYPES, Generation, Take
from reprompt_core.generation.storage import AudioStore

from .problems import ProblemError

__all__ = ["audio_response", "is_one_of", "take_of"]


def take_of(generation: Generation, number: int) -> Take:
    """A take by its number.

    Raises:
        ProblemError: there is none, or none yet.
    """
    for take in generation.takes:
        if take.number == number:
            return take
    if not generation.done:
        raise ProblemError(409, f"The generation is {generation.status}: its audio is there once it succeeded.")
    raise ProblemError(404, f"The generation {generation.status} and has no take {number}.")


async def audio_response(
    request: Request[Any, Any, Any], store: AudioStore, generation: Generation, take: Take, *, name: str
) -> Response[Any]:
    """The file, or the part of it that is asked for.

    Raises:
        ProblemError: 416, the range is none of this file; 404, the file is gone.
        AudioStoreError: the store is away.
    """
    tag = f'"{take.sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Disposition": f'inline; filename="{name}.{take.format}"',
    }
    if is_one_of(tag, request.headers.get("if-none-match", "")):
        return Response(b"", status_code=304, headers=headers)
    start, end, status = 0, take.bytes, 200
    is_head = request.state["exchange"].is_head
    asked = "" if is_head else request.headers.get("range", "")  # ranges are of GET alone, RFC 9110
    # a weak tag or a date never says that this is the same file
    if asked and request.headers.get("if-range", tag) == tag:
        found = _range(asked, take.bytes)
        if found is not None:
            (start, end), status = found, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{take.bytes}"
    headers["Content-Length"] = str(end - start)
    chunks = store.stream(generation.key(take), start=start, end=end)
    try:
        first = await anext(chunks, b"")  # an error now, not in the middle of the answer
    except AudioStoreError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            raise ProblemError(404, "The audio of this take is deleted.") from None
        raise
    headers["Content-Type"] = CONTENT_TYPES[
        take.format
    ]  # as a header: the route's own type would win over the stream's
    if is_head:
        return Response(b"", status_code=status, headers=headers)
    return Stream(_with_first(first, chunks), status_code=status, headers=headers)


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def is_one_of(tag: str, tags: str) -> bool:
    """Whether If-None-Match names this entity tag. It compares weakly: W/ makes no difference."""
    return tags.strip() == "*" or tag in re.findall(r'(?:W/)?("[^"]*")', tags)


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """(first, one after the last) of a single range; None: it is ignored, as RFC 9110 allows.

    Raises:
        ProblemError: it lies outside the file.
    """
    match = re.fullmatch(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})", asked.strip())
    if match is None or not (match[1] or match[2]) or (match[1] and match[2] and int(match[1]) > int(match[2])):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= size or start >= end:
        raise ProblemError(416, f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return start, end
