"""What the routes work with, made in the lifespan."""

import asyncio

from reprompt_core import Pipeline
from reprompt_core.generation.comparisons import Comparisons
from reprompt_core.generation.jobs import Jobs
from reprompt_core.generation.worker import Worker

from .metrics import Metrics
from .settings import ApiSettings

__all__ = ["Service"]


class Service:
    """The parts of a running API."""

    def __init__(self, settings: ApiSettings, *, pipeline: Pipeline, jobs: Jobs, metrics: Metrics) -> None:
        self.settings, self.pipeline, self.jobs, self.metrics = settings, pipeline, jobs, metrics
        self.comparisons = Comparisons(jobs)
        self.worker: Worker | None = None  # makes previews in this process
        self.stopping = asyncio.Event()  # set at the signal: event streams and waiting requests end, the worker drains
