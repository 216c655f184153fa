"""What a language model is asked to answer with, as a schema and as a parser that trusts nothing."""

import re
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..types import MusicPlan

__all__ = ["Answer", "AnswerError", "answer_schema", "parse_answer"]

Key = Literal["C", "C#", "Db", "D", "D#", "Eb", "E", "F", "F#", "Gb", "G", "G#", "Ab", "A", "A#", "Bb", "B"]
_Name = Field(min_length=1, max_length=60)
_BOUNDS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "title", "default", "minimum", "maximum"})


class AnswerError(ValueError):
    """The text is no JSON object of the schema; the message tells the model what is wrong."""


class Answer(BaseModel):
    """A music plan and the prompt that describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    genre: str = _Name
    moods: list[str] = Field(max_length=4, description="one to three mood words")
    tempo_bpm: int = Field(ge=20, le=300, description="beats per minute, 30 to 240")
    key: Key | None = Field(description="the key note; null leaves it open")
    mode: Literal["major", "minor", "dorian", "mixolydian", "phrygian", "lydian", "pentatonic"]
    register_: Literal["low", "mid", "high"] = Field(alias="register")
    articulation: Literal["legato", "mixed", "staccato"]
    dynamics: Literal["soft", "moderate", "loud"]
    harmony: Literal["consonant", "mixed", "dissonant"]
    rhythm: str = Field(min_length=1, max_length=120, description="the rhythm in a few words")
    lead: str = Field(min_length=1, max_length=60, description="the instrument that leads")
    accompaniment: list[str] = Field(max_length=8, description="the other instruments")
    timbres: list[str] = Field(max_length=6, description="one to three words for the sound")
    prompt: str = Field(min_length=1, max_length=800, description="the prompt for the music model")

    def plan(self, exclude: tuple[str, ...]) -> MusicPlan:
        """The plan of this answer; what is left out is the person's to say, not the model's."""
        return MusicPlan(
            genre=self.genre.strip(),
            moods=tuple(self.moods),
            tempo_bpm=self.tempo_bpm,
            key=self.key,
            mode=self.mode,
            register=self.register_,
            articulation=self.articulation,
            dynamics=self.dynamics,
            harmony=self.harmony,
            rhythm=self.rhythm,
            lead=self.lead,
            accompaniment=tuple(self.accompaniment),
            timbres=tuple(self.timbres),
            exclude=exclude,
        )


@cache
def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer, in the subset that servers with structured output share: no bounds."""
    return _plain(Answer.model_json_schema(by_alias=True))


def _plain(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_plain(s) for s in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for name, value in schema.items():  # pyright: ignore[reportUnknownVariableType]
        if name == "properties":
            kept[name] = {n: _plain(v) for n, v in value.items()}
        elif name not in _BOUNDS:
            kept[str(name)] = _plain(value)
    return kept


def parse_answer(text: str) -> Answer:
    """The answer in a model's text; thoughts before it and fences around it are passed over.

    Raises:
        AnswerError: no JSON object of the schema in it.
    """
    text = re.sub(r"<think>.*?</think>", " ", text, flags=re.DOTALL)
    first, last = text.find("{"), text.rfind("}")
    if first < 0 or last < first:
        raise AnswerError("The answer holds no JSON object.")
    try:
        return Answer.model_validate_json(text[first : last + 1])
    except ValidationError as e:
        found = e.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(str(p) for p in f['loc']) or 'JSON'}: {f['msg']}" for f in found[:8])
        raise AnswerError(f"The JSON does not fit the schema: {wrong}.") from None
