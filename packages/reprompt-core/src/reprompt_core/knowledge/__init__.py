"""What the project knows, as data: concepts, correspondences, captions, and their vectors.

The CSV files beside this module are written and reviewed by hand; `vectors.npz` is made from them by
`python -m reprompt_core.knowledge.build` and tied to the encoder by its fingerprint.
"""

from .concepts import KINDS, Concept, InstrumentSound, Lexicon, Match, MusicStyle, Sense, load_concepts
from .correspondences import Correspondence, load_correspondences
from .loader import Knowledge

__all__ = [
    "KINDS",
    "Concept",
    "Correspondence",
    "InstrumentSound",
    "Knowledge",
    "Lexicon",
    "Match",
    "MusicStyle",
    "Sense",
    "load_concepts",
    "load_correspondences",
]
