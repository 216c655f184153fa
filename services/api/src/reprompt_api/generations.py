"""Generations over HTTP."""

import asyncio
import base64
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from reprompt_core.generation.contract import Generation, GenerationRequest, Status
from reprompt_core.tasks import end

from .checks import check_asked
from .edges import Exchange
from .events import as_sse
from .files import audio_response, take_of
from .problems import FieldProblem, ProblemError
from .schemas import GenerationPage, GenerationView
from .state import Service

__all__ = ["Generations"]

_MOST_WAIT_S = 30
_LONGEST_KEY = 255

Id = Annotated[str, PathParameter(description="Of the generation.")]


class Generations(Controller):
    """Music, made as a job."""

    path = "/v1/generations"
    tags = ["Generations"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=202, operation_id="createGeneration", summary="Make music")
    async def create(
        self,
        data: JSONBody[GenerationRequest],
        service: NamedDependency[Service],
        request: Request[Any, Any, Any],
        idempotency_key: Annotated[
            str | None,
            HeaderParameter(
                name="Idempotency-Key",
                description="The same key and body are the same generation, however often they are sent; "
                "the same key with another body is refused. 1 to 255 printable ASCII characters without spaces.",
            ),
        ] = None,
        prefer: Annotated[
            str | None,
            HeaderParameter(name="Prefer", description="wait=N: answer when it is done, after N <= 30 s at most."),
        ] = None,
    ) -> Response[GenerationView]:
        """Accepts a generation and answers 202 with its address, or 200 when `Prefer: wait` saw it done."""
        # as they were sent: the framework reads the text null as nothing
        idempotency_key, prefer = (request.headers.get(name) for name in ("idempotency-key", "prefer"))
        if idempotency_key is not None and not re.fullmatch(rf"[!-~]{{1,{_LONGEST_KEY}}}", idempotency_key):
            said = f"An Idempotency-Key has 1 to {_LONGEST_KEY} printable ASCII characters without spaces."
            raise _misfit("Idempotency-Key", said)
        texts = {"words": data.words, "prompt": data.prompt}
        check_asked(service.pipeline.settings, texts=texts, refiner=data.refiner, generator=data.generator)
        tenant = request.state["tenant"]
        generation = await service.jobs.submit(data, tenant=tenant, key=idempotency_key)
        service.metrics.generations.labels(generation.generator, str(generation.reprompt["refiner"])).inc()
        headers = {"Location": f"{self.path}/{generation.id}"}
        wait_s = _wait_s(prefer)
        exchange: Exchange = request.state["exchange"]
        # without room to wait the preference is not applied, as RFC 7240 allows
        if wait_s is not None and (generation.done or exchange.wait_aside(wait_s)):
            headers["Preference-Applied"] = f"wait={wait_s}"
            if not generation.done:
                generation = await _wait(service, generation, tenant=tenant, seconds=wait_s)
        view = GenerationView.of(generation)
        return Response(view, status_code=200 if generation.done else 202, headers=headers)

    @get(operation_id="listGenerations", summary="The newest generations")
    async def page(
        self,
        service: NamedDependency[Service],
        request: Request[Any, Any, Any],
        status: Annotated[Status | None, QueryParameter(description="Only those.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100, description="Items of a page.")] = 20,
        cursor: Annotated[str | None, QueryParameter(max_length=200, description="`next` of the page before.")] = None,
    ) -> GenerationPage:
        """Newest first, a page at a time."""
        found = await service.jobs.newest(
            tenant=request.state["tenant"], status=status, before=_from_cursor(cursor), limit=limit + 1
        )
        shown = found[:limit]
        return GenerationPage(
            items=[GenerationView.of(g) for g in shown], next=_to_cursor(shown[-1]) if len(found) > limit else None
        )

    @get("/{id:str}", operation_id="getGeneration", summary="A generation")
    async def one(self, id: Id, service: NamedDependency[Service], request: Request[Any, Any, Any]) -> GenerationView:
        """As far as it is."""
        return GenerationView.of(await service.jobs.get(id, tenant=request.state["tenant"]))

    @get("/{id:str}/events", operation_id="followGeneration", media_type="text/event-stream", summary="Follow it")
    async def events(
        self,
        id: Id,
        service: NamedDependency[Service],
        request: Request[Any, Any, Any],
        last_event_id: Annotated[
            str | None,
            HeaderParameter(name="Last-Event-ID", description="Go on after this event: the last `id` that was seen."),
        ] = None,
    ) -> Response[Any]:
        """Server-sent events: `status`, `progress`, `take`; the stream ends after the final status.

        A comment keeps a silent stream open. Where it ends before, come back with Last-Event-ID; after the final
        status the answer to that is 204, which tells a browser to come back no more.
        """
        last_event_id = request.headers.get("last-event-id")  # as it was sent
        if last_event_id is not None and not re.fullmatch(r"[0-9]{1,18}", last_event_id):
            raise _misfit("Last-Event-ID", "This is no Last-Event-ID: give the `id` of an event of this generation.")
        tenant = request.state["tenant"]
        generation = await service.jobs.get(id, tenant=tenant)  # none: an error instead of an empty stream
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        exchange: Exchange = request.state["exchange"]
        if exchange.is_head:
            return Response(b"", status_code=200, media_type="text/event-stream", headers=headers)
        after = int(last_event_id or 0)
        if after and generation.done:
            rest = await service.jobs.database.fetch("events_after", id=UUID(generation.id), after=after)
            if not rest:  # from an end without a word a browser comes back for ever
                return Response(None, status_code=204)
        events = service.jobs.events(id, tenant=tenant, after=after)
        stream = as_sse(events, stopping=service.stopping, heartbeat_s=service.settings.heartbeat_s)
        return Stream(stream, media_type="text/event-stream", headers=headers)

    @get("/{id:str}/takes/{number:int}/audio", operation_id="getTakeAudio", media_type="audio/wav", summary="The sound")
    async def audio(
        self,
        id: Id,
        number: Annotated[int, PathParameter(description="Of the take, from 0.")],
        service: NamedDependency[Service],
        request: Request[Any, Any, Any],
    ) -> Response[Any]:
        """The audio file of a take; ranges are served."""
        generation = await service.jobs.get(id, tenant=request.state["tenant"])
        name = f"reprompt-{generation.id[:8]}-{number}"
        return await audio_response(request, service.jobs.store, generation, take_of(generation, number), name=name)

    @delete("/{id:str}", operation_id="deleteGeneration", status_code=200, summary="Cancel or remove it")
    async def remove(
        self,
        id: Id,
        service: NamedDependency[Service],
        request: Request[Any, Any, Any],
        done: Annotated[
            Literal["remove", "keep"],
            QueryParameter(
                description="What becomes of it if it is done. keep: it stays and is the answer, so that whoever "
                "cancels loses nothing that was finished at that moment."
            ),
        ] = "remove",
    ) -> Response[Any]:
        """Cancels what waits or runs and answers with the generation; removes what is done and answers 204."""
        tenant = request.state["tenant"]
        generation = await service.jobs.get(id, tenant=tenant)
        if done == "keep" or not generation.done:
            return Response(GenerationView.of(await service.jobs.cancel(id, tenant=tenant)), status_code=200)
        await service.jobs.remove(id, tenant=tenant)
        return Response(None, status_code=204)


async def _wait(service: Service, generation: Generation, *, tenant: str, seconds: int) -> Generation:
    """The generation once it is final, when the time is over, or when the server stops."""
    waiting = asyncio.create_task(service.jobs.wait(generation.id, tenant=tenant, timeout_s=seconds))
    stopped = asyncio.create_task(service.stopping.wait())
    try:
        await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else generation
    finally:
        await end(waiting, stopped)


def _wait_s(prefer: str | None) -> int | None:
    """The seconds of wait=N, RFC 7240; what is not understood is passed over."""
    for preference in (prefer or "").split(","):
        if match := re.fullmatch(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(;.*)?", preference, re.IGNORECASE):
            return min(int(match[1]), _MOST_WAIT_S)
    return None


def _to_cursor(generation: Generation) -> str:
    return base64.urlsafe_b64encode(f"{generation.created_at.isoformat()} {generation.id}".encode()).decode()


def _from_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, id = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode().split(" ")
        when = datetime.fromisoformat(at)
        if when.tzinfo is None or not 2000 <= when.year < 3000:
            raise ValueError
        return when.astimezone(UTC), str(UUID(id))
    except ValueError:
        raise _misfit("cursor", "This is no cursor: give `next` of the page before.") from None


def _misfit(name: str, detail: str) -> ProblemError:
    """A parameter that does not fit."""
    return ProblemError(422, detail, errors=[FieldProblem(name, detail)])
