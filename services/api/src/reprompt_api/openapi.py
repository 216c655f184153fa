"""The OpenAPI document at /schema/openapi.json, and its viewer at /schema."""

import html
import json
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import MediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Tag
from litestar.router import Router

from .answers import SCALAR, SCALAR_SHA
from .operations import complete

__all__ = ["openapi_config"]

_VIEWER_OPTIONS = {  # it asks nobody else for anything
    "withDefaultFonts": False,
    "telemetry": False,
    "hideClientButton": True,
    "showDeveloperTools": "never",
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
}
# the viewer covers the sentence once it is drawn
_VIEWER = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reprompt: the API</title>
</head>
<body>
<p style="position: fixed; z-index: -1; margin: 2rem; font: 1rem system-ui">The viewer's script comes from
cdn.jsdelivr.net. Without it, there is <a href="/schema/openapi.json">the document</a>.</p>
<script id="api-reference" data-url="/schema/openapi.json"
 data-configuration="{html.escape(json.dumps(_VIEWER_OPTIONS))}"></script>
<script src="{SCALAR}" integrity="{SCALAR_SHA}" crossorigin="anonymous"></script>
</body>
</html>
"""


def openapi_config() -> OpenAPIConfig:
    """What the document says of the whole."""
    return OpenAPIConfig(
        title="Reprompt",
        version=version("reprompt-api"),
        description="Words to music prompts with their reasons, and music from them. "
        "Every error is a problem document (RFC 9457).",
        path="/schema",
        render_plugins=[_Viewer(), _Document()],
        use_handler_docstrings=True,
        tags=[
            Tag("Prompts", "Words to prompts."),
            Tag("Generations", "Music, made as a job."),
            Tag("Comparisons", "The same words with and without rewriting, heard blind."),
            Tag("Catalogue", "What can be searched, and where music can be made."),
            Tag("Health", "For probes and for Prometheus."),
        ],
    )


class _Document(OpenAPIRenderPlugin):
    """The document, made when it is first asked for."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)
        self._content = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Its JSON."""
        self._content = self._content or msgspec.json.encode(complete(openapi_schema))
        return self._content


class _Viewer(OpenAPIRenderPlugin):
    """Scalar, without a script of ours in the page."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        return _VIEWER.encode()

    def receive_router(self, router: Router) -> None:
        """Takes out Litestar's own page for what is not there: that is a problem like any other."""
        router.routes[:] = [route for route in router.routes if "{" not in route.path]
