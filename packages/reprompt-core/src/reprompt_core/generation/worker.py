"""The loop of a process that makes music: fetches, makes, sweeps, says that it lives, and drains when told to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

import psycopg

from ..errors import DatabaseError, RepromptError
from ..tasks import end
from .jobs import Jobs
from .queue import TASK
from .sweep import forget_old, sweep
from .work import Maker, perform

__all__ = ["Worker"]

_log = logging.getLogger(__name__)
_SWEEP_S = 5.0
_FORGET_S = 60.0
_RESTART_S = 1.0
_ENDS_S = 15.0  # that what is being made has to tell those who know of it
_LOOK_S = 1.0  # for tasks that were to wait, and for those whose notice came while the fetcher looked: it drops that


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
        sweep_s = min(_SWEEP_S, self.jobs.settings.stalled_s / 4)
        side = [
            asyncio.create_task(self._again_and_again(sweep, sweep_s)),
            asyncio.create_task(self._again_and_again(forget_old, _FORGET_S)),
            *(asyncio.create_task(self._beat(maker)) for maker in self.makers),
        ]
        try:
            async with asyncio.TaskGroup() as serving:
                for maker in self.makers:
                    serving.create_task(self._serve(maker, stop))
        finally:
            await end(*side)

    async def _serve(self, maker: Maker, stop: asyncio.Event) -> None:
        """Fetches and makes, then drains.

        What is being made does not depend on the fetcher: that ends when its connection does, and is started again.
        """
        from procrastinate.exceptions import ProcrastinateException

        hands = _Hands(self, maker)
        try:
            while not stop.is_set():
                try:
                    await self._fetch(maker, hands, stop)
                except (ProcrastinateException, psycopg.Error, OSError) as e:
                    _log.warning("the queue of %s is away (%s); trying again", maker.place, type(e).__name__)
                self._note(maker, connected=False)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RESTART_S):
                        await stop.wait()
            await hands.finish(within_s=self.jobs.settings.drain_s)
        finally:
            await hands.drop()

    async def _fetch(self, maker: Maker, hands: "_Hands", stop: asyncio.Event) -> None:
        """Runs procrastinate's worker until it ends or is to stop."""
        from procrastinate.worker import Worker as Fetcher

        async with self.jobs.queue.fetching() as app:

            async def task(generation: str) -> None:
                await asyncio.shield(hands.take(generation))

            app.task(name=TASK)(task)
            fetcher = Fetcher(
                app,
                queues=[maker.place],
                concurrency=maker.slots,
                install_signal_handlers=False,
                listen_notify=self.jobs.database.prepare,  # not behind a pooler in transaction mode
                fetch_job_polling_interval=_LOOK_S,
                shutdown_graceful_timeout=0,
                delete_jobs="always",
                update_heartbeat_interval=self.jobs.settings.stalled_s / 4,
                stalled_worker_timeout=self.jobs.settings.stalled_s,
            )
            fetching, stopping = asyncio.create_task(fetcher.run()), asyncio.create_task(stop.wait())
            try:
                self._note(maker, connected=True)
                await asyncio.wait([fetching, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                fetcher.stop()
                await fetching

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
            with suppress(DatabaseError):
                await self.jobs.database.fetch("remove_worker", id=id)

    async def _again_and_again(self, look_after: Callable[[Jobs], Awaitable[object]], pause_s: float) -> None:
        while True:
            try:
                await look_after(self.jobs)
            except RepromptError as e:
                _log.warning("%s did not run: %s", look_after.__name__, e)
            except Exception:  # a fault of ours in here must not end what makes music
                _log.exception("%s failed", look_after.__name__)
            await asyncio.sleep(pause_s)


class _Hands:
    """The generations that are being made at one place, at most as many as the maker has slots."""

    def __init__(self, worker: Worker, maker: Maker) -> None:
        self._worker, self._maker = worker, maker
        self._free = asyncio.Semaphore(maker.slots)
        self._full = False
        self._working: set[asyncio.Task[None]] = set()

    def take(self, generation: str) -> "asyncio.Task[None]":
        """Begins with a generation, once there is room: a fetcher that was started again does not know what runs."""
        working = asyncio.create_task(self._work(generation), name=f"perform {generation}")
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        return working

    async def _work(self, generation: str) -> None:
        async with self._free:
            if self._full:  # to stop: it waits for another worker
                return
            self._worker.running += 1
            try:
                await perform(self._worker.jobs, self._maker, generation)
            except RepromptError as e:
                _log.error("generation %s: %s", generation, e)  # the sweep finds it
            except Exception:
                _log.exception("generation %s", generation)
            finally:
                self._worker.running -= 1

    async def finish(self, *, within_s: float) -> None:
        """Takes nothing more, and lets what runs come to its end."""
        self._full = True
        if self._working:
            await asyncio.wait(self._working, timeout=within_s)

    async def drop(self) -> None:
        """Stops what still runs; other workers make it."""
        await end(*self._working, again_s=_ENDS_S)
