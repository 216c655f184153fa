"""Audio over HTTP: ranges, entity tags, names for downloads."""

import re
from typing import Any

from litestar import Request, Response
from litestar.response import Stream
from reprompt_core.generation.contract import CONTENT_TYPES, Generation, Take
from reprompt_core.generation.storage import AudioStore

from .problems import ProblemError

__all__ = ["audio_response", "take_of"]


def take_of(generation: Generation, number: int) -> Take:
    """A take by its number.

    Raises:
        ProblemError: there is none, or none yet.
    """
    for take in generation.takes:
        if take.number == number:
            return take
    if generation.status in {"queued", "running"}:
        raise ProblemError(409, f"The generation is {generation.status}: its audio is there once it succeeded.")
    raise ProblemError(404, f"The generation {generation.status} and has no take {number}.")


async def audio_response(
    request: Request[Any, Any, Any], store: AudioStore, generation: Generation, take: Take, *, name: str
) -> Response[Any]:
    """The file, or the part of it that is asked for.

    Raises:
        ProblemError: 416, the range is none of this file; 404, the file is gone.
    """
    key, tag = generation.key(take), f'"{take.sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Disposition": f'inline; filename="{name}.{take.format}"',
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, status_code=304, headers=headers)
    start, end, status = 0, take.bytes, 200
    asked = request.headers.get("range", "")
    if asked and request.headers.get("if-range", tag) == tag:
        found = _range(asked, take.bytes)
        if found is not None:
            (start, end), status = found, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{take.bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status_code=status, headers=headers, media_type=CONTENT_TYPES[take.format])
    await store.size(key)  # gone: an error now, not in the middle of the answer
    return Stream(
        store.stream(key, start=start, end=end),
        status_code=status,
        headers=headers,
        media_type=CONTENT_TYPES[take.format],
    )


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """(first, one after the last) of a single range; None: it is ignored, as RFC 9110 allows.

    Raises:
        ProblemError: it lies outside the file.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= size or start >= end:
        raise ProblemError(416, f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return start, end
