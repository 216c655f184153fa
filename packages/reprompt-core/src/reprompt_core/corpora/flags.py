"""Which captions speak of how a recording was made, or of voices that a music model cannot sing.

A flagged caption is kept, but not shown to a model as an example unless somebody asks for it. Every word that can raise
a flag (a cue) is looked up once; only around a cue is the text read closer, by what may or may not stand beside it.

What was decided where the words leave a choice:

- `QUALITY` is any judgement of the recording: "high quality recording" and "no hiss" as much as "noisy". Audiences that
  cough or make noise are faults; a live performance, cheering, a field recording or "lo-fi" are not. Crackle and tape
  hiss are a style, a hiss by itself is a fault. "Amateur" always counts. "Noisy", "mono" and "muffled" count of the
  recording or alone, not of an instrument.
- `VOCALS` is singing, rapping, chanting, humming by a person, beatboxing, speech and chatter. Laughter, cheering and
  whistling are not, nor what a model plays as an instrument: chopped vocals, choir pads, a wordless choir, a vocoder or
  talk box by itself, the voices of a fugue, music "for a podcast". "Instrumental" clears nothing: captions say it and
  name a singer.
- A denial clears `VOCALS` ("no drums, vocals or bass") but not `QUALITY`.
"""

import re
from collections.abc import Sequence
from enum import IntFlag

from ..words import fold
from .flag_rules import DENIED_AFTER, DENIED_BEFORE, IN_A_LIST, LIST_ENDS, QUALITY, VOCALS, Rule

__all__ = ["Flag", "flags_of"]


class Flag(IntFlag):
    """Why a caption is not offered as an example; zero when nothing speaks against it."""

    QUALITY = 1
    VOCALS = 2


_RULES = {
    cue: [(Flag.QUALITY, r) for r in QUALITY.get(cue, ())] + [(Flag.VOCALS, r) for r in VOCALS.get(cue, ())]
    for cue in QUALITY.keys() | VOCALS.keys()
}
# as a tag or a part of a list
_ALONE_BEFORE = re.compile(r"(?:^|[,:] )(?:very |muy )?$")
_ALONE_AFTER = re.compile(r",|$")
_TOKEN = re.compile(r"[a-z0-9]+|-(?:like|free)\b|[.,;:!?()|/\n–—¿¡]")
_BREAKS = frozenset(".;!?()|/\n–—¿¡")
_REACH = 9  # words that are read on either side of a cue


def flags_of(text: str, tags: Sequence[str] = ()) -> Flag:
    """What a caption and its tags speak of that a text-to-music model should not be asked for.

    English and Spanish are read; of other languages only the words that they share with these.
    """
    tokens = _TOKEN.findall(" . ".join(map(fold, (text, *tags))))
    if _RULES.keys().isdisjoint(tokens):
        return Flag(0)
    quality = vocals = False
    for i, token in enumerate(tokens):
        rules = _RULES.get(token)
        if rules is None:
            continue
        before = after = None
        for flag, rule in rules:
            if vocals if flag is Flag.VOCALS else quality:
                continue
            if before is None or after is None:
                before, after = _around(tokens, i)
            if not _holds(rule, before, after):
                continue
            if flag is Flag.QUALITY:
                quality = True
            elif not _denied(before, after):
                vocals = True
        if quality and vocals:
            break
    return (Flag.QUALITY if quality else Flag(0)) | (Flag.VOCALS if vocals else Flag(0))


def _around(tokens: Sequence[str], i: int) -> tuple[str, str]:
    """The words of the sentence before and after token i, each followed by a space."""
    first, last = i, i + 1
    while first > 0 and i - first < _REACH and tokens[first - 1] not in _BREAKS:
        first -= 1
    while last < len(tokens) and last - i <= _REACH and tokens[last] not in _BREAKS:
        last += 1
    return "".join(f"{t} " for t in tokens[first:i]), "".join(f"{t} " for t in tokens[i + 1 : last])


def _holds(rule: Rule, before: str, after: str) -> bool:
    """Whether the cue counts between these words, each followed by a space."""
    if rule.before or rule.after or rule.alone:
        beside = (
            (rule.alone and _ALONE_BEFORE.search(before) and _ALONE_AFTER.match(after))
            or (rule.before and rule.before.search(before))
            or (rule.after and rule.after.match(after))
        )
        if not beside:
            return False
    if rule.not_before and rule.not_before.search(before):
        return False
    return not (rule.not_after and rule.not_after.match(after))


def _denied(before: str, after: str) -> bool:
    """Whether the text says that the voice is not there."""
    if DENIED_BEFORE.search(before) or DENIED_AFTER.match(after):
        return True
    return bool(LIST_ENDS.match(after) and IN_A_LIST.search(before))
