"""Concepts: things people name, with their sensory and musical values, and the lexicon that finds them by name.

Each CSV holds one family of kinds and the columns that make sense for it; the schema here is the one truth about
both. Several values in a cell are joined by `|`. An alias that ends in `?` is an everyday word with other meanings
("house?", "rock?"): it counts only where the sentence speaks of its field.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from ..errors import KnowledgeError
from ..types import TASTES
from ..words import Token, Words, fold

__all__ = [
    "KINDS",
    "Concept",
    "InstrumentSound",
    "Lexicon",
    "Match",
    "MusicStyle",
    "load_concepts",
    "read_concept",
    "read_concepts",
]

TEXTURES = frozenset(
    "smooth creamy silky velvety crunchy crispy chewy soft tender juicy sticky gooey fluffy airy foamy dense flaky "
    "fizzy grainy firm brittle oily thick thin slippery crumbly tough gelatinous spongy powdery moist dry melting "
    "rough syrupy".split()
)
TEMPERATURES = frozenset("frozen cold cool room warm hot".split())
COLOURS = frozenset(
    "red orange yellow green blue purple pink brown black white grey golden beige multicoloured clear".split()
)
AROMAS = frozenset(
    "fruity citrus floral herbal spiced smoky roasted nutty buttery vanilla caramel chocolate earthy meaty fishy "
    "yeasty fermented cheesy fresh minty garlicky woody winey malty coconut anise pungent vegetal toasty savoury "
    "milky honeyed boozy tart grassy medicinal".split()
)
TIMBRES = frozenset(
    "warm bright dark soft mellow airy reverberant dry distorted crisp rich lush sparse dense metallic hollow glassy "
    "gritty punchy breathy shimmering muffled lo-fi spacious intimate rough smooth sharp round deep resonant "
    "percussive hazy silky velvety nasal piercing buzzing tape-saturated pulsing delicate bold hypnotic gentle raw "
    "woody twangy brassy sparkling heavy light droning echoing".split()
)
FAMILIES = frozenset(
    "happiness sadness anger fear tenderness disgust surprise nostalgia calm excitement power mystery romance "
    "boredom".split()
)
GROOVES = frozenset(
    "four_on_floor backbeat halftime swing shuffle boom_bap breakbeat waltz bossa samba clave reggae dembow afrobeat "
    "march six_eight train polka tango funk two_step blast free".split()
)
MODES = frozenset("major minor dorian mixolydian phrygian lydian pentatonic".split())
_REGISTERS = frozenset({"low", "mid", "high"})
_ROLES = frozenset("lead chords bass pad rhythm".split())
_ARTICULATIONS = frozenset({"legato", "mixed", "staccato"})
_DYNAMICS = frozenset({"soft", "moderate", "loud"})
ATTRIBUTES = frozenset(
    "sweet sour bitter salty umami spicy creamy smooth soft rough crunchy cold hot light-yellow dark-blue "
    "dark-red".split()
)
KINDS = {
    "foods": ("food", "drink"),
    "scenes": ("place", "time", "weather", "activity", "occasion", "ambience"),
    "moods": ("mood",),
    "sensations": ("taste", "texture", "temperature", "colour", "aroma"),
    "instruments": ("instrument",),
    "genres": ("genre",),
}
_COMMON = ("name", "kind", "aliases_en", "aliases_es", "about")
_FEELING = ("valence", "arousal", "energy", "brightness")
COLUMNS = {
    "foods": (*_COMMON, *TASTES, "textures", "temperature", "colour", "aroma"),
    "scenes": (*_COMMON, *_FEELING, "temperature", "genres", "timbres"),
    "moods": (*_COMMON, *_FEELING, "family"),
    "sensations": (*_COMMON, *TASTES, *_FEELING, "attribute"),
    "instruments": (*_COMMON, "family", "program", "register", "roles", "timbres", *_FEELING),
    "genres": (
        *_COMMON,
        *("tempo_min", "tempo_max", "mode", "articulation", "dynamics", "groove", "rhythm"),
        *("lead", "accompaniment", "timbres", *_FEELING),
    ),
}


@dataclass(frozen=True, slots=True)
class InstrumentSound:
    """How an instrument sounds and what it does in a band."""

    family: str
    program: int | None  # General MIDI, 0..127; None: unpitched percussion
    register: str  # low | mid | high
    roles: tuple[str, ...]  # of lead, chords, bass, pad, rhythm


@dataclass(frozen=True, slots=True)
class MusicStyle:
    """How a genre is usually played."""

    tempo: tuple[int, int]  # BPM, from..to
    mode: str
    articulation: str
    dynamics: str
    groove: str
    rhythm: str
    lead: tuple[str, ...]
    accompaniment: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing people name."""

    name: str
    kind: str
    aliases_en: tuple[str, ...]
    aliases_es: tuple[str, ...]
    about: str
    tastes: dict[str, float] = field(default_factory=dict[str, float])  # each 0..1
    valence: float | None = None  # -1..1
    arousal: float | None = None  # -1..1
    energy: float | None = None  # 0..1
    brightness: float | None = None  # 0..1
    textures: tuple[str, ...] = ()
    temperature: str = ""
    colour: str = ""
    aroma: tuple[str, ...] = ()
    genres: tuple[str, ...] = ()  # music that suits a scene
    timbres: tuple[str, ...] = ()
    family: str = ""  # of a mood
    attribute: str = ""  # the researched attribute that a sensation stands for
    sound: InstrumentSound | None = None
    style: MusicStyle | None = None


