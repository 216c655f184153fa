"""Blind comparisons: the same words with and without rewriting, the same seed, in an order nobody was told."""

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from ..database import Database
from ..errors import JobError, JobNotFoundError, RepromptError
from .contract import Generation, GenerationRequest, Place
from .jobs import Jobs

__all__ = ["Choice", "Comparison", "Comparisons"]

Choice = Literal["a", "b", "none"]
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two generations and what a person preferred."""

    id: UUID
    words: str
    seconds: float
    seed: int
    generator: Place
    raw: UUID  # the generation without rewriting
    rewritten: UUID
    shown: Literal["ab", "ba"]  # ab: A is the raw one
    choice: Choice | None  # none: they fit equally well
    created_at: datetime
    voted_at: datetime | None

    @property
    def preferred(self) -> Literal["raw", "rewritten", "none"] | None:
        """What the choice means."""
        if self.choice is None or self.choice == "none":
            return self.choice
        return "raw" if (self.choice == "a") == (self.shown == "ab") else "rewritten"

    def generation(self, side: Literal["a", "b"]) -> UUID:
        """The generation that is shown as A or B."""
        return self.raw if (side == "a") == (self.shown == "ab") else self.rewritten

    def to_dict(self) -> dict[str, Any]:
        """A line of the export, as the evaluation reads it."""
        return {
            "id": str(self.id),
            "words": self.words,
            "seconds": round(self.seconds, 3),  # the column has single precision
            "seed": self.seed,
            "generator": self.generator,
            "order": self.shown,
            "choice": self.choice,
            "preferred": self.preferred,
            "voted_at": self.voted_at.isoformat() if self.voted_at else None,
        }


class Comparisons:
    """Every comparison of a database.

    Args:
        jobs: open, with a pipeline.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._database: Database = jobs.database

    async def start(
        self,
        words: str,
        *,
        refiner: Literal["auto", "llm", "rules"] = "auto",
        generator: Literal["auto", "preview", "musicgen", "runpod"] = "auto",
        seconds: float = 10,
        seed: int = 0,
        tenant: str = "",
    ) -> Comparison:
        """Both generations, accepted; neither is listed among the tenant's own, which would tell which is which.

        Raises:
            What `Jobs.submit` raises.
        """
        common: dict[str, Any] = {"words": words, "seconds": seconds, "seed": seed, "format": "wav"}
        hidden, accepted = _hidden(tenant), list[Generation]()
        try:
            accepted.append(
                await self._jobs.submit(
                    GenerationRequest(**common, refiner=refiner, generator=generator), tenant=hidden
                )
            )
            # at the same place, whatever becomes available between the two
            place = accepted[0].generator
            accepted.append(
                await self._jobs.submit(GenerationRequest(**common, mode="off", generator=place), tenant=hidden)
            )
            rewritten, raw = accepted
            rows = await self._database.fetch(
                "add_comparison",
                id=uuid4(),
                tenant=tenant,
                words=words,
                seconds=seconds,
                seed=seed,
                generator=place,
                raw=UUID(raw.id),
                rewritten=UUID(rewritten.id),
                shown=secrets.choice(("ab", "ba")),
            )
        except BaseException:
            for generation in accepted:  # nobody will hear them
                with suppress(RepromptError):
                    await self._jobs.cancel(generation.id, tenant=hidden)
            raise
        return Comparison(*rows[0])

    async def get(self, id: str, *, tenant: str = "") -> Comparison:
        """A comparison.

        Raises:
            JobNotFoundError: there is none.
        """
        rows = await self._database.fetch("comparison", id=_uuid(id), tenant=tenant)
        if not rows:
            raise JobNotFoundError(f"There is no comparison {id}.")
        return Comparison(*rows[0])

    async def side(self, comparison: Comparison, side: Literal["a", "b"], *, tenant: str = "") -> Generation | None:
        """The generation behind A or B; None: it is deleted, as every old one is. The vote stays."""
        try:
            return await self._jobs.get(str(comparison.generation(side)), tenant=_hidden(tenant))
        except JobNotFoundError:
            return None

    async def vote(self, id: str, choice: Choice, *, tenant: str = "") -> Comparison:
        """Keeps a choice, once both could be heard; the first one counts.

        Raises:
            JobNotFoundError: there is no such comparison.
            JobError: it was voted on, or cannot be heard yet.
        """
        comparison = await self.get(id, tenant=tenant)
        for side in ("a", "b"):
            heard = await self.side(comparison, side, tenant=tenant)
            if comparison.choice is None and (heard is None or heard.status != "succeeded"):
                raise JobError("A vote counts once both can be heard, and that is not so.")
        rows = await self._database.fetch("vote", id=comparison.id, tenant=tenant, choice=choice)
        if not rows:
            raise JobError("There was a vote on this comparison already; it stands.")
        return Comparison(*rows[0])

    async def voted(self, *, tenant: str = "") -> AsyncIterator[Comparison]:
        """Every comparison with a vote, by the time of the vote."""
        after: tuple[datetime, UUID] = (_START, UUID(int=0))
        while True:
            rows = await self._database.fetch("voted_comparisons", tenant=tenant, after_at=after[0], after_id=after[1])
            for row in rows:
                comparison = Comparison(*row)
                after = (comparison.voted_at or _START, comparison.id)
                yield comparison
            if not rows:
                return


def _hidden(tenant: str) -> str:
    return f"comparison of {tenant}"


def _uuid(id: str) -> UUID:
    try:
        return UUID(id)
    except ValueError:
        raise JobNotFoundError(f"There is no comparison {id!r}: an id looks like {UUID(int=0)}.") from None
