"""What the person says of the music itself: tempo, key, instruments, genre, dynamics, and what to leave out."""

import re
from collections.abc import Sequence

from .knowledge import Knowledge
from .knowledge.concepts import TIMBRES, singulars
from .phrases import negated_tokens
from .types import Mention, Senses, Stated
from .vocabulary import CUES
from .words import Words, fold

__all__ = ["keys_in", "read_stated", "said_with", "tempos_in"]

BPM = (30, 260)

_BPM = re.compile(
    r"(?<![\d.,])(\d{2,3})(?:[.,]\d+)?\s*-?\s*(?:bpm|beats? (?:per|a) minute|ppm|pulsos?\b|golpes por minuto)",
    re.IGNORECASE,
)
_BPM_AFTER = re.compile(r"\b(?:tempo|bpm)\s*(?:of|de|at|a|:|=)?\s*(\d{2,3})\b", re.IGNORECASE)
_MODES = {
    "major": "major", "mayor": "major", "maj": "major",
    "minor": "minor", "menor": "minor", "min": "minor",
    "dorian": "dorian", "dorico": "dorian",
    "phrygian": "phrygian", "frigio": "phrygian",
    "lydian": "lydian", "lidio": "lydian",
    "mixolydian": "mixolydian", "mixolidio": "mixolydian",
    "pentatonic": "pentatonic", "pentatonica": "pentatonic",
}  # fmt: skip
_MODE = "|".join(sorted(_MODES, key=len, reverse=True))
_NOTE_NAMES = {"do": "C", "re": "D", "mi": "E", "fa": "F", "sol": "G", "la": "A", "si": "B"}
_ACCIDENTAL = r"(?:\s*(?:#|♯|♭)|b(?![a-z])|[\s-]+(?:sharp|flat|sostenido|bemol))?"
_KEY = re.compile(rf"(?<![\w'])([A-Ga-g])({_ACCIDENTAL})[\s-]+((?i:{_MODE}))\b")
_LATIN_KEY = re.compile(rf"\b(do|re|mi|fa|sol|la|si)({_ACCIDENTAL})[\s-]+({_MODE})\b", re.IGNORECASE)
_NOTE = r"([B-Gb-g]|A|(?i:do|re|mi|fa|sol|la|si))"
_KEYS_ALONE = (  # without a mode
    re.compile(rf"\b(?i:key of|tonalidad de|en tono de)\s+{_NOTE}({_ACCIDENTAL})(?!\w)"),
    re.compile(rf"\b(?i:in|en)\s+{_NOTE}({_ACCIDENTAL.removesuffix('?')})(?!\w)"),  # "in B flat", "en fa#"
    re.compile(r"\b[Ii]n ([A-G])()(?=\s*(?:$|[.,;:)]|(?:at|with)\b))"),  # "in C, 90 BPM", not "in A city"
)
_ANY_MODE = re.compile(
    rf"\b({_MODE})\b(?=[\s-]*(?:key|mode|scale|chord|tonal|tono|modo|escala|acorde|melod|harmon))|\b(?:key|mode|scale|modo|escala|tonalidad|tono)\s+({_MODE})\b",
    re.IGNORECASE,
)