def load_concepts() -> list[Concept]:
    """The shipped concepts, in file order.

    Raises:
        KnowledgeError: a row does not fit the schema.
    """
    concepts: list[Concept] = []
    folder = resources.files("reprompt_core.knowledge")
    for table in KINDS:
        concepts += read_concepts(folder / f"{table}.csv", table)
    return concepts


def read_concepts(path: Traversable, table: str) -> list[Concept]:
    """The concepts of one CSV file with the columns of `table`.

    Raises:
        KnowledgeError: naming file, line and column.
    """
    with path.open(encoding="utf-8") as f:
        rows = csv.reader(f)
        header = next(rows, [])
        if tuple(header) != COLUMNS[table]:
            raise KnowledgeError(f"{path.name}: its columns must be {','.join(COLUMNS[table])}.")
        concepts: list[Concept] = []
        for row in rows:
            where = f"{path.name}:{rows.line_num}"
            if len(row) != len(header):
                raise KnowledgeError(f"{where}: {len(row)} cells where the header has {len(header)}.")
            named = dict(zip(header, row, strict=True))
            try:
                concepts.append(read_concept(named, table))
            except KnowledgeError as e:
                raise KnowledgeError(f"{where} ({named.get('name', '?')}): {e}") from e
        return concepts


def read_concept(row: Mapping[str, str], table: str) -> Concept:
    """The concept of one row that has the columns of `table`.

    Raises:
        KnowledgeError: naming the column.
    """

    def several(column: str, allowed: frozenset[str] | None = None) -> tuple[str, ...]:
        values = tuple(v for v in row.get(column, "").split("|") if v)
        if allowed is not None and (wrong := set(values) - allowed):
            raise KnowledgeError(f"{column}: {', '.join(sorted(wrong))} is not in the vocabulary")
        return values

    def one(column: str, allowed: frozenset[str]) -> str:
        values = several(column, allowed)
        if len(values) > 1:
            raise KnowledgeError(f"{column}: one value, not {len(values)}")
        return values[0] if values else ""

    def number(column: str, low: float) -> float | None:
        if not row.get(column):
            return None
        try:
            value = float(row[column])
        except ValueError:
            value = 9.0
        if not low <= value <= 1:
            raise KnowledgeError(f"{column}: {row[column]!r} is not a number from {low:g} to 1")
        return value

    def whole(column: str) -> int:
        try:
            return int(row[column])
        except ValueError as e:
            raise KnowledgeError(f"{column}: {row[column]!r} is not a whole number") from e

    if row["kind"] not in KINDS[table] or not row["name"]:
        raise KnowledgeError(f"kind: {row['kind']!r} is not one of {', '.join(KINDS[table])}")
    values: dict[str, Any] = {
        "tastes": {t: v for t in TASTES if (v := number(t, 0))},
        "valence": number("valence", -1),
        "arousal": number("arousal", -1),
        "energy": number("energy", 0),
        "brightness": number("brightness", 0),
        "textures": several("textures", TEXTURES),
        "temperature": one("temperature", TEMPERATURES),
        "colour": one("colour", COLOURS),
        "aroma": several("aroma", AROMAS),
        "genres": several("genres"),
        "timbres": several("timbres", TIMBRES),
        "attribute": one("attribute", ATTRIBUTES),
    }
    if table == "moods":
        values["family"] = one("family", FAMILIES)
    if table == "instruments":
        program = None if row["program"] == "drums" else whole("program")
        if program is not None and not 0 <= program <= 127:
            raise KnowledgeError(f"program: {program} is not a General MIDI program (0 to 127)")
        values["sound"] = InstrumentSound(row["family"], program, one("register", _REGISTERS), several("roles", _ROLES))
    if table == "genres":
        slowest, fastest = whole("tempo_min"), whole("tempo_max")
        if not 20 <= slowest < fastest <= 300:
            raise KnowledgeError(f"tempo: {slowest} to {fastest} BPM is no range")
        values["style"] = MusicStyle(
            tempo=(slowest, fastest),
            mode=one("mode", MODES),
            articulation=one("articulation", _ARTICULATIONS),
            dynamics=one("dynamics", _DYNAMICS),
            groove=one("groove", GROOVES),
            rhythm=row["rhythm"],
            lead=several("lead"),
            accompaniment=several("accompaniment"),
        )
    return Concept(row["name"], row["kind"], several("aliases_en"), several("aliases_es"), row["about"], **values)


