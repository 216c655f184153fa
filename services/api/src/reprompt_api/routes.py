"""Prompts, comparisons, and what can be searched and used."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.params import JSONBody, Parameter
from litestar.response import Stream
from reprompt_core import CaptionFilter
from reprompt_core.generation.comparisons import Comparison as Kept

from .files import audio_response, take_of
from .schemas import Comparison, ComparisonRequest, Corpus, PlaceView, PromptRequest, Side, Vote
from .state import Service

__all__ = ["Catalogue", "Comparisons", "Prompts"]

_Request = Request[Any, Any, Any]
Id = Annotated[str, Parameter(description="Of the comparison.", max_length=64)]


class Prompts(Controller):
    """Words to prompts."""

    path = "/v1/prompts"
    tags = ["Prompts"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=200, summary="Words to a music prompt")
    async def create(self, data: JSONBody[PromptRequest], service: Service) -> dict[str, Any]:
        """Before and after, with mentions, descriptors, captions, the plan, and a reason for every musical choice."""
        wanted = CaptionFilter(
            corpora=tuple(data.corpora) if data.corpora is not None else None,
            licenses=tuple(data.licenses) if data.licenses is not None else None,
        )
        answer = await service.pipeline.reprompt(
            data.words, mode=data.mode, refiner=data.refiner, n=data.n, seed=data.seed, captions=wanted
        )
        service.metrics.prompts.labels(answer.refiner, answer.mode).inc()
        return answer.to_dict()


class Catalogue(Controller):
    """What is there."""

    path = "/v1"
    tags = ["Catalogue"]  # noqa: RUF012 - as Litestar declares it

    @get("/corpora", summary="What can be searched")
    async def corpora(self, service: Service) -> list[Corpus]:
        """The corpora of music captions."""
        rows = await service.jobs.database.fetch("list_corpora")
        return [
            Corpus(name=name, license=license, captions=captions)
            for _, name, license, _, ready, _, _, captions, _ in rows
            if ready
        ]

    @get("/generators", summary="Where music can be made now")
    async def generators(self, service: Service) -> list[PlaceView]:
        """Each place with its queue and the estimated wait."""
        return [
            PlaceView(generator=p.place, **{k: v for k, v in p._asdict().items() if k != "place"})
            for p in await service.jobs.places()
        ]


class Comparisons(Controller):
    """A or B?"""

    path = "/v1/comparisons"
    tags = ["Comparisons"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=202, summary="Compare with and without rewriting, blind")
    async def create(
        self, data: JSONBody[ComparisonRequest], service: Service, request: _Request
    ) -> Response[Comparison]:
        """The same words and seed, as they are and rewritten, as A and B in an order that is told after the vote."""
        kept = await service.comparisons.start(
            data.words, refiner=data.refiner, generator=data.generator, seconds=data.seconds, seed=data.seed,
            tenant=request.state["tenant"],
        )  # fmt: skip
        view = await _view(service, kept, request.state["tenant"])
        return Response(view, status_code=202, headers={"Location": f"{self.path}/{kept.id}"})

    @get("/export", media_type="application/x-ndjson", summary="Every vote, for the evaluation")
    async def export(self, service: Service, request: _Request) -> Stream:
        """One JSON line for each comparison with a vote; `reprompt-eval votes` reads it."""
        tenant = request.state["tenant"]

        async def lines() -> AsyncGenerator[bytes]:
            async for kept in service.comparisons.voted(tenant=tenant):
                yield msgspec.json.encode(kept.to_dict()) + b"\n"

        headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
        return Stream(lines(), media_type="application/x-ndjson", headers=headers)

    @get("/{id:str}", summary="A comparison")
    async def one(self, id: Id, service: Service, request: _Request) -> Comparison:
        """As far as it is; which is which is told after the vote."""
        tenant = request.state["tenant"]
        return await _view(service, await service.comparisons.get(id, tenant=tenant), tenant)

    @get("/{id:str}/{side:str}/audio", media_type="audio/wav", summary="A or B")
    async def audio(
        self,
        id: Id,
        side: Annotated[Literal["a", "b"], Parameter(description="Which.")],
        service: Service,
        request: _Request,
    ) -> Response[Any]:
        """The sound of A or B."""
        tenant = request.state["tenant"]
        kept = await service.comparisons.get(id, tenant=tenant)
        generation = await service.comparisons.side(kept, side, tenant=tenant)
        return await audio_response(
            request, service.jobs.store, generation, take_of(generation, 0), name=f"reprompt-{side}"
        )

    @post("/{id:str}/vote", status_code=200, summary="Which fits the words better")
    async def vote(self, id: Id, data: JSONBody[Vote], service: Service, request: _Request) -> Comparison:
        """Keeps the first vote, and tells which was which."""
        tenant = request.state["tenant"]
        kept = await service.comparisons.vote(id, data.choice, tenant=tenant)
        service.metrics.votes.labels(str(kept.preferred)).inc()
        return await _view(service, kept, tenant)


async def _view(service: Service, kept: Kept, tenant: str) -> Comparison:
    sides: dict[str, Side] = {}
    told = kept.choice is not None
    for side in ("a", "b"):
        generation = await service.comparisons.side(kept, side, tenant=tenant)
        heard = generation.status == "succeeded"
        sides[side] = Side(
            status=generation.status,
            progress=generation.progress,
            audio=f"/v1/comparisons/{kept.id}/{side}/audio" if heard else None,
            is_rewritten=kept.generation(side) == kept.rewritten if told else None,
            prompt=generation.prompt if told else None,
        )
    return Comparison(
        id=str(kept.id),
        words=kept.words,
        seconds=kept.seconds,
        seed=kept.seed,
        generator=kept.generator,
        is_preview=kept.generator == "preview",
        created_at=kept.created_at,
        ready=all(s.status == "succeeded" for s in sides.values()),
        a=sides["a"],
        b=sides["b"],
        choice=kept.choice,
        preferred=kept.preferred,
        voted_at=kept.voted_at,
    )
