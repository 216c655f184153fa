"""A person's words: checked, split into tokens and clauses, and their language guessed."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .errors import PromptError

__all__ = ["MAX_CHARACTERS", "Token", "Words", "fold", "plain"]

MAX_CHARACTERS = 2000

_TOKEN = re.compile(r"[^\W_]+|[♯♭#]", re.UNICODE)
_BREAK = re.compile(r"[.,;:!?()\[\]{}\"“”«»…|/\n\r\t—–<>]|\s-\s")
_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_UNSEEN = {"Cf", "Cs", "Co", "Me", "Sk", "So"}  # categories that `plain` drops

# The commonest function words of the languages people are likeliest to write in, without accents. A library
# (py3langid) was tried: .76 s to load, and it reads short phrases wrongly ("no drums, sad piano": Latin).
_FUNCTION_WORDS = {
    "en": "a an the of and to in is it i you that was for on are with as his they be at this have from or had by not "
    "but what all were we when your can said there an each which she do how their if will about re ve ll my "
    "me some so just out up after while over into very no without",
    "es": "a el la los las un una unos unas de del al y en que con sin por para es son esta estoy muy mi mis su "
    "sus pero como mas cuando hay tengo quiero lo le se me te nos bajo entre sobre desde hasta donde este esa ese "
    "noche ni algo",
    "fr": "le la les un une des du de et en dans est je tu il elle nous vous avec sans pour sur au aux ce cette "
    "mon ma mes son sa ses qui que pas ne qu soiree nuit",
    "de": "der die das ein eine einen einem einer und in im ist ich du er sie wir mit ohne fur auf zu zum am an "
    "nicht den dem des von vom bei nach wie mein meine sehr uhr",
    "it": "il lo la gli le un uno una di del della dei delle in nel nella che con senza per sono sei mio mia "
    "al alla dal sul sulla non ma come",
    "pt": "os as um uma de do da dos das em no na nos nas que com sem por para meu minha ao pelo pela "
    "nao mas como muito voce estou",
    "nl": "de het een en van in is ik je hij zij wij met zonder voor op aan niet dat te maar mijn naar bij",
    "pl": "na ze do nie to jest sie po przez dla bez mam moj moja jak ale",
    "sv": "och att det som en ett jag du han hon vi med utan pa av ar inte den min mitt till",
    "tr": "bir ve bu da de ile icin cok ben sen biz ama gibi ne mi olan",
    "id": "yang dan di ke dari ini itu dengan tanpa untuk saya kamu kami tidak ada pada",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _code, _list in _FUNCTION_WORDS.items():
    for _word in _list.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_code)
_SCRIPTS = (
    (re.compile(r"[\u3040-\u30ff]"), "ja"),
    (re.compile(r"[\uac00-\ud7af]"), "ko"),
    (re.compile(r"[\u4e00-\u9fff]"), "zh"),
    (re.compile(r"[\u0400-\u04ff]"), "ru"),
    (re.compile(r"[\u0600-\u06ff]"), "ar"),
    (re.compile(r"[\u0590-\u05ff]"), "he"),
    (re.compile(r"[\u0900-\u097f]"), "hi"),
    (re.compile(r"[\u0e00-\u0e7f]"), "th"),
    (re.compile(r"[\u0370-\u03ff]"), "el"),
)


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Lower case without accents or compatibility forms: how tokens are compared."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def plain(text: str) -> str:
    """One line without control characters, tags, addresses or emoji: what may be shown or appended."""
    spaced = (" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text)
    # U+FE0F and its like choose between the two looks of an emoji
    kept = (c for c in spaced if unicodedata.category(c) not in _UNSEEN and not "\ufe00" <= c <= "\ufe0f")
    # last: an invisible character inside an address must not carry it through
    return " ".join(_URL.sub(" ", _TAG.sub(" ", "".join(kept))).split())


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the text, folded, with its place."""

    text: str
    start: int
    end: int
    clause: int


@dataclass(frozen=True)
class Words:
    """Checked words. Build with `Words.check`."""

    text: str

    @classmethod
    def check(cls, words: object) -> "Words":
        """The words, stripped.

        Raises:
            PromptError: not a string, empty, over 2,000 characters, or with characters that are not text.
        """
        if not isinstance(words, str):
            raise PromptError(f"The words must be text, not {type(words).__name__}.")
        if "\0" in words:
            raise PromptError("The words hold a NUL character; remove it.")
        if any("\ud800" <= c <= "\udfff" for c in words):
            raise PromptError("The words hold half of a character pair (a lone surrogate); check their encoding.")
        text = words.strip()
        if not any(c.isalnum() for c in text):
            raise PromptError("The words are empty: say a scene, a mood, a dish or some music.")
        if len(text) > MAX_CHARACTERS:
            raise PromptError(f"The words have {len(text):,} characters; the most is {MAX_CHARACTERS:,}.")
        return cls(text)

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """The folded words with their places and clause numbers; addresses and tags are passed over."""
        hidden = [m.span() for p in (_URL, _TAG) for m in p.finditer(self.text)]
        breaks = [m.start() for m in _BREAK.finditer(self.text)]
        tokens: list[Token] = []
        clause = b = 0
        for match in _TOKEN.finditer(self.text):
            start, end = match.span()
            if any(s <= start < e for s, e in hidden):
                continue
            moved = False
            while b < len(breaks) and breaks[b] < start:
                b, moved = b + 1, True
            clause += moved
            # the sharp sign is a token of its own only after a note name; others are noise
            text = fold(match.group()).replace("♯", "#").replace("♭", "b")
            if text == "free" and self.text[start - 1 : start] == "-":
                text = "-free"  # "piano-free jazz" is no free jazz
            tokens.append(Token(text, start, end, clause))
        return tuple(tokens)

    @cached_property
    def language(self) -> str:
        """ISO 639-1 code guessed from script and function words; "und" when nothing tells."""
        if not self.text.isascii():
            letters = sum(c.isalpha() for c in self.text)
            for pattern, code in _SCRIPTS:
                if len(pattern.findall(self.text)) * 3 > letters:
                    return code
        votes: dict[str, float] = {}
        for token in self.tokens:
            codes = _LANGUAGES_OF.get(token.text, ())
            for code in codes:
                votes[code] = votes.get(code, 0) + 1 / len(codes)
        if "ñ" in self.text.lower() or "¿" in self.text or "¡" in self.text:
            votes["es"] = votes.get("es", 0) + 2
        if not votes:
            return "und"
        # the two languages whose words are known win ties, and a single shared small word tells nothing
        code, weight = max(votes.items(), key=lambda v: (v[1] + 0.3 * (v[0] in {"en", "es"}), v[0] == "en"))
        return code if weight >= 0.9 or code in {"en", "es"} else "und"