@dataclass(frozen=True, slots=True)
class Sense:
    """What an alias may mean."""

    concept: int  # index
    everyday: bool  # the alias has other, everyday meanings
    native: bool  # the alias belongs to the language of the text


@dataclass(frozen=True, slots=True)
class Match:
    """An alias found in the words: what it may mean, and its tokens [first, last)."""

    senses: tuple[Sense, ...]
    first: int
    last: int


_Node = dict[str, Any]  # token -> next node; "" -> {concept index: [everyday in English, in Spanish]}, None: no alias
_LANGUAGES = ("en", "es")


class Lexicon:
    """Finds concepts by name: the longest alias at each place, accents, case, hyphens and plurals aside."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._root: _Node = {}
        self._names = {" ".join(alias_tokens(c.name)) for c in concepts if c.name}
        for index, concept in enumerate(concepts):
            if concept.name and f"{concept.name.lower()}?" not in concept.aliases_en:
                self._add(concept.name, index, 0, False)
            for language, aliases in enumerate((concept.aliases_en, concept.aliases_es)):
                for alias in aliases:
                    self._add(alias.rstrip("?"), index, language, alias.endswith("?"))

    def _add(self, alias: str, index: int, language: int, everyday: bool) -> None:
        node = self._root
        for token in alias_tokens(alias):
            node = node.setdefault(token, {})
        if node is not self._root:
            flags = node.setdefault("", {}).setdefault(index, [None, None])
            flags[language] = everyday and flags[language] is not False

    def find(self, tokens: Sequence[Token], *, language: str = "und") -> list[Match]:
        """The longest matches, left to right, none overlapping another, none reaching over a clause's end.

        A single word of the other language is taken for an everyday word: English "pan" is not Spanish bread.
        """
        matches: list[Match] = []
        i = 0
        while i < len(tokens):
            found = self._longest(tokens, i, language)
            if found:
                matches.append(found)
                i = found.last
            else:
                i += 1
        return matches

    def _longest(self, tokens: Sequence[Token], first: int, language: str) -> Match | None:
        best: tuple[dict[int, list[bool | None]], int] | None = None
        nodes = [self._root]
        for i in range(first, len(tokens)):
            if tokens[i].clause != tokens[first].clause:
                break
            nodes = [n for node in nodes for form in singulars(tokens[i].text) if (n := node.get(form))]
            if not nodes:
                break
            if concepts := {k: flags for node in reversed(nodes) for k, flags in node.get("", {}).items()}:
                best = concepts, i + 1
        if best is None:
            return None
        own = _LANGUAGES.index(language) if language in _LANGUAGES else None
        single = best[1] - first == 1
        senses = tuple(s for k, flags in best[0].items() if (s := _sense(k, flags, own, single)))
        return Match(senses, first, best[1])

    def names(self, text: str) -> list[int]:
        """Concepts named in a text without weighing everyday words: for captions, which speak only of music."""
        tokens = Words(text).tokens
        return [
            sense.concept
            for match in self.find(tokens)
            for sense in match.senses
            # "metal" in "submerged metal groans" is no genre; a genre's own everyday name ("rock", "house") is
            if not sense.everyday or " ".join(t.text for t in tokens[match.first : match.last]) in self._names
        ]


def _sense(concept: int, flags: list[bool | None], own: int | None, single: bool) -> Sense | None:
    if own is None:
        return Sense(concept, all(f is not False for f in flags), True)
    if (everyday := flags[own]) is not None:
        return Sense(concept, everyday, True)
    # an everyday word of the other language means nothing here: Spanish "de pie" is no pie
    return None if single and flags[1 - own] else Sense(concept, bool(flags[1 - own]) or single, False)


_ALIAS_TOKEN = re.compile(r"[^\W_]+")


def alias_tokens(alias: str) -> list[str]:
    """The folded tokens of an alias, as they are found in a text."""
    return _ALIAS_TOKEN.findall(fold(alias))


def singulars(token: str) -> Iterable[str]:
    """The token and what it may be the plural of, English and Spanish."""
    yield token
    if len(token) < 4 or not token.endswith("s"):
        return
    yield token[:-1]
    if token.endswith("es"):
        yield token[:-2]
    if token.endswith("ies"):
        yield token[:-3] + "y"
    if token.endswith("ces"):
        yield token[:-3] + "z"
    if token.endswith("ves"):
        yield token[:-3] + "f"
