"""HTML built from values: every text is escaped, because what is not `Markup` is never taken for it."""

import html
import re
from collections.abc import Iterable

__all__ = ["Markup", "el", "join", "typeset"]

_VOID = {"br", "meta"}
# control characters are no text in HTML; half surrogates are none in UTF-8
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """HTML as it is to stand on the page."""

    __slots__ = ()


Content = Markup | str | Iterable["Markup | str"] | None


def el(name: str, *content: Content, **attributes: str | bool | None) -> Markup:
    """An element; text in it and its attributes is escaped.

    `class_` is written class, and `stroke_width` stroke-width; an attribute that is None or False is left out.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = join(*content)
    return Markup(f"<{name}{told}>" if name in _VOID and not inner else f"<{name}{told}>{inner}</{name}>")


def join(*content: Content) -> Markup:
    """Pieces one after the other."""
    parts: list[str] = []
    for piece in content:
        if isinstance(piece, Markup):
            parts.append(piece)
        elif isinstance(piece, str):
            parts.append(_escaped(piece))
        elif piece is not None:
            parts.append(join(*piece))
    return Markup("".join(parts))


def typeset(text: str) -> str:
    """Our own sentences about figures with true minus signs, and with what belongs together on one line."""
    text = re.sub(r"(?<![\w.)-])-(?=[\d.])", "\u2212", text)
    text = re.sub(r"\b(n|p|r|t|W|SD|d|Holm) (?=[=<+\u2212\d])", "\\1\u00a0", text)
    text = re.sub(r"(?<=[=<]) (?=[\u2212.\d])", "\u00a0", text)
    return re.sub(r"(?<=\d) %( CI)?", lambda m: "\u202f%" + ("\u00a0CI" if m[1] else ""), text)


def _escaped(text: str) -> str:
    return html.escape(_NO_TEXT.sub("\ufffd", text))
