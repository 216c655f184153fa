"""From a MusicPlan to sound: the preview, and generations as jobs that are made here, by workers, or on RunPod."""

from typing import TYPE_CHECKING, Any

from .audio_file import FORMATS, check_audio_path, encode_audio, write_audio
from .preview import SAMPLE_RATE, Preview, render_preview

if TYPE_CHECKING:
    from .contract import Generation, GenerationError, GenerationRequest, Take
    from .jobs import Event, Jobs
    from .making import PreviewMaker
    from .places import PlaceState
    from .runpod import RunPodMaker
    from .storage import AudioStore
    from .work import Made, Maker, Sound, Work
    from .worker import Worker

__all__ = [
    "FORMATS",
    "SAMPLE_RATE",
    "AudioStore",
    "Event",
    "Generation",
    "GenerationError",
    "GenerationRequest",
    "Jobs",
    "Made",
    "Maker",
    "PlaceState",
    "Preview",
    "PreviewMaker",
    "RunPodMaker",
    "Sound",
    "Take",
    "Work",
    "Worker",
    "check_audio_path",
    "encode_audio",
    "render_preview",
    "write_audio",
]

_HOME = {
    **dict.fromkeys(["Generation", "GenerationError", "GenerationRequest", "Take"], "contract"),
    **dict.fromkeys(["Event", "Jobs"], "jobs"),
    **dict.fromkeys(["Made", "Maker", "Sound", "Work"], "work"),
    "AudioStore": "storage",
    "PlaceState": "places",
    "PreviewMaker": "making",
    "RunPodMaker": "runpod",
    "Worker": "worker",
}


def __getattr__(name: str) -> Any:
    """What jobs need is imported when first used: the preview stands without them."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
