"""Layer 2: music captions near the words and the music they imply."""

from collections.abc import Sequence

import numpy as np

from .database import Database
from .encoder import Encoder, Vectors
from .knowledge import Knowledge
from .planning import MUSIC_WORDS
from .types import Caption

__all__ = ["Captions"]

_FETCHED = 24  # candidates by vector, and as many by words
_REACH = 2_000  # captions ranked by words: those that hold the rarest words, as many words as stay below this
_KEPT = 6
_RELEVANCE = 0.7  # against diversity, in maximal marginal relevance
_MUSIC_SHARE = 0.6  # of the implied music words in the query vector, against 1.0 of the person's words


class Captions:
    """Finds captions by vector and by words."""

    def __init__(self, database: Database, encoder: Encoder, knowledge: Knowledge) -> None:
        self._database = database
        # the implied music words are few: the moods are among the concepts, the others are encoded here, once
        self._known: dict[str, Vectors] = dict(zip(MUSIC_WORDS, encoder.encode(MUSIC_WORDS)[0], strict=True))
        for concept, vector in zip(knowledge.concepts, knowledge.concept_vectors, strict=True):
            if concept.kind == "mood":
                self._known[concept.name] = vector

    async def near(self, *, terms: str, vector: Vectors, music_words: Sequence[str]) -> tuple[Caption, ...]:
        """The captions nearest to the words, each unlike the others.

        Args:
            terms: the telling words, for full text; common music words belong in `music_words` alone, since almost
                every caption matches them.
            vector: [dimensions] the unit vector of the person's words.
            music_words: what the descriptors imply ("slow tempo", "minor key").
        """
        query = self._query(vector, music_words)
        rows = await self._database.fetch(
            "near_captions",
            dimensions=len(query),
            vector=_literal(query),
            text=terms,
            limit=_FETCHED,
            reach=_REACH,
        )
        if not rows:
            return ()
        vectors = np.stack([row[5] for row in rows])  # [rows, dimensions]
        relevance = np.array([row[2] + row[6] for row in rows])
        relevance /= max(float(relevance.max()), 1e-12)
        return tuple(
            Caption(
                text=rows[i][0],
                corpus=rows[i][1],
                similarity=round(float(rows[i][2]), 4),
                genres=tuple(rows[i][3]),
                instruments=tuple(rows[i][4]),
            )
            for i in _marginal_relevance(relevance, vectors @ vectors.T, _KEPT)
        )

    def _query(self, vector: Vectors, music_words: Sequence[str]) -> Vectors:
        if not music_words:
            return vector
        music = np.mean([self._known[w] for w in music_words], axis=0)
        query = vector + _MUSIC_SHARE * music / max(float(np.linalg.norm(music)), 1e-12)
        return query / np.linalg.norm(query)


def _literal(vector: Vectors) -> str:
    return "[" + ",".join(f"{v:.5g}" for v in vector.tolist()) + "]"


def _marginal_relevance(relevance: Vectors, likeness: Vectors, keep: int) -> list[int]:
    """Rows picked one by one: relevant, and unlike those picked before (Carbonell & Goldstein 1998).

    Args:
        relevance: [n], 0..1.
        likeness: [n, n] cosines.
        keep: how many.
    """
    picked: list[int] = []
    nearest = np.zeros(len(relevance))  # likeness to the likest of those picked
    open_ = np.ones(len(relevance), bool)
    for _ in range(min(keep, len(relevance))):
        scores = _RELEVANCE * relevance - (1 - _RELEVANCE) * nearest
        picked.append(int(np.argmax(np.where(open_, scores, -np.inf))))
        open_[picked[-1]] = False
        nearest = np.maximum(nearest, likeness[:, picked[-1]])
    return picked
