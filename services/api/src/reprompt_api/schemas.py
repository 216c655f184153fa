"""What goes over the wire, beside the contract of generations in reprompt-core and the Reprompt JSON."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from reprompt_core.generation.contract import (
    ErrorCode,
    Format,
    Generation,
    GenerationError,
    GenerationRequest,
    Generator,
    Place,
    Status,
    Take,
)
from reprompt_core.pipeline import Refiner
from reprompt_core.types import Mode

from .answer_schema import RepromptView, described

__all__ = [
    "Comparison",
    "ComparisonRequest",
    "Corpus",
    "GenerationPage",
    "GenerationView",
    "Liveness",
    "PlaceView",
    "PromptRequest",
    "Readiness",
    "Side",
    "TakeView",
    "Vote",
]

_WORDS = "A scene, a mood, a dish or music talk, in plain words."
_ID = "3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55"
_AT = "2026-01-31T09:30:00Z"
_Words = Annotated[str, described(_WORDS, "a bowl of spicy ramen under neon signs", min_length=1, max_length=2000)]
_Names = list[Annotated[str, Meta(max_length=200)]]
_Time = Annotated[datetime, Meta(tz=True)]


class PromptRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words to be turned into a music prompt."""

    words: _Words
    mode: Annotated[Mode, described("Rewrite the words, append the music to them, or leave them (off).", "rewrite")] = (
        "rewrite"
    )
    refiner: Annotated[
        Refiner, described("Who writes: a language model (llm), the rules, or whichever is there (auto).", "auto")
    ] = "auto"
    n: Annotated[int, described("Candidates asked of a language model; the best is chosen.", 1, ge=1, le=8)] = 1
    seed: Annotated[
        int, described("Of a language model's answer: another seed, another answer.", 0, ge=0, le=2**53 - 1)
    ] = 0
    corpora: Annotated[
        Annotated[_Names, Meta(min_length=1, max_length=50)] | None,
        described("Search these corpora alone, by name; null: all. See /v1/corpora.", ["reprompt"]),
    ] = None
    licenses: Annotated[
        Annotated[_Names, Meta(min_length=1, max_length=50)] | None,
        described("Search corpora with these licences alone; null: any.", ["MIT"]),
    ] = None


class TakeView(Take, frozen=True, kw_only=True):
    """A take, and where to hear it."""

    number: Annotated[int, described("From 0.", 0, ge=0, lt=64)]
    seed: Annotated[int, described("With which it was made.", 0, ge=0)]
    format: Annotated[Format, described("Of the file.", "wav")]
    bytes: Annotated[int, described("Size of the file.", 1764044, ge=1)]
    sha256: Annotated[str, described("Of the file; its ETag, too.", "9f2c" * 16, pattern="^[0-9a-f]{64}$")]
    seconds: Annotated[float, described("Length.", 10.0, gt=0)]
    sample_rate: Annotated[int, described("Hz.", 44100, ge=1)]
    channels: Annotated[int, described("1 or 2.", 2, ge=1, le=8)]
    loudness_lufs: Annotated[float, described("Integrated loudness, ITU-R BS.1770.", -16.0)]
    true_peak_dbtp: Annotated[float, described("True peak in dB relative to full scale.", -1.2)]
    audio: Annotated[str, described("Address of the file, on this server.", f"/v1/generations/{_ID}/takes/0/audio")]


class FailureView(GenerationError, frozen=True, kw_only=True):
    """Why there is no result."""

    code: Annotated[ErrorCode, described("What kind of failure; internal: the server's log says more.", "timeout")]
    message: Annotated[str, described("In words.", "No result came in time.", max_length=1000)]


class GenerationView(Struct, frozen=True, kw_only=True):
    """A generation, as far as it is."""

    id: Annotated[str, described("Of the generation.", _ID)]
    status: Annotated[Status, described("succeeded, failed and cancelled are final.", "succeeded")]
    generator: Annotated[Place, described("Where it is made.", "preview")]
    is_preview: Annotated[bool, described("A synthesizer plays the plan; no model made this sound.", True)]
    request: Annotated[GenerationRequest, described("What was asked for.")]
    prompt: Annotated[str, described("What the model is given.", "Techno in B minor, energetic and ...")]
    reprompt: Annotated[RepromptView, described("Before and after, with every reason.")]
    attempts: Annotated[int, described("How often it was begun.", 1)]
    progress: Annotated[float, described("From 0 to 1.", 1.0, ge=0, le=1)]
    created_at: Annotated[_Time, described("When it was accepted.", _AT)]
    started_at: Annotated[_Time | None, described("When it was last begun.", _AT)]
    finished_at: Annotated[_Time | None, described("When its status became final.", _AT)]
    model: Annotated[str | None, described("What made it.", "reprompt-preview")]
    model_revision: Annotated[str | None, described("Its version.", "0.1.0")]
    takes: Annotated[list[TakeView], described("What was made; empty until it succeeded.")]
    error: Annotated[FailureView | None, described("Why it failed; null: it did not.", None)]
    timings_ms: Annotated[dict[str, float], described("Milliseconds of each part.", {"reprompt": 6.2, "making": 84.0})]
    version: Annotated[int, described("Of this form.", 1)]

    @classmethod
    def of(cls, g: Generation) -> "GenerationView":
        """The view of a generation."""
        base = f"/v1/generations/{g.id}/takes"
        takes = [
            TakeView(**{f: getattr(t, f) for f in Take.__struct_fields__}, audio=f"{base}/{t.number}/audio")
            for t in g.takes
        ]
        # as they were written down: nothing is read from them here
        reprompt: Any = g.reprompt
        error: Any = g.error
        return cls(
            id=g.id, status=g.status, generator=g.generator, is_preview=g.generator == "preview", request=g.request,
            prompt=g.prompt, reprompt=reprompt, attempts=g.attempts, progress=g.progress, created_at=g.created_at,
            started_at=g.started_at, finished_at=g.finished_at, model=g.model, model_revision=g.model_revision,
            takes=takes, error=error, timings_ms=g.timings_ms, version=g.version,
        )  # fmt: skip


