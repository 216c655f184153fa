"""MusicGen as a maker: the generations of a queue, side by side on one engine."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reprompt_core.errors import MakingError
from reprompt_core.generation.contract import Place, Take
from reprompt_core.generation.work import Made, Sound, Work
from reprompt_gpu import GenerationRequest, GpuError

from .metrics import Monitor
from .music import make_takes

if TYPE_CHECKING:
    from reprompt_gpu import Engine

__all__ = ["MusicGenMaker"]

_log = logging.getLogger(__name__)


class MusicGenMaker:
    """Makes generations with an engine; their takes share its batch.

    A GPU that failed once may fail from then on, and a worker that fails quickly would empty the queue. So after an
    error of the engine it is tried, and when it makes no music any more, `broken` is called.

    Args:
        engine: loaded; it stays the caller's to close.
        slots: generations at once.
        monitor: is told what is made.
        broken: called once, when the engine makes no music any more: stop fetching.
    """

    place: Place = "musicgen"

    def __init__(
        self, engine: "Engine", *, slots: int, monitor: Monitor | None = None, broken: Callable[[], None] = lambda: None
    ) -> None:
        self.model: str | None = engine.name
        self.model_revision: str | None = engine.revision
        self.slots, self.is_broken = slots, False
        self._engine, self._monitor, self._broken = engine, monitor or Monitor(), broken
        self._trying = asyncio.Lock()

    async def make(self, work: Work) -> Made:
        """Every take side by side, each kept as soon as it is done; cancelled, they leave the engine at once."""
        generation, started = work.generation, time.perf_counter()

        def tell(share: float) -> None:
            work.progress = share

        async def keep(sound: Sound) -> Take:
            take = await work.keep(sound)
            self._monitor.made_audio(take.seconds)
            return take

        with self._monitor.counted():
            try:
                await make_takes(
                    self._engine, prompt=generation.prompt, asked=generation.request, keep=keep, progress=tell
                )
            except MakingError as e:
                if e.code == "internal":
                    await self._try()
                raise
        took_s = time.perf_counter() - started
        _log.info(
            "generation %s: %d x %g s made in %.1f s", generation.id, len(work.takes), work.takes[0].seconds, took_s
        )
        return Made(self.model, self.model_revision, {"making": 1000 * took_s})

    async def _try(self) -> None:
        """Whether the engine still makes music."""
        async with self._trying:
            if self.is_broken:
                return
            try:
                await asyncio.to_thread(self._engine.generate, [GenerationRequest(prompt="music", seconds=0.1)])
            except GpuError as e:
                _log.critical("the engine makes no music any more, this worker stops: %s", e)
                self.is_broken = True
                self._broken()
