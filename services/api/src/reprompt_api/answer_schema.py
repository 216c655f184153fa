"""The Reprompt JSON, described: what `POST /v1/prompts` answers and every generation carries.

The pipeline makes it (`Reprompt.to_dict`); nothing is read into these types, they are the document that /schema shows.
A test holds the two together.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from reprompt_core.types import Mode

__all__ = ["RepromptView", "described"]


def described(description: str, *examples: Any, **more: Any) -> Meta:
    """What a field means, with examples of its values."""
    return Meta(description=description, examples=list(examples) or None, **more)


class EmotionView(Struct, frozen=True):
    """The feeling of the whole."""

    valence: Annotated[float, described("From unpleasant, -1, to pleasant, 1.", 0.24, ge=-1, le=1)]
    arousal: Annotated[float, described("From calm, -1, to excited, 1.", 0.44, ge=-1, le=1)]
    labels: Annotated[list[str], described("Moods that the words name.", ["happy"])]


class MentionView(Struct, frozen=True):
    """A concept found in the words."""

    text: Annotated[str, described("As the person wrote it.", "neon signs")]
    concept: Annotated[str, described("The concept's name.", "neon sign")]
    kind: Annotated[str, described("What it is: food, drink, taste, mood, place, instrument, genre, ...", "ambience")]
    score: Annotated[float, described("1 by name; cosine similarity by nearness.", 1.0)]
    via: Annotated[Literal["name", "nearest"], described("How it was found: by its name, or by its meaning.", "name")]
    negated: Annotated[bool, described("The words say that it is not there.", False)]


class DescriptorView(Struct, frozen=True):
    """One sensory or emotional value read from the mentions."""

    dimension: Annotated[str, described("A taste, texture, temperature, colour, aroma, valence, energy, ...", "umami")]
    value: Annotated[float | str, described("A number, or a word where there is none.", 0.8, "hot")]
    weight: Annotated[float, described("How much it counts, 0 to 1.", 0.8)]
    origin: Annotated[str, described("What it was read from.", "ramen")]


class CaptionView(Struct, frozen=True):
    """A music caption near the words."""

    text: Annotated[str, described("The caption.", "Neon reflections on wet asphalt: this chillwave piece ...")]
    corpus: Annotated[str, described("Where it is from: see /v1/corpora.", "reprompt")]
    similarity: Annotated[float, described("Cosine similarity to the words.", 0.51)]
    license: Annotated[str, described("Of the corpus.", "MIT")]


class PlanView(Struct, frozen=True):
    """The music to be made."""

    genre: Annotated[str, described("The genre.", "techno")]
    moods: Annotated[list[str], described("Up to a few moods.", ["energetic", "majestic"])]
    tempo_bpm: Annotated[int, described("Beats a minute.", 138)]
    key: Annotated[str | None, described("The key note; null: left open.", "B")]
    mode: Annotated[str, described("major, minor, dorian, mixolydian, phrygian, lydian or pentatonic.", "minor")]
    register: Annotated[str, described("low, mid or high.", "low")]
    articulation: Annotated[str, described("legato, mixed or staccato.", "staccato")]
    dynamics: Annotated[str, described("soft, moderate or loud.", "loud")]
    harmony: Annotated[str, described("consonant, mixed or dissonant.", "mixed")]
    rhythm: Annotated[str, described("The rhythm in words.", "steady regular pulse")]
    lead: Annotated[str, described("The leading instrument.", "synth arpeggio")]
    accompaniment: Annotated[list[str], described("What plays with it.", ["synth bass", "electric guitar"])]
    timbres: Annotated[list[str], described("The colour of the sound.", ["rough", "resonant"])]
    exclude: Annotated[list[str], described("What must not be heard.", ["drums"])]


class ReasonView(Struct, frozen=True):
    """Why a musical parameter has its value: one vote that was cast for it."""

    parameter: Annotated[str, described("Which part of the plan.", "register")]
    value: Annotated[str, described("The value that it speaks for.", "low")]
    weight: Annotated[float, described("How much it counts.", 0.56)]
    because: Annotated[str, described("What in the words it comes from.", "umami 0.80 (ramen)")]
    source: Annotated[str, described("The publication, if any.", "Crisinel & Spence 2010 APP 72:1994")]
    doi: Annotated[str, described("Of the publication.", "10.3758/APP.72.7.1994")]
    status: Annotated[
        Literal["stated", "confirmed", "recalled", "caption", "model", "default"],
        described(
            "stated: the words say it. confirmed: read in its source. recalled: remembered from the literature. "
            "caption: from captions near the words. model: from the language model. default: a choice of design.",
            "confirmed",
        ),
    ]


class AttemptView(Struct, frozen=True):
    """One request to a language model."""

    candidate: Annotated[int, described("Which of the candidates, from 0.", 0)]
    repair: Annotated[bool, described("The second request, with what failed in the first.", False)]
    outcome: Annotated[str, described("accepted, failed checks, or what went wrong.", "accepted")]
    failed: Annotated[list[str], described("Names of the checks that failed.", ["language"])]
    ms: Annotated[float, described("Milliseconds.", 812.4)]


class CandidateView(Struct, frozen=True):
    """A prompt of a language model that passed all checks."""

    prompt: Annotated[str, described("The prompt.", "Techno at 138 BPM in B minor ...")]
    plan: Annotated[PlanView, described("Its plan.")]
    score: Annotated[float, described("How much it keeps of the words' meaning, 0 to 1.", 0.71)]
    chosen: Annotated[bool, described("It is the one.", True)]


class TraceView(Struct, frozen=True):
    """What a language model was asked, and what came of it."""

    model: Annotated[str, described("As its server calls it.", "llama3.1")]
    server: Annotated[str, described("Host and port.", "localhost:11434")]
    template: Annotated[str, described("Version of the messages.", "3")]
    structured: Annotated[bool | None, described("Whether the server takes a JSON schema; null: not known yet.", True)]
    cached: Annotated[bool, described("An answer that was kept.", False)]
    attempts: Annotated[list[AttemptView], described("Each request.")]
    candidates: Annotated[list[CandidateView], described("Each prompt that passed.")]


class RepromptView(Struct, frozen=True):
    """Before and after, with everything between."""

    words: Annotated[str, described("What the person said.", "a bowl of spicy ramen under neon signs, no drums")]
    prompt: Annotated[str, described("What a text-to-music model is given.", "Techno in B minor, energetic and ...")]
    mode: Annotated[Mode, described("rewrite, append or off.", "rewrite")]
    refiner: Annotated[
        str, described("Who wrote the prompt: rules, llm, or person where it was edited by hand.", "rules")
    ]
    language: Annotated[str, described("Of the words, ISO 639-1; und: not known.", "en")]
    tastes: Annotated[dict[str, float], described("Each basic taste, 0 to 1.", {"umami": 0.8, "spicy": 0.6})]
    emotion: Annotated[EmotionView, described("The feeling of the whole.")]
    mentions: Annotated[list[MentionView], described("The concepts found in the words.")]
    descriptors: Annotated[list[DescriptorView], described("What they mean to the senses.")]
    captions: Annotated[list[CaptionView], described("Music captions near the words.")]
    plan: Annotated[PlanView, described("The music to be made.")]
    reasons: Annotated[list[ReasonView], described("Why each part of the plan is as it is.")]
    warnings: Annotated[list[str], described("What to know about this answer.", ["The words seem to be in ..."])]
    timings_ms: Annotated[dict[str, float], described("Milliseconds of each step.", {"senses": 3.1, "total": 5.9})]
    trace: Annotated[TraceView | None, described("Of the language model; null: none was asked.")]
