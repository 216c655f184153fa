"""Every error that reprompt-core raises on purpose.

RepromptError
├── PromptError              the words cannot be used (empty, too long, not text)
├── SettingsError            a setting or option has a value that cannot be used
├── EncoderError             no encoder bundle, or one that cannot be trusted
├── DatabaseError            the database cannot be reached or used
│   └── EncoderMismatchError its vectors were made by another encoder
├── CorpusError              a corpus cannot be read, added, found or written
├── KnowledgeError           a knowledge file does not fit its schema
├── AudioError               the sound cannot be made or written
│   └── AudioStoreError      audio cannot be kept or read
└── JobError                 a generation cannot be accepted, found or made
    ├── JobNotFoundError     there is none of this id
    ├── KeyReusedError       its idempotency key was used for another request
    ├── QueueFullError       too many wait already
    └── MakingError          it cannot be made; carries the error that the person is shown

The docstring of a class is its default message.
"""

__all__ = [
    "AudioError",
    "AudioStoreError",
    "CorpusError",
    "DatabaseError",
    "EncoderError",
    "EncoderMismatchError",
    "JobError",
    "JobNotFoundError",
    "KeyReusedError",
    "KnowledgeError",
    "MakingError",
    "PromptError",
    "QueueFullError",
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


class AudioStoreError(AudioError):
    """The audio store cannot be used."""


class JobError(RepromptError):
    """The generation cannot be accepted, found or made."""


class JobNotFoundError(JobError):
    """There is no such generation."""


class KeyReusedError(JobError):
    """This idempotency key was used for another request; use a new key for a new request."""


class QueueFullError(JobError):
    """Too many generations are waiting; try again in a while."""


class MakingError(JobError):
    """The generation could not be made.

    Args:
        message: for the person who asked.
        code: of `contract.ErrorCode`.
        again: whether another attempt may succeed.
    """

    def __init__(self, message: str | None = None, *, code: str = "internal", again: bool = False) -> None:
        super().__init__(message)
        self.code, self.again = code, again
