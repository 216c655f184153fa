"""Everything the project knows, loaded once: concepts with their vectors, captions, correspondences."""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..encoder import Encoder, Vectors
from ..errors import KnowledgeError
from .concepts import Concept, Lexicon, load_concepts
from .correspondences import Correspondence, load_correspondences

__all__ = ["Knowledge", "concept_text", "load_caption_texts", "pack", "texts_hash"]


@dataclass(frozen=True)
class Knowledge:
    """The knowledge in memory."""

    concepts: tuple[Concept, ...]
    correspondences: tuple[Correspondence, ...]
    captions: tuple[str, ...]
    concept_vectors: Vectors  # [len(concepts), dimensions], unit length
    caption_vectors: Vectors  # [len(captions), dimensions], unit length
    version: str  # changes with the concepts, the captions or the encoder
    base_version: str = ""  # of the shipped knowledge, where a team's concepts changed the version

    @property
    def shipped_version(self) -> str:
        """The version without a team's concepts: what the shipped captions in a database belong to."""
        return self.base_version or self.version

    @cached_property
    def lexicon(self) -> Lexicon:
        """Finds concepts by name."""
        return Lexicon(self.concepts)

    @cached_property
    def music(self) -> Lexicon:
        """Finds genres and instruments by name: for captions. Indexes are those of `concepts`."""
        silent = Concept("", "", (), (), "")
        return Lexicon([c if c.kind in {"genre", "instrument"} else silent for c in self.concepts])

    @cached_property
    def named(self) -> dict[tuple[str, str], Concept]:
        """Concepts by (kind, name)."""
        return {(c.kind, c.name): c for c in self.concepts}

    @cached_property
    def genres(self) -> dict[str, Concept]:
        """The genres by name."""
        return {c.name: c for c in self.concepts if c.kind == "genre"}

    @cached_property
    def instruments(self) -> dict[str, Concept]:
        """The instruments by name."""
        return {c.name: c for c in self.concepts if c.kind == "instrument"}

    def rows(self, *kinds: str) -> npt.NDArray[np.intp]:
        """Indexes of the concepts of these kinds."""
        return np.array([i for i, c in enumerate(self.concepts) if c.kind in kinds], np.intp)

    def music_in(self, text: str) -> tuple[list[str], list[str]]:
        """(genres, instruments) named in a caption, each once, in order."""
        found = [self.concepts[i] for i in self.music.names(text)]
        genres = dict.fromkeys(c.name for c in found if c.kind == "genre")
        instruments = dict.fromkeys(c.name for c in found if c.kind == "instrument")
        return list(genres), list(instruments)

    def with_concepts(self, concepts: Sequence[Concept], encoder: Encoder) -> "Knowledge":
        """This knowledge with more concepts; one of the same kind and name as another takes its place."""
        if not concepts:
            return self
        vectors, _ = encoder.encode([concept_text(c) for c in concepts])
        rows = {(c.kind, c.name): i for i, c in enumerate(self.concepts)}
        changed, changed_vectors = list(self.concepts), list(self.concept_vectors)
        for concept, vector in zip(concepts, vectors, strict=True):
            row = rows.setdefault((concept.kind, concept.name), len(changed))
            changed[row : row + 1], changed_vectors[row : row + 1] = [concept], [vector]
        told = json.dumps(sorted(json.dumps(asdict(c), sort_keys=True) for c in concepts))
        return replace(
            self,
            concepts=tuple(changed),
            concept_vectors=np.stack(changed_vectors),
            version=hashlib.sha256(f"{self.version}{told}".encode()).hexdigest()[:16],
            base_version=self.shipped_version,
        )

    @classmethod
    def load(cls, encoder: Encoder, *, cache_dir: Path) -> "Knowledge":
        """The shipped knowledge with vectors of this encoder.

        The vectors in the wheel serve the default encoder; for another they are made once and kept in `cache_dir`.

        Raises:
            KnowledgeError: a file does not fit its schema, or the shipped vectors do not belong to the shipped texts.
        """
        concepts = load_concepts()
        captions = load_caption_texts()
        texts = [concept_text(c) for c in concepts]
        wanted = texts_hash(texts, captions)
        shipped = resources.files("reprompt_core.knowledge") / "vectors.npz"
        with resources.as_file(shipped) as path:
            vectors = _unpack(path, encoder.fingerprint, wanted)
        if vectors is None:
            cached = cache_dir / f"knowledge-{encoder.fingerprint}-{wanted[:12]}.npz"
            vectors = _unpack(cached, encoder.fingerprint, wanted)
            if vectors is None:
                pack(cached, encoder, texts, captions)
                vectors = _unpack(cached, encoder.fingerprint, wanted)
        if vectors is None:
            raise KnowledgeError("The knowledge vectors do not belong to its texts.")
        concept_vectors, caption_vectors = vectors
        return cls(
            tuple(concepts),
            load_correspondences(),
            tuple(captions),
            concept_vectors,
            caption_vectors,
            hashlib.sha256(f"{encoder.fingerprint}{wanted}".encode()).hexdigest()[:16],
        )


def concept_text(concept: Concept) -> str:
    """What is encoded for a concept."""
    return f"{concept.name}: {concept.about}"


def load_caption_texts() -> list[str]:
    """The shipped captions."""
    with (resources.files("reprompt_core.knowledge") / "captions.csv").open(encoding="utf-8") as f:
        return [row["text"] for row in csv.DictReader(f)]


def texts_hash(concepts: Sequence[str], captions: Sequence[str]) -> str:
    """sha256 over all texts that are encoded."""
    return hashlib.sha256(json.dumps([list(concepts), list(captions)]).encode()).hexdigest()


def pack(path: Path, encoder: Encoder, concepts: Sequence[str], captions: Sequence[str]) -> None:
    """Encodes the texts and writes their vectors with what they belong to.

    A vector is stored as 8-bit steps of its largest value: a quarter of the bytes, cosine .9999 to the original.
    """
    vectors, _ = encoder.encode([*concepts, *captions])
    steps = np.abs(vectors).max(axis=1, keepdims=True) / 127
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as f:
            np.savez_compressed(
                f,
                vectors=np.round(vectors / steps).astype(np.int8),
                concepts=np.int64(len(concepts)),
                belongs=np.array([encoder.fingerprint, texts_hash(concepts, captions)]),
            )
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(beside).unlink()


def _unpack(path: Path, encoder_fingerprint: str, texts: str) -> tuple[Vectors, Vectors] | None:
    """The vectors (concepts, captions), or None when they are absent or belong to something else."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        if stored["belongs"].tolist() != [encoder_fingerprint, texts]:
            return None
        vectors = stored["vectors"].astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        count = int(stored["concepts"])
    return vectors[:count], vectors[count:]
