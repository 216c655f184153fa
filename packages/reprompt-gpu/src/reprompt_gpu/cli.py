"""The command `reprompt-gpu`. Exit codes: 0; 1 it failed; 2 bad usage or input."""

import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .errors import AudioError, CheckpointError, GpuError, RequestError

if TYPE_CHECKING:
    from .job import Job

__all__ = ["app", "main"]

_FAILED, _BAD_INPUT = 1, 2
app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True,
    help="MusicGen: music from words. The weights have a licence of their own, which is told when they are loaded.",
)  # fmt: skip
_err = Console(stderr=True, highlight=False)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(version("reprompt-gpu"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # pyright: ignore[reportUnusedParameter]
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The music, in words.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write: .wav, .flac, .ogg or .mp3.")],
    model: Annotated[str, typer.Option(help="A folder, or an id of the hub.")] = "facebook/musicgen-small",
    seconds: Annotated[float, typer.Option(help="Length, up to 300.")] = 10.0,
    takes: Annotated[int, typer.Option("--takes", "--take", help="So many pieces: out-1.wav, out-2.wav, ...")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed, another piece.")] = 0,
    guidance: Annotated[float, typer.Option(help="Weight of the words; 1: off.")] = 3.0,
    temperature: Annotated[float, typer.Option(help="Above 1 wilder, below tamer.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among so many codes; 0: all.")] = 250,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest that add up to this; 0: off.")] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quantize: Annotated[str | None, typer.Option(help="int8 or int4 weights, on a CPU.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model on the hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never reach the hub.")] = False,
) -> None:
    """Write music to a file."""
    try:
        from .config import GenerationRequest  # seconds of imports: after the usage was looked at

        request = GenerationRequest(
            prompt=prompt, seconds=seconds, takes=takes, seed=seed, guidance=guidance, temperature=temperature,
            top_k=top_k, top_p=top_p,
        )  # fmt: skip
        from . import audio

        audio.check_path(output)
        from transformers.utils import logging

        from .engine import Engine
        from .weights import licence_of

        logging.set_verbosity_error()  # it warns of the start token of every MusicGen
        with _err.status("Loading"):
            engine = Engine.load(
                model, revision=revision, offline=offline, device=device, dtype=dtype,  # pyright: ignore[reportArgumentType]
                quantize=quantize,  # pyright: ignore[reportArgumentType]
                slots=min(takes, 4),
            )  # fmt: skip
        _err.print(licence_of(engine.name), markup=False, soft_wrap=True)
        with engine:
            jobs = engine.submit(request)
            _wait(jobs, engine.config.frame_rate)
            for job in jobs:
                path = output if takes == 1 else output.with_stem(f"{output.stem}-{job.number + 1}")
                job.result().write(path)
                typer.echo(path)
    except GpuError as e:
        # on a terminal between words, and not at all in a log
        _err.print(f"reprompt-gpu: {e}", style="red", markup=False, soft_wrap=not _err.is_terminal)
        raise typer.Exit(_BAD_INPUT if isinstance(e, (RequestError, CheckpointError, AudioError)) else _FAILED) from e


def _wait(jobs: "list[Job]", frame_rate: int) -> None:
    """Shows how many seconds of audio are there, on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(), TextColumn("{task.completed:.1f} of {task.total:.1f} s of audio"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bars:
        task = bars.add_task("", total=sum(job.frames for job in jobs) / frame_rate)
        while not all(job.done for job in jobs):
            bars.update(task, completed=sum(job.ready for job in jobs) / frame_rate)
            time.sleep(0.05)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def benchmark(context: typer.Context) -> None:
    """Measure the speed of this machine."""
    from . import benchmark as bench

    bench.main(context.args)


def main() -> None:
    """Runs the command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
