"""The headers that every answer carries: what a browser may do with it, and which other pages may read it."""

from collections.abc import Mapping
from typing import Any

from .settings import ApiSettings

__all__ = ["SCALAR", "SCALAR_SHA", "AnswerHeaders", "allow_preflight"]

# the only thing that any page of ours loads from elsewhere: the viewer of /schema, one version, checked by its hash
SCALAR = "https://cdn.jsdelivr.net/npm/@scalar/api-reference@1.46.4/dist/browser/standalone.js"
SCALAR_SHA = "sha384-BbTs28WithFYxTDCiH0YPK5tv3MflhBVpABoMjfb9UqXa/hegSE9I4THoddKejMF"

_NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_CSP_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    f"connect-src 'self'; font-src 'self'; manifest-src 'self'; {_NOWHERE}"
)
_CSP_SCHEMA = (  # the viewer writes its own style elements
    f"default-src 'none'; script-src {SCALAR}; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    f"{_NOWHERE}"
)
_CSP_DATA = f"default-src 'none'; {_NOWHERE}"
_READABLE = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, Preference-Applied, RateLimit-Limit, "
    "RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-ID"
)
_METHODS = "GET, HEAD, POST, DELETE"
_SENDABLE = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Prefer, Range, X-API-Key, "
    "X-Request-ID"
)
_Headers = list[tuple[bytes, bytes]]


def _encoded(headers: Mapping[str, str]) -> _Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class AnswerHeaders:
    """Made once for an app.

    Args:
        settings: which other pages may call.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._origins = frozenset(settings.cors_origins)
        common = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "cross-origin" if self._origins else "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
            **({"Vary": "Origin"} if self._origins else {}),
        }
        self._page = _encoded({**common, "Content-Security-Policy": _CSP_PAGE})
        self._schema = _encoded({**common, "Content-Security-Policy": _CSP_SCHEMA})
        self._data = _encoded({**common, "Content-Security-Policy": _CSP_DATA})

    def of(self, path: str, origin: str | None) -> _Headers:
        """The headers for a path, read by a page of this origin."""
        if path == "/" or path.startswith("/page/"):
            headers = self._page
        else:
            headers = self._schema if path == "/schema" else self._data
        if origin is None or origin not in self._origins:
            return headers
        return [
            *headers,
            (b"access-control-allow-origin", origin.encode()),
            (b"access-control-expose-headers", _READABLE.encode()),
        ]


def allow_preflight(scope: Mapping[str, Any], headers: Mapping[str, str], settings: ApiSettings) -> _Headers | None:
    """The headers for a browser that asks what a page elsewhere may do; None: it does not ask, or may not."""
    if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
        return None
    if headers.get("origin") not in settings.cors_origins:
        return None
    return _encoded(
        {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _SENDABLE,
            "Access-Control-Max-Age": "600",
        }
    )
