"""What the routes cannot say of themselves: the answers of each operation, with their types, headers and problems."""

from typing import Any

import msgspec
from reprompt_core.generation.contract import CONTENT_TYPES, GenerationRequest

from . import schemas
from .answer_schema import RepromptView
from .problems import PROBLEM, TITLES, Problem

__all__ = ["complete"]

_STRUCTS = (
    schemas.PromptRequest, RepromptView, GenerationRequest, schemas.GenerationView, schemas.GenerationPage,
    schemas.Corpus, schemas.PlaceView, schemas.ComparisonRequest, schemas.Comparison, schemas.Vote, schemas.Liveness,
    schemas.Readiness, Problem,
)  # fmt: skip
_REFS = "#/components"
_ID = "3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55"

_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"description": "The id of the request: as sent, or made.", "example": "8c2f0d6e1b7a4359"},
    "RateLimit-Limit": {"description": "Requests a minute that the caller may send.", "example": "600"},
    "RateLimit-Remaining": {"description": "Requests that may be sent at once now.", "example": "599"},
    "RateLimit-Reset": {"description": "Seconds until all of them may be.", "example": "1"},
    "Retry-After": {"description": "Seconds after which to try again.", "example": "5"},
    "Location": {"description": "Where what was made is.", "example": f"/v1/generations/{_ID}"},
    "Preference-Applied": {"description": "The wait that was applied.", "example": "wait=10"},
    "ETag": {"description": "The SHA-256 of the file.", "example": f'"{"9f2c" * 16}"'},
    "Accept-Ranges": {"description": "Always bytes.", "example": "bytes"},
    "Content-Range": {"description": "Which part this is.", "example": "bytes 0-1023/1764044"},
    "Content-Disposition": {"description": "A name for the file.", "example": 'inline; filename="reprompt-a.wav"'},
    "Accept-Post": {"description": "What may be sent.", "example": "application/json"},
    "WWW-Authenticate": {"description": "How to send a key.", "example": "Bearer"},
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "name": "X-Request-ID",
        "description": "An id for this request, which the answer and the log carry; others than "
        "[A-Za-z0-9._-]{1,64} are passed over.",
        "example": "checkout-7",
    },
    "Range": {"name": "Range", "description": "One range of bytes; others are passed over.", "example": "bytes=0-1023"},
    "IfRange": {
        "name": "If-Range",
        "description": "The part only if the file is still this one, else the whole.",
        "example": f'"{"9f2c" * 16}"',
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "description": "304 if the file is still this one.",
        "example": f'"{"9f2c" * 16}"',
    },
}
_FILE_PARAMETERS = ("Range", "IfRange", "IfNoneMatch")
_EXAMPLES: dict[str, Any] = {  # of the parameters that the routes declare
    "id": _ID,
    "number": 0,
    "side": "a",
    "status": "succeeded",
    "done": "keep",
    "limit": 20,
    "Idempotency-Key": "5c1d7a60-order-7",
    "Prefer": "wait=5",
    "Last-Event-ID": "42",
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "id": {"format": "uuid"},
    "number": {"minimum": 0, "maximum": 63},
    "Idempotency-Key": {"pattern": "^[!-~]{1,255}$"},
    "Last-Event-ID": {"pattern": "^[0-9]{1,18}$"},
}
_BODIES: dict[str, dict[str, Any]] = {
    "createPrompt": {"words": "a bowl of spicy ramen under neon signs", "refiner": "rules"},
    "createGeneration": {"words": "slow rain on a tin roof", "generator": "preview", "seconds": 5, "takes": 1},
    "createComparison": {"words": "sad piano in the rain, 70 bpm", "generator": "preview", "seconds": 5},
    "vote": {"choice": "a"},
}
_EVENTS: dict[str, Any] = {
    "text/event-stream": {
        "schema": {
            "description": "One event. Before the first the stream says after how many milliseconds to come back.",
            "type": "object",
            "properties": {
                "id": {"description": "For Last-Event-ID; grows.", "type": "string", "pattern": "^[0-9]+$"},
                "event": {"description": "What happened.", "enum": ["status", "progress", "take"]},
                "data": {
                    "description": "JSON: `status` and maybe `error` or `attempt`; `progress`; or a take. And `at`.",
                    "type": "string",
                },
                "retry": {"description": "Milliseconds.", "type": ["string", "integer"]},
            },
        },
        "example": (
            "retry: 1000\n\n"
            'id: 41\nevent: status\ndata: {"status":"running","attempt":1,"at":"2026-01-31T09:30:00Z"}\n\n'
            'id: 42\nevent: progress\ndata: {"progress":0.5,"at":"2026-01-31T09:30:01Z"}\n\n'
            'id: 43\nevent: status\ndata: {"status":"succeeded","at":"2026-01-31T09:30:02Z"}\n\n'
        ),
    }
}
_VOTE = (
    f'{{"id":"{_ID}","words":"sad piano in the rain","seconds":5.0,"seed":0,"generator":"preview","order":"ba",'
    '"choice":"a","preferred":"rewritten","voted_at":"2026-01-31T09:31:00+00:00"}\n'
)


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"{_REFS}/{kind}/{name}"}


