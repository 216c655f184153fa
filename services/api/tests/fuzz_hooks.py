"""For schemathesis: data that is valid by its form is made valid by its meaning, too, and cheap to answer.

A schema cannot say that words hold a letter, which strings are cursors, or which corpora and generators this server
has. What is invalid by its form is left as it is. Schemathesis loads this file itself (SCHEMATHESIS_HOOKS).
"""

from typing import Any

import schemathesis

SECONDS, TAKES = 1.5, 2  # longest previews that are worth making here
INSTEAD = {"generator": {"runpod": "preview"}, "refiner": {"llm": "rules"}}
KNOWN = {"corpora": ["reprompt"], "licenses": ["MIT"]}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.query and len(str(case.query.get("cursor", ""))) <= 200:
        case.query.pop("cursor", None)
    body = case.body
    if not isinstance(body, dict):
        return
    for name, most, instead in (("seconds", 300, SECONDS), ("takes", 8, TAKES)):
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and instead < value <= most:
            body[name] = instead
    for name in ("words", "prompt"):
        if isinstance(body.get(name), str) and 0 < len(body[name]) <= 2000:
            body[name] = meant(body[name])
    for name, others in INSTEAD.items():
        if isinstance(body.get(name), str):
            body[name] = others.get(body[name], body[name])
    for name, known in KNOWN.items():
        asked = body.get(name)
        if (
            isinstance(asked, list)
            and 0 < len(asked) <= 50
            and all(isinstance(a, str) and len(a) <= 200 for a in asked)
        ):
            body[name] = known


def meant(text: str) -> str:
    """The text with something to say, in the same length."""
    text = "".join("x" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    return text if any(c.isalnum() for c in text) else f"x{text[1:]}"
