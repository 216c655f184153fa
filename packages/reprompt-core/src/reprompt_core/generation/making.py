"""The preview as a maker: plans played by the synthesizer, on threads of this process."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import AudioError, MakingError
from ..knowledge import Knowledge
from ..types import MusicPlan
from .audio_file import encode_audio
from .contract import Place
from .preview import render_preview
from .work import Made, Sound, Work

__all__ = ["PreviewMaker"]

MODEL = "reprompt-preview"


class PreviewMaker:
    """Plays plans; no model, no weights.

    Args:
        knowledge: of an open pipeline.
        slots: previews at once.
    """

    place: Place = "preview"
    model: str | None = MODEL

    def __init__(self, knowledge: Knowledge, *, slots: int = 2) -> None:
        from importlib.metadata import version

        self.model_revision: str | None = version("reprompt-core")
        self._knowledge, self.slots = knowledge, slots
        self._threads = ThreadPoolExecutor(slots, "preview")

    async def make(self, work: Work) -> Made:
        """A take after another, each with a seed of its own: the request's, and those that follow it."""
        loop, request = asyncio.get_running_loop(), work.generation.request
        plan = _plan(work.generation.reprompt["plan"])
        started = time.perf_counter()
        for number in range(request.takes):
            try:
                sound = await loop.run_in_executor(self._threads, self._play, work, plan, number)
            except AudioError as e:
                raise MakingError(str(e), code="invalid") from e
            await work.keep(sound)
            work.progress = (number + 1) / request.takes
        return Made(self.model, self.model_revision, {"making": 1000 * (time.perf_counter() - started)})

    def _play(self, work: Work, plan: MusicPlan, number: int) -> Sound:
        request = work.generation.request
        seed = request.seed + number
        preview = render_preview(plan, seconds=request.seconds, seed=seed, knowledge=self._knowledge)
        return Sound(
            content=encode_audio(preview.samples, preview.sample_rate, request.format),
            number=number,
            seed=seed,
            format=request.format,
            seconds=preview.samples.shape[1] / preview.sample_rate,
            sample_rate=preview.sample_rate,
            channels=2,
            loudness_lufs=round(preview.loudness_lufs, 2),
            true_peak_dbtp=round(preview.true_peak_dbtp, 2),
        )


def _plan(kept: dict[str, Any]) -> MusicPlan:
    """The plan of a generation's row."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return MusicPlan(**values)
