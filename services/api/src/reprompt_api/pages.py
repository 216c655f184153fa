"""The page's files. Each has an entity tag of its content: who has the file already is told so in a few bytes."""

import hashlib
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import PathParameter

from .files import is_one_of

__all__ = ["index", "page_file"]

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@get("/", include_in_schema=False, media_type="text/html", sync_to_thread=False)
def index(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page."""
    return _answer(request, "index.html")


@get("/page/{name:str}", include_in_schema=False, sync_to_thread=False)
def page_file(name: Annotated[str, PathParameter()], request: Request[Any, Any, Any]) -> Response[bytes]:
    """What the page is made of."""
    return _answer(request, name)


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    folder = resources.files("reprompt_api") / "page"
    if name not in {file.name for file in folder.iterdir()}:
        raise NotFoundException
    content = (folder / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # asked for anew at every visit: a page of one release must not load the scripts of another
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if is_one_of(tag, request.headers.get("if-none-match", "")):
        return Response(b"", status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[PurePosixPath(name).suffix])
