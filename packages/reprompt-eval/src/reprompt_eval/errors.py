"""Every error that reprompt-eval raises on purpose.

EvalError
├── ScoresError     a table of scores cannot be read or used
├── VotesError      a file of votes cannot be read or used
├── RunFolderError  a run's folder (plan, prompts, manifest, versions) cannot be read or used
├── AudioFileError  a file cannot be scored
├── TextError       a text cannot be scored
├── CheckpointError a model cannot be loaded, or is another than was said
└── OptionError     an option has a value that cannot be used

The docstring of a class is its default message.
"""

__all__ = [
    "AudioFileError",
    "CheckpointError",
    "EvalError",
    "OptionError",
    "RunFolderError",
    "ScoresError",
    "TextError",
    "VotesError",
]


class EvalError(Exception):
    """The evaluation could not be done."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ScoresError(EvalError):
    """The table of scores cannot be read or used."""


class VotesError(EvalError):
    """The file of votes cannot be read or used."""


class RunFolderError(EvalError):
    """The folder of the run cannot be read or used."""


class OptionError(EvalError):
    """An option has a value that cannot be used."""


class AudioFileError(EvalError):
    """The file cannot be scored."""


class TextError(EvalError):
    """The text cannot be scored."""


class CheckpointError(EvalError):
    """The model cannot be loaded."""
