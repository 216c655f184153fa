"""The contract of a generation: what is asked for, and what came of it. Versioned JSON, the same at every end.

The API, the queue worker and the serverless handler read and write these structs and nothing else; a field that is not
here is refused. `to_json` and `from_json` are the two directions.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..errors import PromptError
from ..pipeline import Refiner
from ..types import Mode

__all__ = [
    "CONTENT_TYPES",
    "TERMINAL",
    "VERSION",
    "ErrorCode",
    "Format",
    "Generation",
    "GenerationError",
    "GenerationRequest",
    "Generator",
    "Place",
    "RemoteJob",
    "RemoteResult",
    "RemoteTake",
    "Status",
    "Take",
    "audio_key",
    "from_json",
    "from_object",
    "to_json",
]

VERSION: Final = 1
Generator = Literal["auto", "preview", "musicgen", "runpod"]
Place = Literal["preview", "musicgen", "runpod"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Format = Literal["wav", "flac", "ogg", "mp3"]
TERMINAL: Final[frozenset[Status]] = frozenset({"succeeded", "failed", "cancelled"})
CONTENT_TYPES: Final[dict[Format, str]] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
}

ErrorCode = Literal[
    "invalid",  # the request cannot be made there: too long, not a format, ...
    "capacity",  # it does not fit the memory there
    "storage",  # the audio could not be kept
    "too_large",  # the audio is larger than the answer may be
    "timeout",  # no result by the deadline
    "expired",  # the endpoint no longer knows the job
    "refused",  # the endpoint refused it: key, endpoint id, payload
    "bad_result",  # the endpoint answered something that is no result
    "unknown",  # whether it was submitted is not known: a person must look
    "crashed",  # its worker died with it, each time
    "internal",  # a fault of ours; the log says which
]

_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class GenerationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make."""

    words: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=2000,
            description="A scene, a mood, a dish or music talk, in plain words.",
            examples=["a bowl of spicy ramen under neon signs"],
        ),
    ]
    prompt: (
        Annotated[
            str, Meta(min_length=1, max_length=2000, description="The prompt as edited by hand: it is used as it is.")
        ]
        | None
    ) = None
    mode: Annotated[Mode, Meta(description="Rewrite the words, append the music to them, or leave them (off).")] = (
        "rewrite"
    )
    refiner: Annotated[Refiner, Meta(description="Who writes the prompt.")] = "auto"
    generator: Annotated[
        Generator,
        Meta(description="Where it is made; auto: RunPod if configured, else a live MusicGen worker, else a preview."),
    ] = "auto"
    seconds: Annotated[float, Meta(ge=1, le=300, description="Length of each take in seconds.", examples=[10])] = 10.0
    takes: Annotated[int, Meta(ge=1, le=8, description="Takes of the same prompt.")] = 1
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1, description="The same seed gives the same audio.")] = 0
    guidance: Annotated[
        float, Meta(ge=1, le=20, description="Weight of the text (classifier-free guidance); 1: off.")
    ] = 3.0
    temperature: Annotated[float, Meta(gt=0, le=10, description="Of the sampling.")] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=2048, description="Choose among this many entries; 0: all.")] = 250
    format: Annotated[Format, Meta(description="Of the audio files.")] = "wav"


class Take(Struct, frozen=True, kw_only=True):
    """One piece of audio."""

    number: Annotated[int, Meta(ge=0, lt=64, description="From 0.")]
    seed: Annotated[int, Meta(ge=0, description="With which it was made.")]
    format: Format
    bytes: Annotated[int, Meta(ge=1, description="Size of the file.")]
    sha256: Annotated[_Digest, Meta(description="Of the file.")]
    seconds: Annotated[float, Meta(gt=0)]
    sample_rate: Annotated[int, Meta(ge=1, description="Hz")]
    channels: Annotated[int, Meta(ge=1, le=8)]
    loudness_lufs: Annotated[float, Meta(description="Integrated loudness, ITU-R BS.1770.")]
    true_peak_dbtp: Annotated[float, Meta(description="True peak in dB relative to full scale.")]


class GenerationError(Struct, frozen=True, kw_only=True):
    """Why there is no result, in words for the person who asked."""

    code: ErrorCode
    message: Annotated[str, Meta(max_length=1000)]


class Generation(Struct, frozen=True, kw_only=True):
    """A generation, as far as it is."""

    id: str
    status: Status
    generator: Annotated[Place, Meta(description="Where it is made.")]
    request: GenerationRequest
    reprompt: Annotated[dict[str, Any], Meta(description="Before and after, with every reason: see POST /v1/prompts.")]
    priority: int
    attempts: int
    progress: Annotated[float, Meta(ge=0, le=1)]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    model: str | None = None
    model_revision: str | None = None
    takes: tuple[Take, ...] = ()
    error: GenerationError | None = None
    timings_ms: dict[str, float] = {}
    version: Literal[1] = VERSION

    @property
    def done(self) -> bool:
        """Whether its status is final."""
        return self.status in TERMINAL

    @property
    def prompt(self) -> str:
        """What the model is given."""
        return str(self.reprompt["prompt"])

    def key(self, take: Take) -> str:
        """Where a take's audio lies in the audio store."""
        return audio_key(self.id, self.attempts, take.sha256, take.format)


def audio_key(generation: str, attempt: int, sha256: str, format: Format) -> str:
    """The name of a take in the audio store: a content hash, in a folder of its generation and attempt."""
    return f"{generation}/{attempt}/{sha256}.{format}"


class RemoteJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a serverless endpoint is sent."""

    id: Annotated[str, Meta(pattern="^[0-9a-f-]{36}$")]
    attempt: Annotated[int, Meta(ge=1)]
    prompt: Annotated[str, Meta(min_length=1, max_length=10_000)]
    seconds: Annotated[float, Meta(ge=1, le=300)]
    takes: Annotated[int, Meta(ge=1, le=8)]
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    guidance: Annotated[float, Meta(ge=1, le=20)]
    temperature: Annotated[float, Meta(gt=0, le=10)]
    top_k: Annotated[int, Meta(ge=0, le=2048)]
    format: Format
    version: Literal[1] = VERSION


class RemoteTake(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A take of a serverless endpoint: inline, or in the object storage that both ends share."""

    take: Take
    audio: str | None = None  # base64; None: it was uploaded under `audio_key`


class RemoteResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a serverless endpoint answers: takes, or an error."""

    takes: tuple[RemoteTake, ...] = ()
    model: str | None = None
    model_revision: str | None = None
    error: GenerationError | None = None
    timings_ms: dict[str, float] = {}
    version: Literal[1] = VERSION


_T = TypeVar("_T", bound=Struct)


def to_json(value: Struct) -> bytes:
    """The JSON of a struct, always the same for the same value."""
    return msgspec.json.encode(value)


def from_json(content: bytes | str, type: type[_T]) -> _T:
    """The struct of a JSON text.

    Raises:
        PromptError: it is not JSON, or does not fit; says where.
    """
    try:
        return msgspec.json.decode(content, type=type)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise PromptError(f"Not a {type.__name__}: {e}") from e


def from_object(value: object, type: type[_T]) -> _T:
    """The struct of plain dicts, lists, strings and numbers, such as JSON gives.

    Raises:
        PromptError: it does not fit; says where.
    """
    try:
        return msgspec.convert(value, type=type)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise PromptError(f"Not a {type.__name__}: {e}") from e
