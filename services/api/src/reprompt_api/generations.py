"""Generations over HTTP."""

import base64
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, delete, get, post
from litestar.params import JSONBody, Parameter
from litestar.response import Stream
from reprompt_core import JobError
from reprompt_core.generation.contract import Generation, GenerationRequest

from .events import as_sse
from .files import audio_response, take_of
from .problems import ProblemError
from .schemas import GenerationPage, GenerationView
from .state import Service

__all__ = ["Generations"]

_MOST_WAIT_S = 30

Id = Annotated[str, Parameter(description="Of the generation.", max_length=64)]


class Generations(Controller):
    """Music, made as a job."""

    path = "/v1/generations"
    tags = ["Generations"]  # noqa: RUF012 - as Litestar declares it

    @post(status_code=202, summary="Make music", raises=[])
    async def create(
        self,
        data: JSONBody[GenerationRequest],
        service: Service,
        request: Request[Any, Any, Any],
        idempotency_key: Annotated[
            str | None,
            Parameter(
                header="Idempotency-Key", description="The same key and body are the same generation.", max_length=255
            ),
        ] = None,
        prefer: Annotated[
            str | None,
            Parameter(header="Prefer", description="wait=N: answer when it is done, after N <= 30 s at most."),
        ] = None,
    ) -> Response[GenerationView]:
        """Accepts a generation and answers 202 with its address, or 200 when `Prefer: wait` saw it done."""
        if idempotency_key is not None and not re.fullmatch(r"[!-~]+", idempotency_key):
            raise ProblemError(422, "An idempotency key has printable ASCII characters without spaces.")
        tenant = request.state["tenant"]
        generation = await service.jobs.submit(data, tenant=tenant, key=idempotency_key)
        service.metrics.generations.labels(generation.generator).inc()
        wait = _wait(prefer)
        if wait and not generation.done:
            generation = await service.jobs.wait(generation.id, tenant=tenant, timeout_s=wait)
        headers = {"Location": f"{self.path}/{generation.id}"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        view = GenerationView.of(generation)
        return Response(view, status_code=200 if generation.done else 202, headers=headers)

    @get(summary="The newest generations")
    async def page(
        self,
        service: Service,
        request: Request[Any, Any, Any],
        status: Annotated[
            Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
            Parameter(query="status", description="Only those."),
        ] = None,
        limit: Annotated[int, Parameter(ge=1, le=100, description="Items of a page.")] = 20,
        cursor: Annotated[str | None, Parameter(max_length=200, description="`next` of the page before.")] = None,
    ) -> GenerationPage:
        """Newest first, a page at a time."""
        found = await service.jobs.newest(
            tenant=request.state["tenant"], status=status, before=_from_cursor(cursor), limit=limit + 1
        )
        shown = found[:limit]
        return GenerationPage(
            items=[GenerationView.of(g) for g in shown], next=_to_cursor(shown[-1]) if len(found) > limit else None
        )

    @get("/{id:str}", summary="A generation")
    async def one(self, id: Id, service: Service, request: Request[Any, Any, Any]) -> GenerationView:
        """As far as it is."""
        return GenerationView.of(await service.jobs.get(id, tenant=request.state["tenant"]))

    @get("/{id:str}/events", media_type="text/event-stream", summary="What happens to it")
    async def events(
        self,
        id: Id,
        service: Service,
        request: Request[Any, Any, Any],
        last_event_id: Annotated[
            str | None, Parameter(header="Last-Event-ID", description="Go on after this event.", max_length=20)
        ] = None,
    ) -> Stream:
        """Server-sent events: `status`, `progress`, `take`; the stream ends with the final status."""
        after = int(last_event_id) if last_event_id and re.fullmatch(r"\d{1,18}", last_event_id) else 0
        tenant = request.state["tenant"]
        await service.jobs.get(id, tenant=tenant)  # none: an error instead of an empty stream
        events = service.jobs.events(id, tenant=tenant, after=after)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Stream(as_sse(events, service.stopping), media_type="text/event-stream", headers=headers)

    @get("/{id:str}/takes/{number:int}/audio", media_type="audio/wav", summary="The sound")
    async def audio(self, id: Id, number: int, service: Service, request: Request[Any, Any, Any]) -> Response[Any]:
        """The audio file of a take; ranges are served."""
        generation = await service.jobs.get(id, tenant=request.state["tenant"])
        name = f"reprompt-{generation.id[:8]}-{number}"
        return await audio_response(request, service.jobs.store, generation, take_of(generation, number), name=name)

    @delete("/{id:str}", status_code=200, summary="Cancel or remove it")
    async def remove(
        self, id: Id, service: Service, request: Request[Any, Any, Any]
    ) -> Response[GenerationView | None]:
        """Cancels what waits or runs and answers with the generation; removes what is done and answers 204."""
        tenant = request.state["tenant"]
        generation = await service.jobs.get(id, tenant=tenant)
        if not generation.done:
            return Response(GenerationView.of(await service.jobs.cancel(id, tenant=tenant)), status_code=200)
        try:
            await service.jobs.remove(id, tenant=tenant)
        except JobError as e:
            raise ProblemError(409, str(e)) from e
        return Response(None, status_code=204)


def _wait(prefer: str | None) -> int | None:
    match = re.search(r"\bwait\s*=\s*\"?(\d{1,6})", prefer or "")
    return min(int(match[1]), _MOST_WAIT_S) if match else None


def _to_cursor(generation: Generation) -> str:
    return base64.urlsafe_b64encode(f"{generation.created_at.isoformat()} {generation.id}".encode()).decode()


def _from_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, id = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if not re.fullmatch(r"[0-9a-f-]{36}", id):
            raise ValueError
        return datetime.fromisoformat(at), id
    except ValueError:
        raise ProblemError(422, "This is no cursor: give `next` of the page before.") from None
