"""Makes `vectors.npz` from the CSV files beside it: `python -m reprompt_core.knowledge.build`.

Run it after any change of a concept's name or description, or of a caption; a test recomputes a sample.
"""

import tempfile
from pathlib import Path

from ..encoder import DEFAULT_MODEL, Encoder
from ..encoder_build import build
from .concepts import load_concepts
from .loader import concept_text, load_caption_texts, pack

__all__ = ["main"]


def main() -> None:
    """Encodes all texts in fp32, so that the vectors do not depend on a processor's int8 arithmetic."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "encoder"
        build(DEFAULT_MODEL, bundle, precision="fp32")
        encoder = Encoder(bundle, threads=2)
        pack(
            Path(__file__).parent / "vectors.npz",
            encoder,
            [concept_text(c) for c in load_concepts()],
            load_caption_texts(),
        )


if __name__ == "__main__":
    main()
