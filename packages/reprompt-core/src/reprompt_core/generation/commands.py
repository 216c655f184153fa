"""`reprompt worker`: a process that makes previews, and follows what runs at RunPod."""

import asyncio
import logging
from typing import Annotated

import typer

from ..errors import SettingsError
from ..settings import Settings
from ..terminal import err, errors, status

__all__ = ["worker"]


def worker(
    preview: Annotated[int, typer.Option(min=0, max=64, help="Previews at once; 0: none.")] = 2,
    runpod: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="RunPod jobs followed at once; 32 where an endpoint is configured."),
    ] = None,
) -> None:
    """Make the generations that wait for a preview or for RunPod, until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    with errors():
        settings = Settings()
        if runpod is None:
            runpod = 32 if settings.runpod_endpoint is not None else 0
        elif runpod and settings.runpod_endpoint is None:
            raise SettingsError("RunPod is not configured: set REPROMPT_RUNPOD_ENDPOINT and REPROMPT_RUNPOD_API_KEY.")
        if not preview + runpod:
            raise typer.BadParameter("--preview and --runpod are both 0: there is nothing to do.")
        asyncio.run(_work(settings, preview, runpod))


async def _work(settings: Settings, preview: int, runpod: int) -> None:
    from ..pipeline import Pipeline
    from . import Jobs, Maker, PreviewMaker, RunPodMaker, Worker
    from .process import run_worker

    def ready(worker: Worker) -> None:
        what = ", ".join(f"{maker.place} ({maker.slots} at once)" for maker in worker.makers)
        err.print(f"Ready: {what}. Database: {worker.jobs.database.where}.", markup=False, soft_wrap=True)

    with status("Starting"):
        pipeline = Pipeline(settings)
        await pipeline.open()
    try:
        async with Jobs(pipeline=pipeline) as jobs:
            makers: list[Maker] = []
            if preview:
                makers.append(PreviewMaker(pipeline.knowledge, slots=preview))
            if runpod:
                makers.append(RunPodMaker(jobs, slots=runpod))
            try:
                await run_worker(jobs, makers, ready=ready)
            finally:
                for maker in makers:
                    if isinstance(maker, RunPodMaker):
                        await maker.close()
    finally:
        await pipeline.close()
