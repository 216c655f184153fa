"""Every error as RFC 9457 problem details: what happened, and what to do; nothing from inside."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from msgspec import Meta
from reprompt_core import (
    AudioStoreError,
    CorpusError,
    DatabaseError,
    JobError,
    JobNotFoundError,
    KeyReusedError,
    PromptError,
    QueueFullError,
    RepromptError,
    SettingsError,
)

__all__ = ["PROBLEM", "TITLES", "FieldProblem", "Problem", "ProblemError", "handlers", "in_json", "problem_body"]

PROBLEM = "application/problem+json"
TITLES = {
    400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    416: "Range Not Satisfiable", 421: "Misdirected Request", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
"""As RFC 9110 calls them: RFC 9457 wants that of problems whose type is about:blank."""
_LONGEST_ECHO = 200  # characters of what was sent that an answer repeats
# how msgspec names types, and how JSON does
_JSON_NAMES = {"`str": "`string", "`int": "`integer", "`float": "`number", "`bool": "`boolean"}
_log: Any = structlog.get_logger()


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one part of a request."""

    pointer: Annotated[
        str,
        Meta(
            description="JSON pointer into the body (empty: the whole of it), or the name of a parameter or header.",
            examples=["/seconds"],
        ),
    ]
    detail: Annotated[str, Meta(description="What is wrong there.", examples=["Expected `number` <= 300.0"])]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 says."""

    type: Annotated[str, Meta(description="Always about:blank: the status tells the kind.", examples=["about:blank"])]
    title: Annotated[str, Meta(description="The name of the status.", examples=["Unprocessable Content"])]
    status: Annotated[int, Meta(description="The HTTP status.", examples=[422])]
    detail: Annotated[
        str,
        Meta(
            description="What happened, and what to do, for a person.",
            examples=["The body does not fit; `errors` says where."],
        ),
    ]
    instance: Annotated[
        str, Meta(description="The id of the request, which is in the server's log.", examples=["8c2f0d6e1b7a4359"])
    ]
    errors: Annotated[list[FieldProblem], Meta(description="Of a request that does not fit: where, and why.")] = []


class ProblemError(HTTPException):
    """An error with a status of its own."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldProblem] = (),
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=dict(headers or {}))
        self.errors = tuple(errors)


# the map: error of the core -> (status, seconds after which to try again, what is said instead of its own words)
_STATUS: tuple[tuple[type[RepromptError], int, int | None, str | None], ...] = (
    (PromptError, 422, None, None),
    (CorpusError, 422, None, None),
    (JobNotFoundError, 404, None, None),
    (KeyReusedError, 409, None, None),
    (QueueFullError, 503, 10, None),
    (JobError, 409, None, None),
    (SettingsError, 422, None, "This server is not set up for that."),
    (DatabaseError, 503, 5, "The database is not available at the moment; try again in a few seconds."),
    (AudioStoreError, 503, 5, "The audio store is not available at the moment; try again in a few seconds."),
)
_DETAILS = {
    400: "The request cannot be read.",
    413: "The body is larger than is accepted.",
    415: "Send JSON, with `Content-Type: application/json`.",
}


def in_json(message: str, kind: Any) -> str:
    """What msgspec says of a value of this type, in the words of JSON, and with the choices that there are."""
    if message.startswith("Invalid enum value") and (choices := _choices(kind)):
        return f"Expected one of {', '.join(choices)}."
    for ours, theirs in _JSON_NAMES.items():
        message = re.sub(rf"(?<=[`| ]){ours[1:]}(?=[`| ])", theirs[1:], message)
    return f"{message}."


def _choices(kind: Any) -> list[str]:
    """The values of a Literal, wherever it stands in an annotation."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return next((choices for part in get_args(kind) if (choices := _choices(part))), [])


def problem_body(status: int, detail: str, instance: str, errors: Sequence[FieldProblem] = ()) -> bytes:
    """The JSON of a problem."""
    return msgspec.json.encode(
        Problem("about:blank", TITLES.get(status, "Error"), status, detail, instance, list(errors))
    )


def _response(
    request: Request[Any, Any, Any],
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldProblem] = (),
) -> Response[bytes]:
    instance = str(request.scope.get("state", {}).get("request_id", ""))
    body = problem_body(status, detail, instance, errors)
    return Response(body, status_code=status, media_type=PROBLEM, headers=dict(headers or {}))


def _on_core_error(request: Request[Any, Any, Any], error: RepromptError) -> Response[bytes]:
    for kind, status, after, instead in _STATUS:
        if isinstance(error, kind):
            if instead is not None:
                _log.error("unavailable", reason=str(error))
            headers = {"Retry-After": str(after)} if after else {}
            return _response(request, status, instead or str(error), headers=headers)
    return _on_fault(request, error)


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status, headers = error.status_code, error.headers
    if isinstance(error, ProblemError):
        return _response(request, status, error.detail, headers=headers, errors=error.errors)
    if isinstance(error, ValidationException):
        detail = "A parameter of the request does not fit; `errors` says which."
        return _response(request, 422, detail, errors=_parameters(request, error))
    if status >= 500:
        return _on_fault(request, error)
    if isinstance(error, NotFoundException):
        detail = f"There is nothing at {str(request.scope['path'])[:_LONGEST_ECHO]}."
    elif status == 405:
        detail = f"{str(request.scope['method'])[:20]} is not for this address; the header Allow says what is."
    else:
        detail = _DETAILS.get(status, TITLES.get(status, "Error"))  # the framework's own words may name its parts
    return _response(request, status, detail, headers=headers)


def _on_fault(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("fault", exc_info=error)
    return _response(request, 500, "A fault of ours. The log has it under the id in `instance`.")


def _parameters(request: Request[Any, Any, Any], error: ValidationException) -> list[FieldProblem]:
    """The parameters that do not fit, by the names that they have in a request."""
    known = request.route_handler.parsed_fn_signature.parameters
    found: list[FieldProblem] = []
    items: Any = error.extra if isinstance(error.extra, list) else []
    for item in items:
        name = str(item.get("key", "")).partition(".")[0]
        written = getattr(getattr(known.get(name), "kwarg_definition", None), "name", None) or name
        kind = getattr(known.get(name), "annotation", None)
        found.append(FieldProblem(written, in_json(str(item.get("message", "")), kind)))
    return found


handlers: Any = {
    RepromptError: _on_core_error,
    HTTPException: _on_http_error,
    Exception: _on_fault,
}
