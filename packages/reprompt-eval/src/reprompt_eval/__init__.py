"""Does rewriting make the music fit the person's words? Scores, distances, experiments, statistics, a report."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clap import ClapScorer, Embedding
    from .distance import fad, kad
    from .errors import EvalError
    from .experiment import Experiment
    from .plan import read_plan
    from .report import write_report
    from .scores import read_scores
    from .statistics import analyse

__all__ = [
    "ClapScorer",
    "Embedding",
    "EvalError",
    "Experiment",
    "analyse",
    "fad",
    "kad",
    "read_plan",
    "read_scores",
    "write_report",
]

_HOME = {
    "ClapScorer": "clap",
    "Embedding": "clap",
    "EvalError": "errors",
    "Experiment": "experiment",
    "analyse": "statistics",
    "fad": "distance",
    "kad": "distance",
    "read_plan": "plan",
    "read_scores": "scores",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Imported when first used: the statistics stand without torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
