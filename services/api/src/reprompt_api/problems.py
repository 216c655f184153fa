"""Every error as RFC 9457 problem details: what happened, and what to do; nothing from inside."""

from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from reprompt_core import (
    AudioStoreError,
    DatabaseError,
    JobError,
    JobNotFoundError,
    KeyReusedError,
    PromptError,
    QueueFullError,
    RepromptError,
    SettingsError,
)

__all__ = ["PROBLEM", "Problem", "ProblemError", "handlers", "problem_body"]

PROBLEM = "application/problem+json"
_TITLES = {
    400: "Bad request", 401: "Key missing or wrong", 403: "Not allowed", 404: "Not found", 405: "Method not allowed",
    406: "Not acceptable", 408: "Request timed out", 409: "Conflict", 411: "Length required", 413: "Body too large",
    415: "Unsupported content type", 416: "Range not satisfiable", 422: "Cannot be used", 429: "Too many requests",
    500: "Fault of ours", 503: "Not available now", 504: "Took too long",
}  # fmt: skip
_log: Any = structlog.get_logger()


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one part of a request."""

    pointer: str  # JSON pointer into the body, or the name of a parameter
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 says."""

    type: str
    title: str
    status: int
    detail: str
    instance: str  # the id of the request, which is in our log
    errors: list[FieldProblem] = []


class ProblemError(HTTPException):
    """An error with a status of its own."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: Sequence[FieldProblem] = (),
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)
        self.errors = errors


# the map: error of the core -> (status, seconds after which to try again)
_STATUS: tuple[tuple[type[RepromptError], int, int | None], ...] = (
    (PromptError, 422, None),
    (JobNotFoundError, 404, None),
    (KeyReusedError, 409, None),
    (QueueFullError, 503, 10),
    (JobError, 409, None),
    (SettingsError, 422, None),
    (DatabaseError, 503, 5),
    (AudioStoreError, 503, 5),
)
_HIDDEN: dict[type[RepromptError], str] = {
    DatabaseError: "The database is not available at the moment; try again in a few seconds.",
    AudioStoreError: "The audio store is not available at the moment; try again in a few seconds.",
}


def problem_body(status: int, detail: str, instance: str, errors: Sequence[FieldProblem] = ()) -> bytes:
    """The JSON of a problem."""
    title = _TITLES.get(status, "Error")
    return msgspec.json.encode(Problem("about:blank", title, status, detail, instance, list(errors)))


def _response(request: Request[Any, Any, Any], status: int, detail: str, **more: Any) -> Response[bytes]:
    instance = str(request.scope.get("state", {}).get("request_id", ""))
    body = problem_body(status, detail, instance, more.get("errors", ()))
    return Response(body, status_code=status, media_type=PROBLEM, headers=more.get("headers") or {})


def _on_core_error(request: Request[Any, Any, Any], error: RepromptError) -> Response[bytes]:
    for kind, status, after in _STATUS:
        if isinstance(error, kind):
            hidden = next((text for k, text in _HIDDEN.items() if isinstance(error, k)), None)
            if hidden:
                _log.error("unavailable", reason=str(error))
            headers = {"Retry-After": str(after)} if after else {}
            return _response(request, status, hidden or str(error), headers=headers)
    return _on_fault(request, error)


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status, headers = error.status_code, dict(error.headers or {})
    if isinstance(error, ProblemError):
        return _response(request, status, error.detail, headers=headers, errors=error.errors)
    if isinstance(error, ValidationException):
        return _response(request, 422, "The request does not fit; `errors` says where.", errors=_fields(error))
    detail = {
        400: _plain(error.detail),
        404: f"There is nothing at {request.scope['path'][:200]}."
        if isinstance(error, NotFoundException)
        else error.detail,
        405: f"{request.method} is not for this address.",
        413: "The body is larger than is accepted.",
    }.get(status, error.detail)
    if status >= 500:
        return _on_fault(request, error)
    return _response(request, status, detail, headers=headers)


def _on_fault(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, RecursionError):
        return _response(request, 400, "The JSON is nested too deeply.")
    _log.error("fault", exc_info=error)
    return _response(request, 500, "A fault of ours. The log has it under the id in `instance`.")


def _plain(detail: str) -> str:
    """A parser's complaint without what is ours."""
    return f"The body cannot be read: {detail.split('Traceback')[0][:300]}" if detail else "The request cannot be read."


def _fields(error: ValidationException) -> list[FieldProblem]:
    found: list[FieldProblem] = []
    for item in error.extra if isinstance(error.extra, list) else []:
        if isinstance(item, dict):
            key, source = str(item.get("key", "")), str(item.get("source", "body"))  # pyright: ignore[reportUnknownArgumentType]
            pointer = key if source != "body" else "/" + key.removeprefix("data").strip(".").replace(".", "/")
            found.append(FieldProblem(pointer.rstrip("/") or "", str(item.get("message", ""))))  # pyright: ignore[reportUnknownArgumentType]
    return found


handlers: Any = {
    RepromptError: _on_core_error,
    HTTPException: _on_http_error,
    Exception: _on_fault,
}
