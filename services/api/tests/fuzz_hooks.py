"""For schemathesis: data that is valid by its form is made valid by its meaning, too, and cheap to answer.

A schema cannot say that words hold a letter, or which corpora and generators this server has. What is invalid is left
as it is. Schemathesis loads this file itself (SCHEMATHESIS_HOOKS).
"""

from typing import Any

import schemathesis

SECONDS, TAKES = 1.5, 2  # longest previews that are worth making here


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    mode = getattr(getattr(case.meta, "generation", None), "mode", None)
    is_meant = mode is not None and not mode.is_negative
    if is_meant and case.query:
        case.query.pop("cursor", None)  # what is one is only known from a page
    body = case.body
    if not isinstance(body, dict):
        return
    if within(body.get("seconds"), 1, 300):
        body["seconds"] = min(body["seconds"], SECONDS)
    if within(body.get("takes"), 1, 8):
        body["takes"] = min(body["takes"], TAKES)
    if not is_meant:
        return
    for name in ("words", "prompt"):
        if isinstance(body.get(name), str):
            body[name] = meant(body[name])
    body.update({name: known for name, known in (("corpora", ["reprompt"]), ("licenses", ["MIT"])) if body.get(name)})
    if body.get("generator") == "runpod":
        body["generator"] = "preview"
    if body.get("refiner") == "llm":
        body["refiner"] = "rules"


def within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def meant(text: str) -> str:
    """The text with something to say, in the same length."""
    text = "".join("x" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    return text if any(c.isalnum() for c in text) else f"x{text[1:]}"