class GenerationPage(Struct, frozen=True, kw_only=True):
    """Generations, newest first."""

    items: Annotated[list[GenerationView], described("The generations of this page.")]
    next: Annotated[
        str | None,
        described("`cursor` for the next page; null: this is the last.", "MjAyNi0wMS0zMVQwOTozMDow..."),
    ] = None


class Corpus(Struct, frozen=True, kw_only=True):
    """A corpus of music captions that can be searched."""

    name: Annotated[str, described("Its name.", "reprompt")]
    license: Annotated[str, described("Under which its captions may be used.", "MIT")]
    captions: Annotated[int, described("How many there are.", 452)]


class PlaceView(Struct, frozen=True, kw_only=True):
    """Where music can be made."""

    generator: Annotated[Place, described("The place.", "preview")]
    available: Annotated[bool, described("A live worker would make it now.", True)]
    slots: Annotated[int, described("Generations at once.", 2)]
    queued: Annotated[int, described("How many wait.", 0)]
    running: Annotated[int, described("How many are being made.", 0)]
    wait_s: Annotated[float | None, described("Estimated seconds until a new one starts; null: not known.", 0.0)]
    model: Annotated[str | None, described("What makes it.", "reprompt-preview")] = None
    model_revision: Annotated[str | None, described("Its version.", "0.1.0")] = None


class ComparisonRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same words, with and without rewriting, to be heard blind."""

    words: _Words
    refiner: Annotated[Refiner, described("Who rewrites.", "auto")] = "auto"
    generator: Annotated[Generator, described("Where both are made.", "auto")] = "auto"
    seconds: Annotated[float, described("Length of both.", 10, ge=1, le=60)] = 10.0
    seed: Annotated[int, described("Of both.", 0, ge=0, le=2**53 - 1)] = 0


class Side(Struct, frozen=True, kw_only=True):
    """A or B, as much as may be known of it. Until the vote both tell the same: how far the two are together."""

    status: Annotated[Status, described("Until the vote that of both together.", "succeeded")]
    progress: Annotated[float, described("Until the vote that of both together, 0 to 1.", 1.0, ge=0, le=1)]
    audio: Annotated[
        str | None,
        described(
            "Address of the sound, once both can be heard; null: not yet, or deleted.", f"/v1/comparisons/{_ID}/a/audio"
        ),
    ] = None
    is_rewritten: Annotated[bool | None, described("Null until the vote.", True)] = None
    prompt: Annotated[str | None, described("Null until the vote.", "Techno in B minor, ...")] = None


class Comparison(Struct, frozen=True, kw_only=True):
    """A blind test. Which is which is told after the vote."""

    id: Annotated[str, described("Of the comparison.", _ID)]
    words: Annotated[str, described("What both are about.", "sad piano in the rain")]
    seconds: Annotated[float, described("Length of both.", 10.0)]
    seed: Annotated[int, described("Of both.", 0)]
    generator: Annotated[Place, described("Where both are made.", "preview")]
    is_preview: Annotated[bool, described("A synthesizer plays them; no model made these sounds.", True)]
    created_at: Annotated[_Time, described("When it was accepted.", _AT)]
    ready: Annotated[bool, described("Both can be heard.", True)]
    a: Annotated[Side, described("The one that is shown as A.")]
    b: Annotated[Side, described("The one that is shown as B.")]
    choice: Annotated[
        Literal["a", "b", "none"] | None, described("The vote; none: they fit equally well; null: not yet.", "a")
    ] = None
    preferred: Annotated[Literal["raw", "rewritten", "none"] | None, described("What the vote means.", "rewritten")] = (
        None
    )
    voted_at: Annotated[_Time | None, described("When the vote was cast.", _AT)] = None


class Vote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which fits the words better."""

    choice: Annotated[Literal["a", "b", "none"], described("none: they fit equally well.", "a")]


class Liveness(Struct, frozen=True, kw_only=True):
    """The process runs."""

    status: Annotated[Literal["alive"], described("Always alive.", "alive")] = "alive"


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether requests can be answered, and what is missing."""

    ready: Annotated[bool, described("They can.", True)]
    not_ready: Annotated[list[str], described("What is missing: database, queue, ...", [])]
