"""What the person wants left out, as a test of names and phrases."""

import re

from .knowledge import Knowledge
from .knowledge.concepts import singulars
from .types import Stated
from .words import fold

__all__ = ["Exclusion"]

_DRUMS = frozenset(
    "drum drums kick snare hat hats hi-hat hihat cymbal cymbals tom toms backbeat beat beats breakbeat breakbeats "
    "boom-bap four-on-the-floor 808 808s rimshot rim ride brushed brushes percussion drumming".split()
)
_SYNTHS = frozenset("synth synths synthesizer synthesizers supersaw".split())
_FAMILIES = {
    # word: (families of the instruments it names, words that name it in a phrase)
    "drums": ((), _DRUMS),
    "percussion": (
        ("percussion", "pitched percussion"),
        _DRUMS | frozenset("percussion percussive clap claps shaker shakers congas bongos tambourine".split()),
    ),
    "brass": (
        ("brass",),
        frozenset("brass brassy horn horns trumpet trumpets trombone trombones tuba".split()),
    ),
    "strings": (("bowed strings",), frozenset("string strings violin violins cello cellos viola".split())),
    "woodwind": (("woodwind",), frozenset("woodwind woodwinds flute clarinet oboe reed reeds".split())),
    "wind": (
        ("woodwind", "brass"),
        frozenset("wind winds woodwind woodwinds brass flute horn horns".split()),
    ),
    "vocals": (("voice",), frozenset("vocal vocals voice voices choir sung singing chant".split())),
    "synth": ((), _SYNTHS),
    "synthesizer": ((), _SYNTHS),
    "keyboards": (
        ("keyboards",),
        _SYNTHS | frozenset("piano keyboard keyboards organ rhodes clavinet".split()),
    ),
}
_SMALL = frozenset("a an and of the with in on de la el kit set music live section".split())


class Exclusion:
    """Tells whether an instrument, a genre or a phrase holds something that is to be left out."""

    def __init__(self, stated: Stated, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._families: set[str] = set()
        self._names = set(stated.exclude)
        self.words: set[str] = set()
        for name in (*stated.exclude, *stated.exclude_texts):
            families, words = _FAMILIES.get("drums" if name == "drum kit" else name, ((), frozenset()))
            self._families.update(families)
            self.words |= words
            self.words |= {
                fold(concept.name).split()[-1].removesuffix("s")
                for concept in knowledge.instruments.values()
                if concept.sound and concept.sound.family in families
            }
            tokens = [t for t in re.findall(r"[a-z0-9-]+", fold(name)) if t not in _SMALL]
            # "acoustic guitar" said as "guitar" leaves out every guitar; said in full, only the word it ends with
            self.words.update(form for t in tokens[-1:] for form in singulars(t))
        self.words -= _SMALL | {"bass", "organ"} - set(stated.exclude_texts)
        # "big beat without drums": the word that is left out is also part of what was asked for
        asked = (*stated.genres, *(text for pair in stated.instruments for text in pair))
        self._asked = [re.compile(rf"\b{re.escape(fold(a))}s?\b") for a in dict.fromkeys(asked)]

    def __bool__(self) -> bool:
        return bool(self.words or self._names)

    def phrase(self, text: str) -> bool:
        """Whether a phrase names something left out."""
        if not self.words:
            return False
        tokens = re.findall(r"[a-z0-9-]+", fold(text))
        parts = {form for t in tokens for piece in (t, *t.split("-")) for form in singulars(piece)}
        return bool(parts & self.words)

    def instrument(self, name: str) -> bool:
        """Whether an instrument is left out, by itself or with its family."""
        if not self:
            return False
        concept = self._knowledge.instruments.get(name)
        if name in self._names or self.phrase(name):
            return True
        if concept is None or concept.sound is None:
            return False
        # drum sounds go by many names; whatever is a kit or a part of one goes with the drums
        return concept.sound.family in self._families or any(self.phrase(a) for a in concept.aliases_en[:2])

    def text(self, text: str) -> bool:
        """Whether a text, what the person asked for aside, names something left out."""
        text = fold(text)
        for asked in self._asked:
            text = asked.sub(" ", text)
        if self.phrase(text):
            return True
        genres, instruments = self._knowledge.music_in(text) if self else ([], [])
        return any(self.genre(g) for g in genres) or any(self.instrument(i) for i in instruments)

    def genre(self, name: str) -> bool:
        """Whether a genre is left out."""
        return name in self._names or self.phrase(name)