_PACE = {
    "slow": "slow", "slowly": "slow", "lento": "slow", "lenta": "slow", "lentos": "slow", "largo": "", "adagio": "slow",
    "despacio": "slow", "downtempo": "", "unhurried": "slow", "pausado": "slow", "pausada": "slow",
    "fast": "fast", "quick": "fast", "rapido": "fast", "rapida": "fast", "presto": "fast", "allegro": "fast",
    "vivace": "fast", "uptempo": "fast", "veloz": "fast", "acelerado": "fast", "acelerada": "fast", "speedy": "fast",
    "andante": "moderate", "moderato": "moderate", "midtempo": "moderate",
}  # fmt: skip
_DYNAMICS = {
    "soft": "soft", "softly": "soft", "quiet": "soft", "quietly": "soft", "gentle": "soft", "gently": "soft",
    "pianissimo": "soft", "suave": "soft", "suaves": "soft", "suavemente": "soft", "bajito": "soft", "delicate": "soft",
    "tenue": "soft", "bajita": "soft", "callado": "soft", "callada": "soft", "silencioso": "soft", "silenciosa": "soft",
    "pianisimo": "soft", "delicado": "soft", "delicada": "soft", "hushed": "soft",
    "loud": "loud", "loudly": "loud", "fortissimo": "loud", "fortisimo": "loud", "forte": "loud",
    "fuerte": "loud", "fuertes": "loud",
    "estruendoso": "loud", "estruendosa": "loud", "ruidoso": "loud", "ruidosa": "loud", "deafening": "loud",
    "atronador": "loud", "potente": "loud", "blasting": "loud",
}  # fmt: skip
_ARTICULATION = {
    "staccato": "staccato", "picado": "staccato", "pizzicato": "staccato", "legato": "legato", "ligado": "legato",
}  # fmt: skip
_PHRASING = {
    "plucky": "staccato", "choppy": "staccato", "sustained": "legato", "flowing": "legato", "sostenidas": "legato",
}  # fmt: skip
_HARMONY = {
    "dissonant": "dissonant", "disonante": "dissonant", "atonal": "dissonant", "discordant": "dissonant",
    "consonant": "consonant", "consonante": "consonant", "harmonious": "consonant",
}  # fmt: skip
_PITCH = re.compile(
    r"\b(high|low|mid|alto|alta|agudo|aguda|grave|bajo)[\s-]*(?:pitch(?:ed)?|register|notes?|registro|octaves?)"
    r"|\b(?:registro|tono|notas?)\s+(alto|agudo|agudas?|grave|graves|bajo|medio)"
)
_REGISTER = {"high": "high", "alto": "high", "alta": "high", "agudo": "high", "aguda": "high", "agudas": "high",
             "low": "low", "grave": "low", "graves": "low", "bajo": "low", "mid": "mid", "medio": "mid"}  # fmt: skip
_TIMBRES_ES = {
    "calido": "warm", "calida": "warm", "brillante": "bright", "oscuro": "dark", "oscura": "dark",
    "distorsionado": "distorted", "distorsionada": "distorted", "aspero": "rough", "aspera": "rough",
    "profundo": "deep", "profunda": "deep", "metalico": "metallic", "metalica": "metallic",
    "nitido": "crisp", "nitida": "crisp", "etereo": "airy", "eterea": "airy",
}  # fmt: skip
# words for whole families of instruments, and the family or name part they stand for
FAMILY_WORDS = {
    "percussion": "percussion", "percusion": "percussion", "beat": "drums", "beats": "drums", "drum": "drums",
    "guitar": "guitar", "guitarra": "guitar", "synth": "synth", "sintetizador": "synth", "organ": "organ",
    "organo": "organ", "piano": "piano", "bass": "bass", "bajo": "bass", "brass": "brass", "metal": "brass",
    "viento": "wind", "strings": "strings", "string": "strings", "cuerda": "strings", "cuerdas": "strings",
    "keyboard": "keyboards", "keyboards": "keyboards", "teclado": "keyboards",
    "saxophone": "saxophone", "sax": "saxophone", "saxofon": "saxophone", "vocal": "vocals", "voice": "vocals",
    "voz": "vocals", "woodwind": "woodwind", "horn": "brass", "bell": "bell", "campana": "bell",
    "bateria": "drums", "tambor": "drums", "violin": "violin", "flute": "flute", "flauta": "flute",
}  # fmt: skip


def read_stated(words: Words, senses: Senses, knowledge: Knowledge) -> Stated:
    """The person's own music words.

    Dynamics, pace and timbre words count only beside music (an instrument, a genre, or a word like "tempo"): a soft
    cheese and a slow Sunday are not about the sound.
    """
    instruments = senses.of("instrument")
    genres = senses.of("genre")
    excluded = [*senses.of("instrument", negated=True), *senses.of("genre", negated=True)]
    # the same thing wanted once and refused once: refused, whatever the text says before or after
    refused = {m.concept for m in excluded}
    instruments = [m for m in instruments if m.concept not in refused]
    genres = [m for m in genres if m.concept not in refused]
    key, mode, written = _key(words.text)
    beside = _Beside(words, [*instruments, *genres, *excluded])
    names, texts = _excluded(words, excluded, [*instruments, *genres])
    return Stated(
        tempo_bpm=_bpm(words.text),
        pace=beside.first(_PACE),
        key=key,
        key_written=written,
        mode=mode,
        register=_register(words.text),
        articulation=beside.first(_ARTICULATION, anywhere=True) or beside.first(_PHRASING),
        dynamics=beside.first(_DYNAMICS),
        harmony=beside.first(_HARMONY, anywhere=True),
        genres=tuple(dict.fromkeys(m.concept for m in genres)),
        instruments=tuple({m.concept: (m.concept, _written(m, knowledge)) for m in reversed(instruments)}.values())[
            ::-1
        ],
        timbres=beside.timbres(),
        exclude=tuple(dict.fromkeys(names)),
        exclude_texts=tuple(dict.fromkeys(texts)),
    )


