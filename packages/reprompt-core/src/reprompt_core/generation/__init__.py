"""From a MusicPlan to sound. Here: the preview, which a synthesizer plays on the CPU without any model."""

from .audio_file import FORMATS, check_audio_path, write_audio
from .preview import SAMPLE_RATE, Preview, render_preview

__all__ = ["FORMATS", "SAMPLE_RATE", "Preview", "check_audio_path", "render_preview", "write_audio"]
