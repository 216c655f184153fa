"""`reprompt-api`: serves the API; makes keys."""

import asyncio
import hashlib
import os
import secrets
import signal
import socket
import sys
from types import FrameType
from typing import Annotated

import typer
from reprompt_core import RepromptError

app = typer.Typer(add_completion=False, help="Reprompt's API and page.", invoke_without_command=True)


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0: any that is free.")] = None,
) -> None:
    """Serves until SIGTERM or Ctrl-C. Everything is set by REPROMPT_* variables; nothing must be."""
    if context.invoked_subcommand is None:
        try:
            _serve(host, port)
        except RepromptError as e:
            print(f"reprompt-api: {e}", file=sys.stderr)
            raise typer.Exit(1) from None


@app.command()
def key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Makes an API key: the key for its owner, and what REPROMPT_API_KEYS holds of it."""
    secret = secrets.token_urlsafe(32)
    print(f"key (shown once):   {secret}")
    print(f"REPROMPT_API_KEYS:  {name}:sha256:{hashlib.sha256(secret.encode()).hexdigest()}")


def _serve(host: str | None, port: int | None) -> None:
    import uvicorn

    from .app import create_app
    from .logs import configure
    from .settings import ApiSettings

    for name, value in (("HOST", host), ("PORT", port)):
        if value is not None:  # the option wins
            os.environ[f"REPROMPT_API_{name}"] = str(value)
    settings = ApiSettings()
    configure(settings.log_level)
    asgi = create_app(settings)

    class Server(uvicorn.Server):
        """Tells the app at the signal, not when the last connection is gone: event streams end then."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if (service := asgi.state.get("service")) is not None:
                service.stopping.set()
            super().handle_exit(sig, frame)

    try:
        listening = socket.create_server((settings.host, settings.port), family=_family(settings.host), backlog=2048)
    except OSError as e:
        print(
            f"reprompt-api: {settings.host}:{settings.port} cannot be listened on ({e.strerror or e}); "
            "give another with --port or REPROMPT_API_PORT.",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        asgi,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, settings.grace_s),
        timeout_keep_alive=65,
        h11_max_incomplete_event_size=32 * 1024,
    )
    print(
        f"Reprompt listens on http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)",
        file=sys.stderr,
        flush=True,
    )
    server = Server(config)
    asyncio.run(server.serve(sockets=[listening]))
    if not server.started:
        raise typer.Exit(1)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    app()