def tempos_in(text: str) -> list[int]:
    """Every tempo that a text names, in beats per minute."""
    return [int(m[1]) for m in _BPM.finditer(text)] or [int(m[1]) for m in _BPM_AFTER.finditer(text)]


def keys_in(text: str) -> list[tuple[str, str]]:
    """Every key that an English text names, such as ("Bb", "minor")."""
    return [
        (m[1].upper() + _sign(fold(m[2]).strip(" -")), _MODES[fold(m[3])])
        for m in _KEY.finditer(text)
        if m[1].isupper()
    ]


def said_with(parameter: str, value: str) -> set[str]:
    """The words that say a value of dynamics, articulation or harmony."""
    tables = {"dynamics": (_DYNAMICS,), "articulation": (_ARTICULATION, _PHRASING), "harmony": (_HARMONY,)}
    return {word for table in tables[parameter] for word, said in table.items() if said == value} | {value}


def _bpm(text: str) -> int | None:
    for pattern in (_BPM, _BPM_AFTER):
        if (found := pattern.search(text)) and BPM[0] <= int(found[1]) <= BPM[1]:
            return int(found[1])
    return None


def _key(text: str) -> tuple[str | None, str | None, str | None]:
    """(key, mode, key as to be written), such as ("Bb", "minor", "B flat"); each may be None."""
    for pattern, latin in ((_KEY, False), (_LATIN_KEY, True)):
        for found in pattern.finditer(_keep_case(text)):
            note, accidental, mode = found[1], fold(found[2]).strip(" -"), _MODES[fold(found[3])]
            if not _names_key(text, found, latin=latin):
                continue  # "a minor change", "la mayor parte"
            letter = _NOTE_NAMES[note.lower()] if latin else note.upper()
            return letter + _sign(accidental), mode, _written_key(letter, accidental)
    mode = _MODES[found[1] or found[2]] if (found := _ANY_MODE.search(fold(text))) else None
    for pattern in _KEYS_ALONE:
        if found := pattern.search(text):
            letter = _NOTE_NAMES.get(found[1].lower(), found[1].upper())
            accidental = fold(found[2]).strip(" -")
            # "the key of F" is F major
            return letter + _sign(accidental), mode or "major", _written_key(letter, accidental)
    return None, mode, None


def _written_key(letter: str, accidental: str) -> str:
    return f"{letter} {accidental}" if accidental in {"flat", "sharp"} else letter + _sign(accidental)


def _keep_case(text: str) -> str:
    """Without accents where that keeps every position, so that "dórico" matches."""
    return "".join(fold(c) if not c.isascii() and len(fold(c)) == 1 and c not in "♯♭" else c for c in text)


def _sign(accidental: str) -> str:
    if accidental in {"#", "♯", "sharp", "sostenido"}:
        return "#"
    return "b" if accidental in {"b", "♭", "flat", "bemol"} else ""


_AFTER_KEY = frozenset(
    "at with and around but please no or in for played sin con a y al para pero por key scale".split()
)


def _names_key(text: str, found: re.Match[str], *, latin: bool) -> bool:
    """Whether "a minor", "la mayor" name a key, and not "a minor change", "la mayor parte".

    A capital letter within a sentence does. Otherwise nothing but a mark, a number or a small word may follow; and
    before a lower-case "a" there must be "in" or a comma.
    """
    note = found[1]
    before, after = text[: found.start()].rstrip(), text[found.end() :].lstrip()
    opens = not before or before[-1] in ".!?"
    if latin and note.lower() not in {"la", "mi", "si"}:
        return True
    if not latin and note != "a" and not (note == "A" and opens):
        return True
    following = after.split()[0].lower() if after else ""
    if after and after[0].isalpha() and following.strip(".,;:!?") not in _AFTER_KEY:
        return False
    if latin or note == "A":
        return True
    return following not in {"key", "scale"} and (
        before.lower().endswith(",") or bool(re.search(r"\b(in|of)$", before.lower()))
    )


