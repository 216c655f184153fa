"""Every error that reprompt-core raises on purpose.

RepromptError
├── PromptError              the words cannot be used (empty, too long, not text)
├── SettingsError            a setting or option has a value that cannot be used
├── EncoderError             no encoder bundle, or one that cannot be trusted
├── DatabaseError            the database cannot be reached or used
│   └── EncoderMismatchError its vectors were made by another encoder
├── CorpusError              a corpus cannot be read, added, found or written
├── KnowledgeError           a knowledge file does not fit its schema
└── AudioError               the sound cannot be made or written

The docstring of a class is its default message.
"""

__all__ = [
    "AudioError",
    "CorpusError",
    "DatabaseError",
    "EncoderError",
    "EncoderMismatchError",
    "KnowledgeError",
    "PromptError",
    "RepromptError",
    "SettingsError",
]


class RepromptError(Exception):
    """Reprompt could not answer."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class PromptError(RepromptError):
    """The words cannot be used."""


class SettingsError(RepromptError):
    """A setting has a value that cannot be used."""


class EncoderError(RepromptError):
    """The sentence encoder cannot be used."""


class DatabaseError(RepromptError):
    """The database cannot be used."""


class EncoderMismatchError(DatabaseError):
    """The database holds vectors of another encoder; run `reprompt corpus reembed`."""


class CorpusError(RepromptError):
    """The corpus cannot be read, added, found or written."""


class KnowledgeError(RepromptError):
    """A knowledge file does not fit its schema."""


class AudioError(RepromptError):
    """The sound cannot be made or written."""
