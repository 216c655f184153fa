"""A run's folder as one HTML file that needs nothing else: `run_folder.py` says what the folder holds.

The page lets nothing in: its policy allows the style and the script that stand in it, by their hashes, and audio and
pictures that are part of it. Every text from the folder is escaped.
"""

import base64
import hashlib
import os
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from string import Template

from .cards import prompts_section, unscored_prompts_section
from .clips import BUDGET
from .errors import RunFolderError
from .markup import Markup, join
from .measured import measures_section, unscored_body
from .notes import (
    makers_lines,
    methods_section,
    unmeasured_section,
    unscored_methods_section,
    unwritten_lines,
    votes_section,
    warned_lines,
)
from .paired import Sampling
from .run_folder import RunFolder, read_run_folder
from .sections import answer_section, arms_section, cells_section, checks_section, pairs_section, strata_section
from .statistics import analyse

__all__ = ["render", "write_report"]


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    two_things: bool = False,
    sampling: Sampling | None = None,
) -> Path:
    """Writes the report of a run and returns its path: `report.html` in the folder, unless another is given.

    Raises:
        RunFolderError: the folder cannot be used, or the report not be written.
        ScoresError, VotesError, OptionError: of what is in it.
    """
    run = read_run_folder(folder)
    path = Path(output) if output else run.folder / "report.html"
    if not path.parent.is_dir() or path.is_dir():
        raise RunFolderError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'no such folder'}.")
    page = render(run, two_things=two_things, sampling=sampling)
    handle, kept = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(kept).chmod(0o644)
        os.replace(kept, path)  # noqa: PTH105 - whole or not at all
    except OSError as e:
        raise RunFolderError(f"{path} cannot be written: {e.strerror or e}.") from e
    finally:
        with suppress(FileNotFoundError):
            os.unlink(kept)  # noqa: PTH108
    return path


def render(run: RunFolder, *, two_things: bool = False, sampling: Sampling | None = None, budget: int = BUDGET) -> str:
    """The page."""
    title = run.plan.title or run.folder.resolve().name
    if run.scores is None:
        said = [*unwritten_lines(run.prompts), *makers_lines(run), *warned_lines(run)]
        parts = (votes_section(run), unscored_prompts_section(run, budget), unscored_methods_section(run))
        return _page(title, unscored_body(title, run.measures or {}, said, *parts))
    analysis = analyse(
        run.scores,
        bound=run.plan.bound,
        strata=run.plan.strata,
        arm=run.plan.arm,
        checkpoint=run.plan.checkpoint,
        two_things=two_things,
        sampling=sampling,
    )
    prompts, clips = prompts_section(run, analysis, budget)
    body = join(
        answer_section(analysis, title, unwritten_lines(run.prompts)),
        cells_section(analysis),
        pairs_section(analysis),
        arms_section(analysis),
        strata_section(analysis),
        prompts,
        votes_section(run),
        measures_section(run.measures),
        unmeasured_section(run, analysis, clips),
        checks_section(analysis),
        methods_section(run, analysis),
    )
    return _page(title, body)


def _page(title: str, body: Markup) -> str:
    """The file: its style and script stand in it, by their hashes."""
    page = files(__package__ or "reprompt_eval") / "page"
    style, script = ((page / name).read_text("utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; media-src data:; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template((page / "report.html").read_text("utf-8")).substitute(
        policy=policy, title=join(title), style=style, body=body, script=script
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
