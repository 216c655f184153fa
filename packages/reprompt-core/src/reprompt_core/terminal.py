"""What the commands share: messages for a person go to stderr, errors are one clear line with the right exit code."""

from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from .errors import CorpusError, PromptError, RepromptError, SettingsError

__all__ = ["BAD_INPUT", "FAILED", "err", "errors", "status"]

FAILED, BAD_INPUT = 1, 2
err = Console(stderr=True, highlight=False)
if not err.is_terminal:
    err.width = 240  # a file has no edge at which to fold


@contextmanager
def errors() -> Generator[None]:
    """One clear line and the right exit code for every error of ours."""
    try:
        yield
    except (PromptError, SettingsError, CorpusError) as e:
        err.print(f"reprompt: {e}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT) from e
    except RepromptError as e:
        err.print(f"reprompt: {e}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from e


@contextmanager
def status(what: str) -> Generator[None]:
    """A spinner with the time that passes, on a terminal only."""
    if not err.is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn(what), TimeElapsedColumn(), console=err, transient=True) as progress:
        progress.add_task(what, total=None)
        yield
