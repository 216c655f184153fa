"""Which words a negation reaches, and which phrases of a text no concept covers by name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .vocabulary import EATING, JOINERS, NEGATIONS, NOT_EATEN, STOP_WORDS
from .words import Words

__all__ = ["Phrase", "follows_eating", "negated_tokens", "phrases", "telling"]

_REACH = 4  # words between a negation and what it negates
_BUT = frozenset("but just only pero sino solo although aunque yet because porque".split())
# "not only", "no matter", "can't wait": negations that negate nothing
_IDLE = frozenset("only matter doubt problem wonder wait idea one solo duda importa hay".split())
_REMOVERS = frozenset("drop lose mute ditch remove skip avoid quita quitale saca elimina evita fuera".split())
_NOT = frozenset("not t isnt wasnt".split())
_OR = frozenset("or nor o u ni".split())
_PAIRS = {("rid", "of"), ("instead", "of"), ("rather", "than"), ("free", "of"), ("libre", "de"), ("vez", "de")}
_ARTICLES = frozenset("the any all el la los las".split())


@dataclass(frozen=True, slots=True)
class Phrase:
    """A run of content words, at least one of which is unknown: tokens [first, last)."""

    text: str
    first: int
    last: int
    eaten: bool  # the text says that it is eaten or drunk
    negated: bool


def negated_tokens(words: Words, spans: Sequence[tuple[int, int]]) -> set[int]:
    """Token indexes that a negation reaches.

    A negation reaches what follows in its clause within four words, on through "or", "nor", "and" to what is named
    right after, and on through a list that ends with "or": "no drums, guitar or bass". "but" ends it, and "not"
    negates one thing only: "not spicy ramen". "drumless" and "sugar-free" negate what they are made of.
    """
    tokens = words.tokens
    starts = dict(spans)
    reached: set[int] = set()
    i = 0
    while i < len(tokens):
        if not _negates(words, i, starts):
            i += 1
            continue
        clause, j, gap, hit, direct = tokens[i].clause, i + 1, 0, False, False
        while j < len(tokens) and tokens[j].clause == clause and tokens[j].text not in _BUT:
            if j in starts:
                if hit and gap > 0:
                    break
                reached.update(range(j, starts[j]))
                direct = direct or (not hit and gap == 0)
                j, gap, hit = starts[j], 0, True
                if tokens[i].text in _NOT and direct:
                    break
                continue
            if hit and tokens[j].text in JOINERS:
                j += 1
                continue
            gap += 1
            if gap > (0 if hit else _REACH):
                break
            reached.add(j)
            j += 1
        if hit and j < len(tokens) and tokens[j].clause == clause + 1:
            reached.update(_listed(words, starts, j))
        i = max(j, i + 1)
    for first, last in spans:
        if last < len(tokens) and tokens[last].text == "-free":
            reached.update(range(first, last))
    return reached


def _listed(words: Words, starts: Mapping[int, int], first: int) -> set[int]:
    """The rest of a list after a comma, when it holds nothing but named things and ends with "or"."""
    tokens = words.tokens
    found: set[int] = set()
    j, previous = first, first - 1
    closed = False
    while j < len(tokens):
        if words.text[tokens[previous].end : tokens[j].start].strip() not in {"", ","}:
            break
        if j in starts:
            found.update(range(j, starts[j]))
            j = starts[j]
        elif tokens[j].text in _OR:
            closed, j = True, j + 1
        elif tokens[j].text in _ARTICLES:
            j += 1
        else:
            break
        previous = j - 1
    return found if closed else set()


def _negates(words: Words, i: int, starts: Mapping[int, int]) -> bool:
    tokens = words.tokens
    text = tokens[i].text
    following = tokens[i + 1].text if i + 1 < len(tokens) else ""
    before = tokens[i - 1].text if i else ""
    if text in _REMOVERS and (following in _ARTICLES or i + 1 in starts):  # "drop the keyboards"
        return True
    if (text, following) in _PAIRS:
        return True
    if text == "leave" and "out" in {t.text for t in tokens[i + 1 : i + 5]}:  # "leave (the piano) out"
        return True
    if text in {"but", "menos"} and before in {"everything", "anything", "all", "todo"}:
        return True
    if text == "t" and i and tokens[i - 1].text.endswith("n"):  # don't, isn't
        return following not in _IDLE
    return text in NEGATIONS and following not in _IDLE


def phrases(words: Words, covered: Collection[int], refused: Collection[int] = ()) -> list[Phrase]:
    """The runs of content words that hold at least one unknown word.

    A run may reach over known words, which help to place the unknown one ("lemon posset"), but not over names that
    were refused.
    """
    tokens = words.tokens
    negated = negated_tokens(words, ())
    found: list[Phrase] = []
    i = 0
    while i < len(tokens):
        if i in refused or not _content(words, i, covered):
            i += 1
            continue
        first = i
        while (
            i < len(tokens)
            and tokens[i].clause == tokens[first].clause
            and i not in refused
            and _content(words, i, covered)
        ):
            i += 1
        unknown = [k for k in range(first, i) if k not in covered]
        if any(len(tokens[k].text) > 2 for k in unknown):
            found.append(
                Phrase(
                    text=words.text[tokens[first].start : tokens[i - 1].end],
                    first=first,
                    last=i,
                    eaten=follows_eating(words, first) or _precedes_eating(words, i),
                    negated=unknown[0] in negated,
                )
            )
    return found


_LINKS = frozenset(
    "a an the some of my our his her their your another more fresh hot cold warm big little small huge tiny good great "
    "homemade leftover last first de del un una unos unas el la los las mi mis su sus nuestro nuestra mas otro otra "
    "buen buena rico rica gran fresco fresca".split()
)
_MEALS = frozenset(
    "dinner lunch breakfast brunch supper dessert snack served cenar cena almorzar almuerzo desayunar desayuno postre "
    "merienda comer beber".split()
)


def follows_eating(words: Words, first: int) -> bool:
    """Whether a word of eating, drinking or serving stands right before the token: "eating some", "a bowl of"."""
    tokens = words.tokens
    for i in range(first - 1, max(first - 5, -1), -1):
        if tokens[i].clause != tokens[first].clause:
            return False
        if tokens[i].text in EATING:
            return True
        if tokens[i].text not in _LINKS:
            return False
    return False


def _precedes_eating(words: Words, last: int) -> bool:
    """Whether "for dinner", "is served" and the like come right after."""
    following = [t.text for t in words.tokens[last : last + 2] if t.clause == words.tokens[last - 1].clause]
    small = {"for", "as", "is", "are", "was", "were", "para", "de", "como"}
    return len(following) == 2 and following[0] in small and following[1] in _MEALS


def telling(words: Words) -> list[str]:
    """The words that are neither small nor negations nor numbers, each once."""
    return list(dict.fromkeys(t.text for i, t in enumerate(words.tokens) if _content(words, i, ()) and len(t.text) > 2))


def _content(words: Words, i: int, covered: Collection[int]) -> bool:
    token = words.tokens[i]
    small = token.text in STOP_WORDS or token.text in NEGATIONS or token.text in NOT_EATEN
    return i in covered or not (small or token.text.isdigit())
