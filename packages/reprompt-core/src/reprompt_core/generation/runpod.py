"""RunPod serverless as a maker: submitted once, followed to its end, never billed twice unseen."""

from .contract import Place
from .jobs import Jobs
from .work import Made, Work

__all__ = ["RunPodMaker"]


class RunPodMaker:
    """Being written."""

    place: Place = "runpod"

    def __init__(self, jobs: Jobs, *, slots: int = 32) -> None:
        self._jobs, self.slots = jobs, slots
        self.model: str | None = None
        self.model_revision: str | None = None

    async def make(self, work: Work) -> Made:
        """Being written."""
        raise NotImplementedError
