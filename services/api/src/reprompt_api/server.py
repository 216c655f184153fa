"""The server: uvicorn, with a socket of ours, a graceful end, and connections that cannot be held for ever."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from reprompt_core import RepromptError

from .settings import ApiSettings

if TYPE_CHECKING:
    from uvicorn import Server

__all__ = ["ListenError", "listen", "serve"]

_BACKLOG = 2048
_LARGEST_HEAD = 64 * 1024  # bytes that are held of a request whose headers do not end


class ListenError(RepromptError):
    """The address cannot be listened on."""


def serve(settings: ApiSettings) -> bool:
    """Serves until SIGTERM or SIGINT; whether it ever began.

    Raises:
        SettingsError: a setting cannot be used.
        ListenError: the address is taken, or not ours.
        EncoderError, DatabaseError, AudioStoreError: what the app stands on cannot be opened.
    """
    import uvicorn

    from .app import create_app
    from .connections import Connection
    from .logs import configure

    configure(settings.log_level)
    app = create_app(settings)

    class Server(uvicorn.Server):
        """Tells the app at the signal, not when the last connection is gone: event streams end then."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _spare_the_collector()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if (service := app.state.get("service")) is not None:
                service.stopping.set()
            super().handle_exit(sig, frame)

    listening = listen(settings)
    _raise_file_limit()
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # it would believe every proxy on this machine: see callers.py
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, settings.grace_s),
        timeout_keep_alive=65,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
        backlog=_BACKLOG,
    )
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = listening.getsockname()[1]
    print(f"Reprompt listens on http://{shown}:{port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    server = Server(config)
    # uvicorn sends itself the signal again at its end: then this ends the process in order, which stops the embedded
    # database, where the default would not
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "failure" not in app.state)
    try:
        asyncio.run(_run(server, listening))
    except SystemExit:
        if (failure := app.state.get("failure")) is None:
            raise
        raise failure from None
    return server.started


async def _run(server: "Server", listening: socket.socket) -> None:
    # texts are encoded on threads, which keep a processor each: more of them only take turns, and hold up the loop
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(os.cpu_count() or 1, "work"))
    await server.serve(sockets=[listening])


def _spare_the_collector() -> None:
    """What was made at the start stays: it is not looked through again and again for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def listen(settings: ApiSettings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        ListenError: it cannot.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        # a small answer goes out at once, and does not wait 40 ms for an acknowledgement; asyncio sets this by itself
        # only on sockets that name their protocol, which these do not
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as e:
        raise ListenError(
            f"{settings.host}:{settings.port} cannot be listened on ({e.strerror or e}); give another with --port or "
            "REPROMPT_API_PORT."
        ) from e


def _raise_file_limit() -> None:
    """Each connection is an open file, and the usual limit is 1,024."""
    if os.name != "posix":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
