"""What can be measured of prompts and sounds without a CLAP checkpoint. None of it is quality."""

from .sound import SoundMeasures, measure_sound, roughness
from .text import DEFINITIONS, TextMeasures, distinct, mattr, measure_texts

__all__ = [
    "DEFINITIONS",
    "SoundMeasures",
    "TextMeasures",
    "distinct",
    "mattr",
    "measure_sound",
    "measure_texts",
    "roughness",
]
