"""A process that makes music: from its settings to its end by signal."""

import asyncio
import signal
from collections.abc import Callable, Sequence

from ..tasks import end
from .jobs import Jobs
from .work import Maker
from .worker import Worker

__all__ = ["run_worker"]

_LOOK_S = 0.05


async def run_worker(jobs: Jobs, makers: Sequence[Maker], *, ready: Callable[[Worker], None] | None = None) -> None:
    """Makes generations until SIGTERM or SIGINT, then drains.

    Args:
        jobs: open.
        makers: loaded, one for each place.
        ready: called once the worker fetches.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = Worker(jobs, makers)
    running = asyncio.create_task(worker.run(stop))
    try:
        while not (worker.connected or running.done()):
            await asyncio.wait([running], timeout=_LOOK_S)
        if ready is not None and worker.connected:
            ready(worker)
        await asyncio.shield(running)
    finally:
        await end(running, again_s=30)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
