"""The loop of a process that makes music: fetches, makes, sweeps, says that it lives, and drains when told to stop."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from ..errors import DatabaseError, RepromptError
from .jobs import Jobs
from .queue import TASK
from .sweep import sweep
from .work import Maker, perform

__all__ = ["Worker"]

_log = logging.getLogger(__name__)
_SWEEP_S = 5.0
_RESTART_S = 1.0


class Worker:
    """Makes generations at one or more places until told to stop.

    Args:
        jobs: open.
        makers: one for each place.
    """

    def __init__(self, jobs: Jobs, makers: Sequence[Maker]) -> None:
        self.jobs, self.makers = jobs, makers
        self.running = 0  # generations at this moment
        self.connected = False  # to the queue, of every place
        self._connected: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then lets what runs come to its end for as long as the settings say.

        A database that goes away is waited for.
        """
        side = [asyncio.create_task(self._sweep()), *(asyncio.create_task(self._beat(m)) for m in self.makers)]
        try:
            await asyncio.gather(*(self._serve(maker, stop) for maker in self.makers))
        finally:
            for task in side:
                task.cancel()
            await asyncio.wait(side)

    async def _serve(self, maker: Maker, stop: asyncio.Event) -> None:
        """Fetches and makes; procrastinate's worker ends when its connection does, and is started again."""
        from procrastinate.exceptions import ProcrastinateException
        from procrastinate.worker import Worker as Fetcher

        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            app = self.jobs.queue.new_app()

            async def task(generation: str) -> None:
                self.running += 1
                try:
                    await perform(self.jobs, maker, generation)
                except RepromptError as e:
                    _log.error("generation %s: %s", generation, e)  # the sweep finds it
                finally:
                    self.running -= 1

            app.task(name=TASK)(task)
            fetcher = Fetcher(
                app,
                queues=[maker.place],
                concurrency=maker.slots,
                install_signal_handlers=False,
                listen_notify=self.jobs.database.prepare,  # not behind a pooler in transaction mode
                fetch_job_polling_interval=5.0 if self.jobs.database.prepare else 1.0,
                shutdown_graceful_timeout=self.jobs.settings.drain_s,
                delete_jobs="always",
                update_heartbeat_interval=self.jobs.settings.stalled_s / 4,
                stalled_worker_timeout=self.jobs.settings.stalled_s,
            )
            try:
                async with app.open_async():
                    fetching = asyncio.create_task(fetcher.run())
                    self._note(maker, connected=True)
                    await asyncio.wait([fetching, stopping], return_when=asyncio.FIRST_COMPLETED)
                    fetcher.stop()
                    await fetching
            except (ProcrastinateException, OSError) as e:
                _log.warning("the queue of %s is away (%s); trying again", maker.place, type(e).__name__)
            finally:
                self._note(maker, connected=False)
            if not stop.is_set():
                await asyncio.sleep(_RESTART_S)
        stopping.cancel()

    def _note(self, maker: Maker, *, connected: bool) -> None:
        (self._connected.add if connected else self._connected.discard)(maker.place)
        self.connected = len(self._connected) == len(self.makers)

    async def _beat(self, maker: Maker) -> None:
        """Says every few seconds that music can be made here."""
        id = uuid4()
        try:
            while True:
                with suppress(DatabaseError):
                    await self.jobs.database.fetch(
                        "keep_worker",
                        id=id,
                        generator=maker.place,
                        slots=maker.slots,
                        model=maker.model,
                        revision=maker.model_revision,
                    )
                await asyncio.sleep(self.jobs.settings.stalled_s / 4)
        finally:
            with suppress(DatabaseError, asyncio.CancelledError):
                await asyncio.shield(self.jobs.database.fetch("remove_worker", id=id))

    async def _sweep(self) -> None:
        while True:
            try:
                await sweep(self.jobs)
            except RepromptError as e:
                _log.warning("the sweep did not run: %s", e)
            await asyncio.sleep(_SWEEP_S)
