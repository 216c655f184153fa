"""`reprompt-eval run`: an experiment from its plan to its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import err, errors, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan import ExperimentPlan

__all__ = ["run"]

_INTERRUPTED = 130  # as shells tell of Ctrl-C


def run(
    plan: Annotated[Path, typer.Argument(help="The plan, TOML (see the README of reprompt-eval).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default: runs/NAME-OF-THE-PLAN.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would be done and what it can find; do nothing.")
    ] = False,
) -> None:
    """Run an experiment, or go on with it: prompts, audio, scores, report, in one folder."""
    import asyncio

    with errors():
        from ..experiment import Experiment
        from ..plan import read_plan

        read = read_plan(plan)
        _say(read)
        _look_for(read.checkpoints)
        _say_model(read, must=check)
        if check:
            return
        folder = output or Path("runs") / plan.stem
        try:
            asyncio.run(Experiment(read, folder, progress=_Bar()).run())
        except KeyboardInterrupt as e:
            err.print(safe(f"interrupted: what is made is kept in {folder}; the same command goes on with it"))
            raise typer.Exit(_INTERRUPTED) from e
        from ..notes import makers_lines, unwritten_lines, warned_lines
        from ..report import write_report
        from ..run_folder import read_run_folder

        made = read_run_folder(folder)
        for line in (*unwritten_lines(made.prompts), *makers_lines(made), *warned_lines(made)):
            err.print(safe(line), style="yellow", soft_wrap=True)
        typer.echo(safe(str(write_report(folder))))


def _look_for(checkpoints: "Sequence[str]") -> None:
    """Before hours of audio are made: each file of weights must be there. A folder or an id is looked for later."""
    from ..errors import CheckpointError

    for name in checkpoints:
        if Path(name).suffix in {".pt", ".pth"} and not Path(name).is_file():
            raise CheckpointError(f"There is no checkpoint {name}. `reprompt-eval doctor` says how to get one.")


def _say(plan: "ExperimentPlan") -> None:
    """What will be done, and what difference it can find."""
    from ..figures import count
    from ..paired import detectable_difference

    n, seeds, arms = len(plan.prompts), len(plan.seeds), [arm.name for arm in plan.arms]
    what = f"{n} prompts x {len(arms)} arms ({', '.join(arms)}) x {count(seeds, 'seed')} of {plan.seconds:g} s"
    err.print(safe(f"{plan.title}: {what}, made by {plan.generator}"))
    found = detectable_difference(n, plan.sd, seeds=seeds)
    err.print(
        f"with 80 % power it finds a difference of {found.difference:.3f}, at best (if all spread is that of seeds) "
        f"{found.at_best:.3f}; expected standard deviation {plan.sd:g}"
    )
    if plan.checkpoints:
        err.print(safe(f"scored by {', '.join(Path(c).name for c in plan.checkpoints)}"))
    else:
        absent = f" ({', '.join(plan.absent)}: not there)" if plan.absent else ""
        said = f"no CLAP checkpoint{absent}: how well the music fits the words is not measured (reprompt-eval doctor)"
        err.print(safe(said))


def _say_model(plan: "ExperimentPlan", *, must: bool) -> None:
    """Who writes the arms of a language model."""
    from ..errors import OptionError
    from ..plan import model_arms

    names = " and ".join(model_arms(plan.arms))
    if not names:
        return
    from urllib.parse import urlsplit

    from reprompt_core import RepromptError, Settings

    try:
        settings = Settings()
    except RepromptError as e:
        raise OptionError(str(e)) from e
    if settings.llm_model is not None:
        server = urlsplit(settings.llm_base_url).hostname
        err.print(safe(f"{names}: prompts by the model {settings.llm_model} at {server}"))
    elif must:  # a run that has all its prompts needs none
        raise OptionError(f"{names}: no language model is configured: set REPROMPT_LLM_MODEL (docs/llm.md).")


class _Bar:
    """One line for each step, that fills."""

    def __init__(self) -> None:
        self._step, self._shown = "", -1

    def __call__(self, step: str, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if (step, percent) == (self._step, self._shown):
            return
        new = step != self._step
        self._step, self._shown = step, percent
        if err.is_terminal:
            err.print(f"{'' if new else chr(13)}{step}  {done} of {total}", end="\n" if done == total else "")
        elif new or done == total:
            err.print(f"{step}  {done} of {total}")