def _answer(description: str, content: dict[str, Any] | None = None, *headers: str, **links: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": description}
    if content is not None:
        answer["content"] = content
    if headers:
        answer["headers"] = {name: _ref("headers", name) for name in headers}
    if links:
        answer["links"] = links
    return answer


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref("schemas", name)}}


def _list(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"type": "array", "items": _ref("schemas", name)}}}


def _text(media_type: str, example: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}, "example": example}}


def _file(*media_types: str) -> dict[str, dict[str, Any]]:
    """The answers with a file, whole or in part."""
    content: dict[str, Any] = {media_type: {} for media_type in media_types}
    common = ("ETag", "Accept-Ranges", "Content-Disposition")
    return {
        "200": _answer("The file.", content, *common),
        "206": _answer("The part that was asked for.", content, *common, "Content-Range"),
        "304": _answer("The file is still the one of If-None-Match.", None, *common),
    }


def _link(operation: str, **parameters: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id", **parameters}}


_TO_GENERATION: dict[str, Any] = {
    "look": _link("getGeneration"),
    "hear": _link("getTakeAudio", number="0"),
    "remove": _link("deleteGeneration"),
}
_TO_COMPARISON: dict[str, Any] = {
    "look": _link("getComparison"),
    "hear": _link("getComparisonAudio", side="a"),
    "vote": _link("vote"),
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "createPrompt": {"200": _answer("Before and after.", _json("RepromptView"))},
    "createGeneration": {
        "200": _answer("It is done.", _json("GenerationView"), "Location", "Preference-Applied", **_TO_GENERATION),
        "202": _answer("Accepted.", _json("GenerationView"), "Location", "Preference-Applied", **_TO_GENERATION),
    },
    "listGenerations": {"200": _answer("A page.", _json("GenerationPage"))},
    "getGeneration": {"200": _answer("As far as it is.", _json("GenerationView"))},
    "followGeneration": {
        "200": _answer("Events until the final status.", _EVENTS),
        "204": _answer("Last-Event-ID is that of the final status: there is nothing more to come back for."),
    },
    "getTakeAudio": _file(*CONTENT_TYPES.values()),
    "deleteGeneration": {
        "200": _answer(
            "It waited or ran: it is cancelled, or will be in a moment. Or it was done, and is kept as asked.",
            _json("GenerationView"),
        ),
        "204": _answer("It was done: it is removed, its audio with it."),
    },
    "listCorpora": {"200": _answer("The corpora.", _list("Corpus"))},
    "listGenerators": {"200": _answer("The places.", _list("PlaceView"))},
    "createComparison": {"202": _answer("Accepted.", _json("Comparison"), "Location", **_TO_COMPARISON)},
    "getComparison": {"200": _answer("As far as it is.", _json("Comparison"))},
    "getComparisonAudio": _file("audio/wav"),
    "vote": {"200": _answer("The vote, and which was which.", _json("Comparison"))},
    "exportVotes": {
        "200": _answer("A line for each vote.", _text("application/x-ndjson", _VOTE), "Content-Disposition")
    },
    "live": {"200": _answer("The process runs.", _json("Liveness"))},
    "ready": {
        "200": _answer("Requests can be answered.", _json("Readiness")),
        "503": _answer("They cannot, and why.", _json("Readiness")),
    },
    "metrics": {"200": _answer("The metrics.", _text("text/plain", "reprompt_streams 0.0\n"))},
}

_BODY = (400, 408, 413, 415)
_FILE = (404, 409, 416)
_PROBLEMS: dict[str, tuple[int, ...]] = {  # an operation's own
    "createPrompt": _BODY,
    "createGeneration": (*_BODY, 409),
    "getGeneration": (404,),
    "followGeneration": (404,),
    "getTakeAudio": _FILE,
    "deleteGeneration": (404, 409),
    "createComparison": _BODY,
    "getComparison": (404,),
    "getComparisonAudio": _FILE,
    "vote": (*_BODY, 404, 409),
}
_EVERYWHERE = (401, 406, 421, 422, 429, 500, 503, 504)  # in /v1
_RATE = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    415: ("Accept-Post",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the answers of every operation, and with schemas that leave nothing out."""
    document["components"] = {
        "schemas": _schemas(),
        "headers": {name: {"schema": {"type": "string"}, **header} for name, header in _HEADERS.items()},
        "parameters": {
            name: {"in": "header", "required": False, "schema": {"type": "string"}, **parameter}
            for name, parameter in _PARAMETERS.items()
        },
        "responses": {_problem_name(status): _problem(status) for status in TITLES},
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key, where the server asks for one."},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
        },
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete(operation, is_open=not path.startswith("/v1/"))
    return document


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    name = operation["operationId"]
    operation.pop("deprecated", None)
    operation["security"] = [{}] if name in {"live", "ready"} else [{}, {"key": []}, {"header": []}]
    parameters = [_parameter(parameter) for parameter in operation.get("parameters", [])]
    files = _FILE_PARAMETERS if name in {"getTakeAudio", "getComparisonAudio"} else ()
    operation["parameters"] = [*parameters, *(_ref("parameters", p) for p in (*files, "RequestId"))]
    if name in _BODIES:
        operation["requestBody"]["content"]["application/json"]["example"] = _BODIES[name]
    responses: dict[str, Any] = {}
    for status, answer in _ANSWERS[name].items():
        common = ("X-Request-ID",) if is_open else ("X-Request-ID", *_RATE)
        headers = {**answer.get("headers", {}), **{header: _ref("headers", header) for header in common}}
        responses[status] = {**answer, "headers": headers}
    for status in sorted({500, *(() if is_open else _EVERYWHERE), *_PROBLEMS.get(name, ())}):
        responses[str(status)] = _ref("responses", _problem_name(status))
    operation["responses"] = responses


def _problem_name(status: int) -> str:
    return TITLES[status].replace(" ", "").replace("-", "")


def _problem(status: int) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": "What happened, and what to do.",
        "instance": "8c2f0d6e1b7a4359",
    }
    content = {PROBLEM: {"schema": _ref("schemas", "Problem"), "example": example}}
    headers = ("X-Request-ID", *_PROBLEM_HEADERS.get(status, ()))
    return _answer(f"{TITLES[status]}.", content, *headers)


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not: null is no value of it."""
    schema: dict[str, Any] = dict(parameter["schema"])
    for choice in schema.pop("oneOf", []):
        if choice.get("type") != "null":
            schema.update(choice)
    if isinstance(schema.get("type"), list):
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    for bound in ("minimum", "maximum"):
        if bound in schema:
            schema[bound] = int(schema[bound])
    schema.pop("description", None)
    name = parameter["name"]
    told = {key: parameter[key] for key in ("name", "in", "description", "required") if key in parameter}
    example = {"example": _EXAMPLES[name]} if name in _EXAMPLES else {}
    return {**told, "schema": {**schema, **_SCHEMAS.get(name, {})}, **example}


def _schemas() -> dict[str, Any]:
    """Of the structs, as msgspec tells them: Litestar leaves out that unknown fields are refused."""
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=f"{_REFS}/schemas/{{name}}")
    for component in components.values():
        for field in component.get("properties", {}).values():
            for choice in (field, *field.get("anyOf", [])):
                if "enum" in choice and "type" not in choice:  # some readers want it
                    choice["type"] = "string"
            for choice in field.get("anyOf", []):  # what a field means stands beside the choice, not within it
                for key in ("description", "examples"):
                    if key in choice and key not in field:
                        field[key] = choice.pop(key)
    return components
