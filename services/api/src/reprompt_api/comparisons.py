"""Blind comparisons over HTTP: until the vote nothing that is answered tells which is which."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from litestar.response import Stream
from reprompt_core.generation.comparisons import Comparison as Kept
from reprompt_core.generation.contract import Generation, Status

from .checks import check_asked
from .files import audio_response, take_of
from .problems import ProblemError
from .schemas import Comparison, ComparisonRequest, Side, Vote
from .state import Service

__all__ = ["Comparisons"]

_Request = Request[Any, Any, Any]
_SideName = Literal["a", "b"]
_SIDES: tuple[_SideName, ...] = ("a", "b")
Id = Annotated[str, PathParameter(description="Of the comparison.")]


class Comparisons(Controller):
    """A or B?"""

    path = "/v1/comparisons"
    tags = ["Comparisons"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=202, operation_id="createComparison", summary="Compare with and without rewriting, blind")
    async def create(
        self, data: JSONBody[ComparisonRequest], service: NamedDependency[Service], request: _Request
    ) -> Response[Comparison]:
        """The same words and seed, as they are and rewritten, as A and B in an order that is told after the vote."""
        settings, tenant = service.pipeline.settings, request.state["tenant"]
        check_asked(settings, texts={"words": data.words}, refiner=data.refiner, generator=data.generator)
        kept = await service.comparisons.start(
            data.words, refiner=data.refiner, generator=data.generator, seconds=data.seconds, seed=data.seed,
            tenant=tenant,
        )  # fmt: skip
        view = await _view(service, kept, tenant)
        return Response(view, status_code=202, headers={"Location": f"{self.path}/{kept.id}"})

    @get(
        "/export",
        operation_id="exportVotes",
        media_type="application/x-ndjson",
        summary="Every vote, for the evaluation",
    )
    async def export(self, service: NamedDependency[Service], request: _Request) -> Response[Any]:
        """One JSON line for each comparison with a vote, by the time of the vote."""
        headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
        media_type = "application/x-ndjson"
        voted = service.comparisons.voted(tenant=request.state["tenant"])
        first = await anext(voted, None)  # an error now, not in the middle of the answer
        if first is None or request.state["exchange"].is_head:
            return Response(b"", media_type=media_type, headers=headers)
        return Stream(_lines(first, voted), media_type=media_type, headers=headers)

    @get("/{id:str}", operation_id="getComparison", summary="A comparison")
    async def one(self, id: Id, service: NamedDependency[Service], request: _Request) -> Comparison:
        """As far as it is; which is which is told after the vote."""
        tenant = request.state["tenant"]
        return await _view(service, await service.comparisons.get(id, tenant=tenant), tenant)

    @get(
        "/{id:str}/{side:str}/audio",
        operation_id="getComparisonAudio",
        media_type="audio/wav",
        summary="The sound of A or B",
    )
    async def audio(
        self,
        id: Id,
        side: Annotated[_SideName, PathParameter(description="Which: a or b.")],
        service: NamedDependency[Service],
        request: _Request,
    ) -> Response[Any]:
        """The audio file, once both can be heard; ranges are served."""
        tenant = request.state["tenant"]
        sides = await _sides(service, await service.comparisons.get(id, tenant=tenant), tenant)
        generation = sides[side]
        if generation is None:
            raise ProblemError(404, "The audio of this comparison is deleted.")
        status = _status(sides)
        if status != "succeeded":  # which of them is there first would tell something
            again = status in {"queued", "running"}
            raise ProblemError(
                409 if again else 404,
                f"The comparison is {status}: both can be heard once both are made."
                if again
                else f"The comparison {status}: there is nothing to hear.",
            )
        take = take_of(generation, 0)
        return await audio_response(request, service.jobs.store, generation, take, name=f"reprompt-{side}")

    @post("/{id:str}/vote", operation_id="vote", status_code=200, summary="Which fits the words better")
    async def vote(
        self, id: Id, data: JSONBody[Vote], service: NamedDependency[Service], request: _Request
    ) -> Comparison:
        """Keeps the first vote, and tells which was which."""
        tenant = request.state["tenant"]
        kept = await service.comparisons.vote(id, data.choice, tenant=tenant)
        service.metrics.votes.labels(str(kept.preferred)).inc()
        return await _view(service, kept, tenant)


async def _lines(first: Kept, rest: AsyncIterator[Kept]) -> AsyncGenerator[bytes]:
    yield msgspec.json.encode(first.to_dict()) + b"\n"
    async for kept in rest:
        yield msgspec.json.encode(kept.to_dict()) + b"\n"


async def _sides(service: Service, kept: Kept, tenant: str) -> dict[_SideName, Generation | None]:
    return {side: await service.comparisons.side(kept, side, tenant=tenant) for side in _SIDES}


def _status(sides: dict[_SideName, Generation | None]) -> Status:
    """How far both are together."""
    found = [generation.status if generation else "failed" for generation in sides.values()]
    for status in ("failed", "cancelled", "running"):
        if status in found:
            return status
    if "queued" in found:
        return "running" if "succeeded" in found else "queued"
    return "succeeded"


async def _view(service: Service, kept: Kept, tenant: str) -> Comparison:
    sides = await _sides(service, kept, tenant)
    status = _status(sides)
    progress = round(sum(g.progress if g else 0.0 for g in sides.values()) / len(sides), 3)

    def view(side: _SideName) -> Side:
        generation, told = sides[side], kept.choice is not None
        return Side(
            status="succeeded" if told else status,  # a vote was cast on what could be heard
            progress=1.0 if told else progress,
            audio=f"/v1/comparisons/{kept.id}/{side}/audio" if generation and status == "succeeded" else None,
            is_rewritten=kept.generation(side) == kept.rewritten if told else None,
            prompt=generation.prompt if told and generation else None,
        )

    return Comparison(
        id=str(kept.id),
        words=kept.words,
        seconds=round(kept.seconds, 3),
        seed=kept.seed,
        generator=kept.generator,
        is_preview=kept.generator == "preview",
        created_at=kept.created_at,
        ready=status == "succeeded",
        a=view("a"),
        b=view("b"),
        choice=kept.choice,
        preferred=kept.preferred,
        voted_at=kept.voted_at,
    )
