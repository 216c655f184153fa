"""Reprompt turns a person's words into a prompt that a text-to-music model follows, and says why."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .errors import (
        AudioError,
        AudioStoreError,
        CorpusError,
        DatabaseError,
        EncoderError,
        EncoderMismatchError,
        JobError,
        JobNotFoundError,
        KeyReusedError,
        KnowledgeError,
        MakingError,
        PromptError,
        QueueFullError,
        RepromptError,
        SettingsError,
    )
    from .pipeline import Pipeline, reprompt, transform
    from .settings import Settings
    from .types import (
        Attempt,
        Candidate,
        Caption,
        CaptionFilter,
        Descriptor,
        Emotion,
        Mention,
        MusicPlan,
        Reason,
        Reprompt,
        Trace,
    )

__all__ = [
    "Attempt",
    "AudioError",
    "AudioStoreError",
    "Candidate",
    "Caption",
    "CaptionFilter",
    "CorpusError",
    "DatabaseError",
    "Descriptor",
    "Emotion",
    "EncoderError",
    "EncoderMismatchError",
    "JobError",
    "JobNotFoundError",
    "KeyReusedError",
    "KnowledgeError",
    "MakingError",
    "Mention",
    "MusicPlan",
    "Pipeline",
    "PromptError",
    "QueueFullError",
    "Reason",
    "Reprompt",
    "RepromptError",
    "Settings",
    "SettingsError",
    "Trace",
    "reprompt",
    "transform",
]

_HOME = {
    **dict.fromkeys([n for n in __all__ if n.endswith("Error")], "errors"),
    **dict.fromkeys(["Pipeline", "reprompt", "transform"], "pipeline"),
    "Settings": "settings",
}


def __getattr__(name: str) -> Any:
    """The public names are imported when first used: `import reprompt_core` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reprompt-core")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME.get(name, 'types')}", __name__), name)
