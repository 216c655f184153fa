"""What the commands share: answers go to stdout, what is for a person's eyes only to stderr, errors are one line."""

import re
from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from .errors import EvalError, OptionError, RunFolderError, ScoresError, VotesError

__all__ = ["BAD_INPUT", "FAILED", "err", "errors", "out", "safe"]

FAILED, BAD_INPUT = 1, 2
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
if not out.is_terminal:
    out.width = 100
if not err.is_terminal:
    err.width = 240  # a file has no edge at which to fold

# what a terminal takes for commands, and what turns the direction of the text
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


def safe(text: str) -> str:
    """Text from a file in one line that a terminal only shows."""
    return _UNSEEN.sub(" ", text).encode("utf-8", "replace").decode("utf-8")


@contextmanager
def errors() -> Generator[None]:
    """One clear line and the right exit code for every error of ours."""
    try:
        yield
    except EvalError as e:
        err.print(f"reprompt-eval: {safe(str(e))}", style="red", soft_wrap=True)
        bad_input = isinstance(e, (ScoresError, VotesError, RunFolderError, OptionError))
        raise typer.Exit(BAD_INPUT if bad_input else FAILED) from e
