"""The app: its routes, its lifespan, its edge. Nothing is opened before the lifespan begins."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import QueryParameter
from reprompt_core import DatabaseError, Pipeline, RepromptError, Settings
from reprompt_core.generation.jobs import Jobs
from reprompt_core.generation.making import PreviewMaker
from reprompt_core.generation.runpod import RunPodMaker
from reprompt_core.generation.work import Maker
from reprompt_core.generation.worker import Worker

from .bodies import JsonRequest
from .comparisons import Comparisons
from .edges import Edge
from .generations import Generations
from .metrics import Metrics
from .openapi import openapi_config
from .pages import index, page_file
from .problems import FieldProblem, ProblemError, handlers
from .routes import Catalogue, Prompts
from .schemas import Liveness, Readiness
from .settings import ApiSettings
from .state import Service
from .tracing import Tracing

__all__ = ["create_app"]

_log: Any = structlog.get_logger()


@get("/livez", operation_id="live", tags=["Health"], summary="The process runs", sync_to_thread=False)
def _livez() -> Liveness:
    """Answers as long as the process does."""
    return Liveness()


@get("/readyz", operation_id="ready", tags=["Health"], summary="Requests can be answered")
async def _readyz(state: State) -> Response[Readiness]:
    """Names what is not ready: 503 then."""
    missing = await _missing(state.get("service"))
    return Response(Readiness(ready=not missing, not_ready=missing), status_code=503 if missing else 200)


@get(
    "/metrics", operation_id="metrics", tags=["Health"], summary="For Prometheus", media_type="text/plain",
    sync_to_thread=False,
)  # fmt: skip
def _metrics(state: State) -> Response[bytes]:
    """By route, refiner and generator. Where API keys are set this asks for one, too."""
    metrics: Metrics = state["metrics"]
    return Response(metrics.text(), headers={"Content-Type": metrics.content_type})


async def _missing(service: Service | None) -> list[str]:
    if service is None or service.stopping.is_set():
        return ["the service is starting or stopping"]
    missing: list[str] = []
    try:
        async with asyncio.timeout(2):
            await service.jobs.database.fetch("count_queued")
    except (DatabaseError, TimeoutError):
        missing.append("database")
    if service.worker is not None and not service.worker.connected:
        missing.append("queue")
    return missing


def create_app(
    settings: ApiSettings | None = None,
    *,
    core: Settings | None = None,
    pipeline: Pipeline | None = None,
    jobs: Jobs | None = None,
) -> Litestar:
    """The API as an ASGI app.

    Args:
        settings: of the API; None: from the environment.
        core: of reprompt-core; None: from the environment. Not used with a pipeline.
        pipeline: an open one, which stays open; None: one is opened with the app.
        jobs: open ones on the same database, which stay open; None: opened with the app.

    Raises:
        SettingsError: a setting cannot be used.
    """
    settings = settings or ApiSettings()
    metrics, tracing = Metrics(), Tracing(settings.otel_endpoint)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            tracing.open()
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            try:
                opened = pipeline or await stack.enter_async_context(Pipeline(_within(core or Settings(), settings)))
                working = jobs or await stack.enter_async_context(Jobs(pipeline=opened))
            except RepromptError as e:
                app.state["failure"] = e  # for whoever starts the server to tell, without a traceback
                raise
            service = Service(settings, pipeline=opened, jobs=working, metrics=metrics)
            if makers := _makers(settings, service):
                service.worker = Worker(working, makers)
                await stack.enter_async_context(_running(service.worker, service.stopping))
            app.state["service"] = service
            _log.info("ready", previews=settings.previews, keys=len(settings.keys))
            try:
                yield
            finally:
                service.stopping.set()
                app.state["service"] = None

    app = Litestar(
        route_handlers=[
            Prompts, Generations, Comparisons, Catalogue, _livez, _readyz, _metrics, index, page_file,
        ],
        lifespan=[lifespan],
        request_class=JsonRequest,
        before_request=_check_form,
        exception_handlers=handlers,
        dependencies={"service": Provide(_service, sync_to_thread=False)},
        openapi_config=openapi_config(),
        state=State({"metrics": metrics, "service": None}),
        debug=False,
        logging_config=None,
    )  # fmt: skip
    # around 404s and what the framework refuses, too
    methods = {route.path_format: frozenset[str](getattr(route, "methods", ())) for route in app.routes}
    app.asgi_handler = Edge(app.asgi_handler, settings, metrics, tracing, methods=methods)  # type: ignore[assignment,arg-type]
    return app


def _within(core: Settings, settings: ApiSettings) -> Settings:
    """The worker in here has no longer to drain than the server."""
    return replace(core, drain_s=min(core.drain_s, float(settings.grace_s)))


def _service(state: State) -> Service:
    service: Service | None = state["service"]
    if service is None:
        raise ProblemError(503, "The service is starting or stopping; try again.", headers={"Retry-After": "1"})
    return service


async def _check_form(request: Request[Any, Any, Any]) -> None:
    """What the framework is lenient with."""
    _check_query(request)
    _check_accept(request)


def _check_query(request: Request[Any, Any, Any]) -> None:
    """A parameter is one that there is, stands once, and null is no value of it, which Litestar would read as none.

    Of the page and of probes nothing is refused: others add parameters of theirs to such addresses.

    Raises:
        ProblemError: 422, with the names.
    """
    given = list(request.query_params.multi_items())
    if not given or not request.url.path.startswith("/v1/"):
        return
    parameters = request.route_handler.parsed_fn_signature.parameters
    known = {name for name, p in parameters.items() if isinstance(p.kwarg_definition, QueryParameter)}
    counts = Counter(name for name, _ in given)
    found: list[FieldProblem] = []
    for name, value in sorted(dict(given).items()):
        if name not in known:
            found.append(FieldProblem(name[:100], "There is no such parameter."))
        elif counts[name] > 1:
            found.append(FieldProblem(name, "This stands more than once."))
        elif str(value).lower() == "null":
            found.append(FieldProblem(name, "null is no value."))
    if found:
        raise ProblemError(422, "A parameter of the request does not fit; `errors` says which.", errors=found[:20])


def _check_accept(request: Request[Any, Any, Any]) -> None:
    """Refuses what asks for another type than its route answers, as far as that is certain.

    Raises:
        ProblemError: 406, with the type that there is.
    """
    accept = request.headers.get("accept", "").lower()
    if not accept or "*/*" in accept or not request.url.path.startswith("/v1/"):
        return
    media_type = request.route_handler.media_type
    answers = str(getattr(media_type, "value", media_type)).partition(";")[0]
    kind = answers.partition("/")[0]
    for choice in accept.split(","):
        wanted, *parameters = (part.strip() for part in choice.split(";"))
        refused = any(parameter in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters)
        # the format of a file is known when it is found
        if not refused and (wanted in {answers, f"{kind}/*"} or (kind == "audio" and wanted.startswith("audio/"))):
            return
    raise ProblemError(406, f"The answer here is {answers}: ask for that with Accept, or leave it out.")


def _makers(settings: ApiSettings, service: Service) -> list[Maker]:
    makers: list[Maker] = []
    if settings.previews:
        makers.append(PreviewMaker(service.pipeline.knowledge, slots=settings.previews))
    if settings.runpod_jobs and service.pipeline.settings.runpod_endpoint is not None:
        makers.append(RunPodMaker(service.jobs, slots=settings.runpod_jobs))
    return makers


@asynccontextmanager
async def _running(worker: Worker, stopping: asyncio.Event) -> AsyncGenerator[None]:
    running = asyncio.create_task(worker.run(stopping), name="worker")
    try:
        yield
    finally:
        stopping.set()
        await running
