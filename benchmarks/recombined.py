"""A million captions for the benchmarks: sentences of MusicCaps put together anew, with real vectors, kept on disk.

    python benchmarks/recombined.py musiccaps.csv FOLDER 1000000

Chunks that are in the folder already are not encoded again: it may be stopped and started.
"""

import csv
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from reprompt_core import Settings
from reprompt_core.encoder import Encoder, find_bundle

__all__ = ["CHUNK", "chunks", "recombined"]

CHUNK = 10_000
_SEED = 4


def recombined(source: Path, chunk: int) -> list[str]:
    """The captions of one chunk: one to three sentences, each of another MusicCaps caption."""
    rng = random.Random(_SEED * 1_000_003 + chunk)
    sentences = _sentences(source)
    return [" ".join(rng.sample(sentences, rng.choice((1, 2, 2, 3)))) for _ in range(CHUNK)]


_known: dict[Path, list[str]] = {}


def _sentences(source: Path) -> list[str]:
    if source not in _known:
        with source.open(encoding="utf-8", newline="") as f:
            captions = [row["caption"] for row in csv.DictReader(f)]
        found = [s.strip() for c in captions for s in re.split(r"(?<=[.!?])\s+", c) if len(s) > 15]
        _known[source] = list(dict.fromkeys(found))
    return _known[source]


def chunks(source: Path, folder: Path, count: int) -> Iterator[tuple[list[str], "np.ndarray"]]:
    """(texts, vectors [CHUNK, dimensions] float16) of each chunk, encoded when the folder does not hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = None
    for chunk in range(count // CHUNK):
        texts = recombined(source, chunk)
        path = folder / f"{chunk:04d}.npy"
        if not path.exists():
            encoder = encoder or Encoder(find_bundle(Settings()), threads=2)
            vectors, _ = encoder.encode(texts)
            beside = path.with_suffix(".part.npy")
            np.save(beside, vectors.astype(np.float16))
            beside.replace(path)
        yield texts, np.load(path)


def main() -> None:
    """Encodes all chunks and tells how fast."""
    started = time.perf_counter()
    for done, _ in enumerate(chunks(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), 1):
        print(f"{done * CHUNK:,} captions, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
