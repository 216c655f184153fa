"""The nouns that travel from step to step. All frozen; `Reprompt.to_dict()` is the JSON contract."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

__all__ = [
    "TASTES",
    "Attempt",
    "Brief",
    "Candidate",
    "Caption",
    "CaptionFilter",
    "Descriptor",
    "Emotion",
    "Mention",
    "Mode",
    "MusicPlan",
    "Reason",
    "Reprompt",
    "Senses",
    "Stated",
    "Trace",
]

TASTES = ("sweet", "salty", "sour", "bitter", "umami", "spicy")
Mode = Literal["rewrite", "append", "off"]
Via = Literal["name", "nearest"]
Status = Literal["stated", "confirmed", "recalled", "caption", "model", "default"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A concept found in the person's words."""

    text: str  # as the person wrote it
    concept: str  # the concept's name
    kind: str  # food, drink, taste, place, mood, instrument, genre, ...
    score: float  # 1.0 by name; cosine similarity by nearness
    via: Via
    negated: bool = False
    start: int = 0  # position in the words, in characters
    end: int = 0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One sensory or emotional value read from the mentions."""

    dimension: str  # a taste, texture, temperature, colour, aroma, valence, arousal, energy, brightness
    value: float | str
    weight: float  # 0..1
    origin: str  # what it was read from


@dataclass(frozen=True, slots=True)
class Emotion:
    """Valence and arousal, each -1..1, and the moods they were read from or lie nearest to."""

    valence: float
    arousal: float
    labels: tuple[str, ...] = ()
    stated: bool = False  # the person named a feeling


@dataclass(frozen=True, slots=True)
class Senses:
    """What layer 1 read from the words."""

    mentions: tuple[Mention, ...]
    descriptors: tuple[Descriptor, ...]
    tastes: dict[str, float]
    emotion: Emotion

    def of(self, *kinds: str, negated: bool = False) -> list[Mention]:
        """The mentions of these kinds."""
        return [m for m in self.mentions if m.kind in kinds and m.negated == negated]


@dataclass(frozen=True, slots=True)
class Caption:
    """A music caption near the words."""

    text: str
    corpus: str
    similarity: float  # cosine
    genres: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    license: str = ""


@dataclass(frozen=True, slots=True)
class CaptionFilter:
    """Which captions may be found."""

    corpora: tuple[str, ...] | None = None  # names; None: all
    licenses: tuple[str, ...] | None = None  # as the corpora give them; None: any
    flagged: bool = False  # those about voices or the quality of a recording, too


@dataclass(frozen=True, slots=True)
class Stated:
    """The music words that the person used themselves; each beats every vote."""

    tempo_bpm: int | None = None
    pace: str | None = None  # slow | moderate | fast
    key: str | None = None
    key_written: str | None = None  # as the person wrote it: "B flat" for Bb
    mode: str | None = None
    register: str | None = None
    articulation: str | None = None
    dynamics: str | None = None
    harmony: str | None = None
    genres: tuple[str, ...] = ()
    instruments: tuple[tuple[str, str], ...] = ()  # (concept name, as to be written)
    timbres: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # concept names, or names of instrument families
    exclude_texts: tuple[str, ...] = ()  # as the person wrote them


@dataclass(frozen=True, slots=True)
class MusicPlan:
    """The music to be made."""

    genre: str
    moods: tuple[str, ...]
    tempo_bpm: int
    key: str | None  # C, C#, Db, ... ; None: left open
    mode: str  # major, minor, dorian, mixolydian, phrygian, lydian, pentatonic
    register: str  # low | mid | high
    articulation: str  # legato | mixed | staccato
    dynamics: str  # soft | moderate | loud
    harmony: str  # consonant | mixed | dissonant
    rhythm: str
    lead: str
    accompaniment: tuple[str, ...]
    timbres: tuple[str, ...]
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a musical parameter has its value: one vote that was cast for it."""

    parameter: str
    value: str
    weight: float
    because: str
    source: str = ""
    doi: str = ""
    status: Status = "default"


@dataclass(frozen=True, slots=True)
class Brief:
    """Everything a refiner may use."""

    words: str
    language: str
    senses: Senses
    stated: Stated
    captions: tuple[Caption, ...]
    plan: MusicPlan
    reasons: tuple[Reason, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a language model."""

    candidate: int  # which of the candidates, from 0
    repair: bool  # the second request, with what failed in the first
    outcome: str  # accepted | failed checks | what went wrong
    failed: tuple[str, ...]  # names of the failed checks; never the model's own text
    ms: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt of a language model that passed all checks."""

    prompt: str
    plan: MusicPlan
    score: float  # how much it keeps of the words' meaning and of the rules plan, 0..1
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """What a language model was asked, and what came of it."""

    model: str
    server: str  # host and port
    template: str  # version of the messages
    structured: bool | None  # whether the server takes a JSON schema; None: not known yet
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Reprompt:
    """Before and after, with everything between."""

    words: str
    prompt: str
    mode: Mode
    refiner: str
    language: str
    tastes: dict[str, float]
    emotion: Emotion
    mentions: tuple[Mention, ...]
    descriptors: tuple[Descriptor, ...]
    captions: tuple[Caption, ...]
    plan: MusicPlan
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict[str, float])
    trace: Trace | None = None  # None: no language model was asked

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: plain dicts, lists, strings and numbers.

        Values: tastes 0..1, valence and arousal -1..1, similarities as cosines, times in milliseconds.
        """
        d = _plain(self)
        del d["emotion"]["stated"]
        for mention in d["mentions"]:
            del mention["start"], mention["end"]
        for caption in d["captions"]:
            del caption["genres"], caption["instruments"]
        return d


def _plain(value: Any) -> Any:
    """The same value with dicts for dataclasses, lists for tuples, and floats rounded to 4 places.

    Four times as fast as `dataclasses.asdict`, which copies every string.
    """
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is float:
        return round(value, 4)
    if kind is tuple or kind is list:
        return [_plain(v) for v in value]
    if kind is dict:
        return {k: _plain(v) for k, v in value.items()}
    if (names := _FIELDS.get(kind)) is None:
        if not is_dataclass(kind):
            return round(float(value), 4) if isinstance(value, float) else value
        names = _FIELDS[kind] = tuple(f.name for f in fields(kind))
    return {name: _plain(getattr(value, name)) for name in names}


_FIELDS: dict[type, tuple[str, ...]] = {}  # of each dataclass
