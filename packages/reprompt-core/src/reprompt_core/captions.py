"""Layer 2: music captions near the words and the music they imply."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pgvector import HalfVector

from .database import Database
from .encoder import Encoder, Vectors
from .errors import CorpusError
from .knowledge import Knowledge
from .planning import MUSIC_WORDS
from .types import Caption, CaptionFilter

__all__ = ["Captions", "Found", "search"]

_FETCHED = 24  # candidates by vector, and as many by words
_REACH = 2_000  # captions ranked by words: those that hold the rarest words, as many words as stay below this
_COSINE = 0.7  # weight of the cosine, against 1.0 of the words
_KEPT = 6
_RELEVANCE = 0.7  # against diversity, in maximal marginal relevance
_MUSIC_SHARE = 0.6  # of the implied music words in the query vector, against 1.0 of the person's words


class Found(NamedTuple):
    """A caption with both measures of how near it is."""

    text: str
    corpus: str
    license: str
    genres: Sequence[str]
    instruments: Sequence[str]
    vector: Vectors  # [dimensions]
    cosine: float
    words: float  # share of the question's words, each weighted by its rarity; over 1 in a short caption

    @property
    def relevance(self) -> float:
        """Both measures together."""
        return _COSINE * self.cosine + self.words


async def search(
    database: Database,
    vector: Vectors,
    text: str,
    *,
    limit: int = _FETCHED,
    reach: int = _REACH,
    wanted: CaptionFilter = CaptionFilter(),  # noqa: B008 - frozen
) -> list[Found]:
    """The captions nearest to a vector and those that hold the rarest words of a text, in no order.

    Args:
        database: an open one.
        vector: [dimensions], unit length.
        text: words in any form; "" leaves the search to the vector.
        limit: captions by vector, and as many by words.
        reach: captions that are ranked by words: of the words the rarest, as many as together stay within it.
        wanted: which captions may be found.
    """
    rows = await database.fetch(
        "near_captions",
        dimensions=len(vector),
        vector=HalfVector(vector),
        text=text,
        limit=limit,
        reach=reach,
        corpora=None if wanted.corpora is None else list(wanted.corpora),
        licenses=None if wanted.licenses is None else list(wanted.licenses),
        flagged=wanted.flagged,
    )
    return [Found(*row) for row in rows]


class Captions:
    """Finds captions by vector and by words."""

    def __init__(self, database: Database, encoder: Encoder, knowledge: Knowledge) -> None:
        self._database = database
        # the implied music words are few: the moods are among the concepts, the others are encoded here, once
        self._known: dict[str, Vectors] = dict(zip(MUSIC_WORDS, encoder.encode(MUSIC_WORDS)[0], strict=True))
        for concept, vector in zip(knowledge.concepts, knowledge.concept_vectors, strict=True):
            if concept.kind == "mood":
                self._known[concept.name] = vector

    async def near(
        self, *, terms: str, vector: Vectors, music_words: Sequence[str], wanted: CaptionFilter
    ) -> tuple[Caption, ...]:
        """The captions nearest to the words, each unlike the others.

        Args:
            terms: the telling words, for full text; common music words belong in `music_words` alone, since almost
                every caption matches them.
            vector: [dimensions] the unit vector of the person's words.
            music_words: what the descriptors imply ("slow tempo", "minor key").
            wanted: which captions may be found.

        Raises:
            CorpusError: a corpus or licence that is asked for is not there.
        """
        if wanted.corpora is not None or wanted.licenses is not None:
            await self._check(wanted)
        query = self._query(vector, music_words)
        found = await search(self._database, query, terms, wanted=wanted)
        if not found:
            return ()
        vectors = np.stack([f.vector for f in found])  # [found, dimensions]
        relevance = np.array([f.relevance for f in found])
        relevance /= max(float(relevance.max()), 1e-12)
        return tuple(
            Caption(
                text=found[i].text,
                corpus=found[i].corpus,
                similarity=round(float(found[i].cosine), 4),
                genres=tuple(found[i].genres),
                instruments=tuple(found[i].instruments),
                license=found[i].license,
            )
            for i in _marginal_relevance(relevance, vectors, _KEPT)
        )

    async def _check(self, wanted: CaptionFilter) -> None:
        """A name that nothing has would be an empty answer that looks like a true one."""
        corpora, licenses = zip(*await self._database.fetch("shown_corpora"), strict=True)
        for what, asked, there in (
            ("corpus", wanted.corpora or (), corpora),
            ("corpus with licence", wanted.licenses or (), licenses),
        ):
            if missing := [name for name in asked if name not in there]:
                names = ", ".join(dict.fromkeys(there))
                raise CorpusError(f"There is no {what} {missing[0]!r} to search; there are: {names}.")

    def _query(self, vector: Vectors, music_words: Sequence[str]) -> Vectors:
        if not music_words:
            return vector
        music = np.mean([self._known[w] for w in music_words], axis=0)
        query = vector + _MUSIC_SHARE * music / max(float(np.linalg.norm(music)), 1e-12)
        return query / np.linalg.norm(query)


def _marginal_relevance(relevance: Vectors, vectors: Vectors, keep: int) -> list[int]:
    """Rows picked one by one: relevant, and unlike those picked before (Carbonell & Goldstein 1998).

    Args:
        relevance: [n], 0..1.
        vectors: [n, dimensions], unit length.
        keep: how many.
    """
    picked: list[int] = []
    nearest = np.zeros(len(relevance))  # likeness to the likest of those picked
    open_ = np.ones(len(relevance), bool)
    for _ in range(min(keep, len(relevance))):
        scores = _RELEVANCE * relevance - (1 - _RELEVANCE) * nearest
        picked.append(int(np.argmax(np.where(open_, scores, -np.inf))))
        open_[picked[-1]] = False
        # einsum stays on this thread, as in `senses`
        nearest = np.maximum(nearest, np.einsum("nd,d->n", vectors, vectors[picked[-1]]))
    return picked