def _register(text: str) -> str | None:
    found = _PITCH.search(fold(text))
    return _REGISTER.get(found[1] or found[2]) if found else None


def _written(mention: Mention, knowledge: Knowledge) -> str:
    """An instrument as the prompt should call it: as the person did in English, else by its name."""
    said = " ".join(t.text for t in Words(mention.text).tokens) if mention.text else ""
    concept = knowledge.instruments[mention.concept]
    english = {a.rstrip("?") for a in concept.aliases_en}
    for form in (said, *(s for s in singulars(said) if s != said)):
        plain = {fold(a).replace("-", " ") for a in english}
        if form in plain and form.split()[-1] not in _NOT_NOUNS and len(form) > 2:
            return mention.text.lower()
    return mention.concept


_NOT_NOUNS = frozenset("singing sings sing sung strumming plucked drumming drummer pianist guitarist violinist".split())


def _wanted(words: Words, i: int, wanted: Sequence[Mention]) -> bool:
    return any(m.start <= words.tokens[i].start < m.end for m in wanted)


def _excluded(words: Words, excluded: Sequence[Mention], wanted: Sequence[Mention]) -> tuple[list[str], list[str]]:
    """(names or families to leave out, the texts they were said with)."""
    names = [m.concept for m in excluded]
    texts = [m.text.lower() for m in excluded]
    # "no electric guitar" leaves other guitars alone; "no guitar" does not
    said = {i for i, t in enumerate(words.tokens) for m in excluded if m.start <= t.start < m.end and " " in m.text}
    spans = [(i, i + 1) for i, t in enumerate(words.tokens) if any(f in FAMILY_WORDS for f in singulars(t.text))]
    for i in sorted(negated_tokens(words, spans) - said - {i for i, _ in spans if _wanted(words, i, wanted)}):
        for form in singulars(words.tokens[i].text):
            if form in FAMILY_WORDS:
                names.append(FAMILY_WORDS[form])
                if words.tokens[i].text not in {fold(t) for t in texts}:
                    texts.append(words.tokens[i].text)
                break
    folded = [t.text for t in words.tokens]
    if "drumless" in folded or "beatless" in folded:
        names.append("drums")
        texts.append("drums")
    if "instrumental" in folded:
        names.append("vocals")
        texts.append("vocals")
    return names, texts


class _Beside:
    """Finds words that speak of the music because they stand beside something musical."""

    def __init__(self, words: Words, music: Sequence[Mention]) -> None:
        self._tokens = words.tokens
        self._negated = negated_tokens(words, [])
        self._spans = [(m.start, m.end) for m in music]
        self._music = {i for i, t in enumerate(words.tokens) if any(s <= t.start < e for s, e in self._spans)} | {
            i for i, t in enumerate(words.tokens) if "music" in CUES.get(t.text, ())
        }

    def _near(self, i: int) -> bool:
        """Beside a musical word: within three words in the same clause."""
        clause = self._tokens[i].clause
        return any(abs(i - j) <= 3 and self._tokens[j].clause == clause for j in self._music if j != i)

    def _alone(self, i: int) -> bool:
        """A clause of its own of at most four words, right after music: "a tango with violin, slow and quiet"."""
        clause = self._tokens[i].clause
        if sum(t.clause == clause for t in self._tokens) > 4:
            return False
        return any(abs(self._tokens[j].clause - clause) == 1 for j in self._music)

    def first(self, table: dict[str, str], *, anywhere: bool = False) -> str | None:
        """The first word of the table beside music, as the table's value."""
        for i, token in enumerate(self._tokens):
            value = table.get(token.text)
            if value and i not in self._negated and (anywhere or self._near(i) or self._alone(i)):
                return value
        return None

    def timbres(self) -> tuple[str, ...]:
        """Timbre words right beside an instrument or a genre."""
        named = {i for i, t in enumerate(self._tokens) if any(s <= t.start < e for s, e in self._spans)}
        found: list[str] = []
        for i, token in enumerate(self._tokens):
            timbre = token.text if token.text in TIMBRES else _TIMBRES_ES.get(token.text)
            if timbre and i not in named and i not in self._negated and {i - 1, i + 1} & named:
                found.append(timbre)
        return tuple(dict.fromkeys(found))
