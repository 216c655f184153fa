"""Who plays what: the plan's instruments, found in the knowledge and given their parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..exclusion import Exclusion
from ..knowledge import InstrumentSound, Knowledge
from ..types import MusicPlan, Stated
from ..words import fold
from .patterns import GROOVES, KITS, PERCUSSION, Groove

__all__ = ["Band", "Player", "assemble", "groove_of", "resolve"]

# What an instrument that no name or alias tells is taken for: the first of these words that it holds.
_BY_WORD = (
    ("bass", "electric bass"), ("distort", "distorted guitar"), ("electric guitar", "clean electric guitar"),
    ("guitar", "acoustic guitar"), ("organ", "Hammond organ"), ("pad", "synth pad"), ("string", "string section"),
    ("synth", "synthesizer"), ("brass", "brass section"), ("horn", "French horn"), ("sax", "saxophone"),
    ("choir", "choir"), ("voice", "choir"), ("bell", "tubular bells"), ("harp", "harp"), ("flute", "flute"),
    ("percus", "congas"), ("drum", "drum kit"), ("beat", "drum kit"),
)  # fmt: skip
_ANY_CHORDS = ("piano", "nylon-string guitar", "harp", "string section", "vibraphone")
_ANY_BASS = ("upright bass", "electric bass", "synth bass")
_DRUM_STEMS = ("drum", "percus", "bater", "tambor")  # English and Spanish, as the person may have written it
# General MIDI programs that come in slowly or hang on: bowed sections, voices, pads
_SUSTAINED = frozenset((*range(16, 24), 44, *range(48, 55), *range(88, 96), 109, 122))


@dataclass(frozen=True, slots=True)
class Player:
    """An instrument of the plan."""

    name: str  # in the knowledge
    sound: InstrumentSound

    @property
    def sustains(self) -> bool:
        """Whether it holds notes better than it marks beats."""
        return self.sound.program in _SUSTAINED


@dataclass(frozen=True, slots=True)
class Band:
    """The players and their parts."""

    lead: Player | None  # None: percussion leads, and nobody plays a melody
    chords: Player
    bass: Player | None  # None: the chords player's low hand
    pads: tuple[Player, ...]
    kit: bool  # the groove's drums play
    drummer: bool  # the plan names drums, or its genre is played with them
    percussion: tuple[str, ...]  # hand percussion that the plan names, keys of PERCUSSION


def groove_of(plan: MusicPlan, knowledge: Knowledge) -> tuple[str, Groove]:
    """The groove of the plan's genre, by name and as patterns; a backbeat where the genre is not known."""
    named = (plan.genre, *knowledge.music_in(plan.genre)[0])  # "synth-funk" is played like funk
    genre = next((knowledge.genres[n] for n in named if n in knowledge.genres), None)
    name = genre.style.groove if genre and genre.style else "backbeat"
    return name, GROOVES[name]


def resolve(text: str, knowledge: Knowledge) -> Player:
    """The instrument that a text names: by its name, by an alias, else the likeliest by its words, else a piano."""
    name = text if text in knowledge.instruments else next(iter(knowledge.music_in(text)[1]), "")
    if not name:
        folded = fold(text)
        name = next((n for word, n in _BY_WORD if word in folded), "piano")
    return _player(name, knowledge)


def assemble(plan: MusicPlan, knowledge: Knowledge) -> Band:
    """The band of a plan: roles decide who plays bass, chords and pads; what is missing is filled unobtrusively."""
    names = [n for text in plan.exclude for n in knowledge.music_in(text)[1]]
    exclusion = Exclusion(Stated(exclude=tuple(names), exclude_texts=plan.exclude), knowledge)
    drums = not any(stem in fold(text) for text in plan.exclude for stem in _DRUM_STEMS)
    drums = drums and not exclusion.instrument("drum kit")
    lead = resolve(plan.lead, knowledge)
    others = [p for text in plan.accompaniment if (p := resolve(text, knowledge)).name != lead.name]
    pitched = [p for p in others if p.sound.program is not None]
    beaten = [p for p in (lead, *others) if p.sound.program is None]
    bass = _first(pitched, "bass", low=True)
    rest = [p for p in pitched if p is not bass]
    chords = _first(rest, "chords") or _first(rest, "rhythm") or _first(rest, "pad")
    if chords is None and lead.sound.program is not None and "chords" in lead.sound.roles:
        chords = lead
    chords = chords or _any(_ANY_CHORDS, exclusion, knowledge)
    if bass is None and ("chords" not in chords.sound.roles or chords.sustains):
        bass = _any(_ANY_BASS, exclusion, knowledge)
        bass = None if exclusion.instrument(bass.name) else bass
    genre = knowledge.genres.get(plan.genre)
    style = genre.style if genre else None
    named = tuple(dict.fromkeys(p.name for p in beaten if p.name in PERCUSSION)) if drums else ()
    return Band(
        lead=lead if lead.sound.program is not None else None,
        chords=chords,
        bass=bass,
        pads=tuple(p for p in rest if p is not chords)[:2],
        kit=drums and groove_of(plan, knowledge)[0] != "free",
        drummer=not KITS.isdisjoint({*(p.name for p in beaten), *(style.accompaniment if style else ())}),
        percussion=named,
    )


def _player(name: str, knowledge: Knowledge) -> Player:
    sound = knowledge.instruments[name].sound
    assert sound is not None
    return Player(name, sound)


def _first(players: Sequence[Player], role: str, *, low: bool = False) -> Player | None:
    """The player for whom the role comes first, else one who has it."""
    able = [p for p in players if role in p.sound.roles and (not low or p.sound.register == "low")]
    return min(able, key=lambda p: p.sound.roles.index(role), default=None)


def _any(names: Sequence[str], exclusion: Exclusion, knowledge: Knowledge) -> Player:
    """The first that is not excluded; the last if all are."""
    return _player(next((n for n in names if not exclusion.instrument(n)), names[-1]), knowledge)
