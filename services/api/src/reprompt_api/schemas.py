"""What goes over the wire, beside the contract of generations in reprompt-core."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from reprompt_core.generation.contract import Generation, GenerationRequest, Place, Take
from reprompt_core.pipeline import Refiner
from reprompt_core.types import Mode

__all__ = [
    "Comparison",
    "ComparisonRequest",
    "Corpus",
    "GenerationPage",
    "GenerationView",
    "PlaceView",
    "PromptRequest",
    "Readiness",
    "TakeView",
    "Vote",
]

_Words = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2000,
        description="A scene, a mood, a dish or music talk, in plain words.",
        examples=["a bowl of spicy ramen under neon signs"],
    ),
]


class PromptRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words to be turned into a music prompt."""

    words: _Words
    mode: Annotated[Mode, Meta(description="Rewrite the words, append the music to them, or leave them (off).")] = (
        "rewrite"
    )
    refiner: Annotated[Refiner, Meta(description="Who writes: a language model, the rules, or whichever is there.")] = (
        "auto"
    )
    n: Annotated[int, Meta(ge=1, le=8, description="Candidates asked of a language model.")] = 1
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1, description="Of a language model's answer.")] = 0
    corpora: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)] | None = None
    licenses: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)] | None = None


class TakeView(Take, frozen=True, kw_only=True):
    """A take, and where to hear it."""

    audio: Annotated[str, Meta(description="Address of the file, relative to the server.")]


class GenerationView(Struct, frozen=True, kw_only=True):
    """A generation, as far as it is."""

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    generator: Annotated[Place, Meta(description="Where it is made.")]
    is_preview: Annotated[bool, Meta(description="A synthesizer plays the plan; no model made this sound.")]
    request: GenerationRequest
    prompt: Annotated[str, Meta(description="What the model is given.")]
    reprompt: Annotated[dict[str, Any], Meta(description="Before and after, with every reason: see POST /v1/prompts.")]
    attempts: int
    progress: Annotated[float, Meta(ge=0, le=1)]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    model: str | None
    model_revision: str | None
    takes: list[TakeView]
    error: Any
    timings_ms: dict[str, float]
    version: int

    @classmethod
    def of(cls, g: Generation) -> "GenerationView":
        """The view of a generation."""
        base = f"/v1/generations/{g.id}/takes"
        takes = [
            TakeView(**{f: getattr(t, f) for f in Take.__struct_fields__}, audio=f"{base}/{t.number}/audio")
            for t in g.takes
        ]
        return cls(
            id=g.id, status=g.status, generator=g.generator, is_preview=g.generator == "preview", request=g.request,
            prompt=g.prompt, reprompt=g.reprompt, attempts=g.attempts, progress=g.progress, created_at=g.created_at,
            started_at=g.started_at, finished_at=g.finished_at, model=g.model, model_revision=g.model_revision,
            takes=takes, error=g.error, timings_ms=g.timings_ms, version=g.version,
        )  # fmt: skip


class GenerationPage(Struct, frozen=True, kw_only=True):
    """Generations, newest first."""

    items: list[GenerationView]
    next: Annotated[str | None, Meta(description="Cursor of the next page; null: this is the last.")] = None


class Corpus(Struct, frozen=True, kw_only=True):
    """A corpus of music captions that can be searched."""

    name: str
    license: str
    captions: int


class PlaceView(Struct, frozen=True, kw_only=True):
    """Where music can be made."""

    generator: Place
    available: Annotated[bool, Meta(description="A live worker would make it now.")]
    slots: Annotated[int, Meta(description="Generations at once.")]
    queued: int
    running: int
    wait_s: Annotated[float | None, Meta(description="Estimated seconds until a new one starts; null: not known.")]
    model: str | None = None
    model_revision: str | None = None


class ComparisonRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same words, with and without rewriting, to be heard blind."""

    words: _Words
    refiner: Refiner = "auto"
    generator: Literal["auto", "preview", "musicgen", "runpod"] = "auto"
    seconds: Annotated[float, Meta(ge=1, le=60)] = 10.0
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1, description="Of both.")] = 0


class Side(Struct, frozen=True, kw_only=True):
    """A or B, as much as may be known of it."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float
    audio: str | None = None
    is_rewritten: Annotated[bool | None, Meta(description="Null until the vote.")] = None
    prompt: Annotated[str | None, Meta(description="Null until the vote.")] = None


class Comparison(Struct, frozen=True, kw_only=True):
    """A blind test. Which is which is told after the vote."""

    id: str
    words: str
    seconds: float
    seed: int
    generator: Place
    is_preview: bool
    created_at: datetime
    ready: Annotated[bool, Meta(description="Both can be heard.")]
    a: Side
    b: Side
    choice: Literal["a", "b", "none"] | None = None
    preferred: Literal["raw", "rewritten", "none"] | None = None
    voted_at: datetime | None = None


class Vote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which fits the words better."""

    choice: Annotated[Literal["a", "b", "none"], Meta(description="none: they fit equally well.")]


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether requests can be answered, and what is missing."""

    ready: bool
    not_ready: list[str]
