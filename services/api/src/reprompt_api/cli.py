"""`reprompt-api`: serves the API; makes keys."""

import hashlib
import os
import secrets
import sys
from typing import Annotated, Any

import typer
from reprompt_core import RepromptError

app = typer.Typer(add_completion=False, help="Reprompt's API and page.", invoke_without_command=True)


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0: any that is free.", min=0, max=65535)] = None,
) -> None:
    """Serves until SIGTERM or Ctrl-C. Everything is set by REPROMPT_* variables; nothing must be."""
    if context.invoked_subcommand is not None:
        return
    # many requests share the processors already: more threads for one of them only wait for each other
    for threads in ("REPROMPT_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")
    from . import server
    from .settings import ApiSettings

    given: dict[str, Any] = {"host": host, "port": port}
    try:
        began = server.serve(ApiSettings(**{name: value for name, value in given.items() if value is not None}))
    except RepromptError as e:
        print(f"reprompt-api: {e}", file=sys.stderr)
        raise typer.Exit(1) from None
    if not began:
        raise typer.Exit(1)


@app.command()
def key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Makes an API key: the key for its owner, and what REPROMPT_API_KEYS holds of it."""
    secret = secrets.token_urlsafe(32)
    print(f"key (shown once):   {secret}")
    print(f"REPROMPT_API_KEYS:  {name}:sha256:{hashlib.sha256(secret.encode()).hexdigest()}")


def main() -> None:
    """The console script."""
    app()
