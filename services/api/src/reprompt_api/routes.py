"""Prompts, and what can be searched and used."""

from typing import Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from reprompt_core import CaptionFilter, CorpusError

from .answer_schema import RepromptView
from .checks import check_asked
from .problems import FieldProblem, ProblemError
from .schemas import Corpus, PlaceView, PromptRequest
from .state import Service

__all__ = ["Catalogue", "Prompts"]


class Prompts(Controller):
    """Words to prompts."""

    path = "/v1/prompts"
    tags = ["Prompts"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=200, operation_id="createPrompt", summary="Words to a music prompt")
    async def create(self, data: JSONBody[PromptRequest], service: NamedDependency[Service]) -> Response[RepromptView]:
        """Before and after, with mentions, descriptors, captions, the plan, and a reason for every musical choice."""
        check_asked(service.pipeline.settings, texts={"words": data.words}, refiner=data.refiner)
        wanted = CaptionFilter(
            corpora=tuple(data.corpora) if data.corpora is not None else None,
            licenses=tuple(data.licenses) if data.licenses is not None else None,
        )
        try:
            answer = await service.pipeline.reprompt(
                data.words, mode=data.mode, refiner=data.refiner, n=data.n, seed=data.seed, captions=wanted
            )
        except CorpusError as e:
            raise _not_there(e, data) from None
        service.metrics.prompts.labels(answer.refiner, answer.mode).inc()
        body: Any = answer.to_dict()
        return Response(body)


def _not_there(error: CorpusError, data: PromptRequest) -> ProblemError:
    """With the place of the name that nothing has: the error quotes it."""
    found = [
        FieldProblem(f"/{field}/{number}", str(error))
        for field, names in (("corpora", data.corpora), ("licenses", data.licenses))
        for number, name in enumerate(names or ())
        if repr(name) in str(error)
    ]
    return ProblemError(422, str(error), errors=found[:1])


class Catalogue(Controller):
    """What is there."""

    path = "/v1"
    tags = ["Catalogue"]  # noqa: RUF012 - as Litestar declares it

    @get("/corpora", operation_id="listCorpora", summary="What can be searched")
    async def corpora(self, service: NamedDependency[Service]) -> list[Corpus]:
        """The corpora of music captions."""
        rows = await service.jobs.database.fetch("list_corpora")
        return [
            Corpus(name=name, license=license, captions=captions)
            for _, name, license, _, ready, _, _, captions, _ in rows
            if ready
        ]

    @get("/generators", operation_id="listGenerators", summary="Where music can be made now")
    async def generators(self, service: NamedDependency[Service]) -> list[PlaceView]:
        """Each place with its queue and the estimated wait."""
        return [
            PlaceView(generator=p.place, **{k: v for k, v in p._asdict().items() if k != "place"})
            for p in await service.jobs.places()
        ]
