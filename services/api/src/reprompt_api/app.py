"""The app: its routes, its lifespan, its edge. Nothing is opened before the lifespan begins."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from importlib.metadata import version
from typing import Any

import structlog
from litestar import Litestar, Response, get
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, ScalarRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router
from reprompt_core import DatabaseError, Pipeline, Settings
from reprompt_core.generation.jobs import Jobs
from reprompt_core.generation.making import PreviewMaker
from reprompt_core.generation.runpod import RunPodMaker
from reprompt_core.generation.work import Maker
from reprompt_core.generation.worker import Worker

from .edges import Edge
from .generations import Generations
from .metrics import Metrics
from .problems import handlers
from .routes import Catalogue, Comparisons, Prompts
from .schemas import Readiness
from .settings import ApiSettings
from .state import Service

__all__ = ["create_app"]

_log: Any = structlog.get_logger()


@get("/livez", tags=["Health"], summary="The process runs", sync_to_thread=False)
def _livez() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", tags=["Health"], summary="Requests can be answered")
async def _readyz(state: State) -> Response[Readiness]:
    missing = await _missing(state.get("service"))
    return Response(Readiness(ready=not missing, not_ready=missing), status_code=503 if missing else 200)


@get("/metrics", tags=["Health"], summary="For Prometheus", media_type="text/plain", sync_to_thread=False)
def _metrics(state: State) -> Response[bytes]:
    metrics: Metrics = state["metrics"]
    return Response(metrics.text(), headers={"Content-Type": metrics.content_type})


@get("/", include_in_schema=False, media_type="text/html", sync_to_thread=False)
def _index() -> Response[bytes]:
    page = (resources.files("reprompt_api") / "page" / "index.html").read_bytes()
    return Response(page, headers={"Cache-Control": "no-cache"}, media_type="text/html; charset=utf-8")


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
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            opened = pipeline or await stack.enter_async_context(Pipeline(core or Settings()))
            working = jobs or await stack.enter_async_context(Jobs(pipeline=opened))
            service = Service(settings, pipeline=opened, jobs=working, metrics=metrics)
            if makers := _makers(settings, service):
                service.worker = Worker(working, makers)
                await stack.enter_async_context(_running(service.worker))
            app.state["service"] = service
            _log.info("ready", previews=settings.previews, keys=len(settings.keys))
            try:
                yield
            finally:
                service.stopping.set()
                app.state["service"] = None

    app = Litestar(
        route_handlers=[
            Prompts, Generations, Comparisons, Catalogue, _livez, _readyz, _metrics, _index,
            _page_files(),
        ],
        lifespan=[lifespan],
        exception_handlers=handlers,
        dependencies={"service": Provide(_service, sync_to_thread=False)},
        openapi_config=_openapi(),
        cors_config=CORSConfig(
            allow_origins=list(settings.cors_origins),
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id", "prefer", "x-api-key"],
        ) if settings.cors_origins else None,
        state=State({"metrics": metrics, "service": None}),
        debug=False,
        logging_config=None,
    )  # fmt: skip
    app.asgi_handler = Edge(app.asgi_handler, settings, metrics)  # type: ignore[assignment,arg-type]  # around 404s too
    return app


def _page_files() -> Any:
    folder = str(resources.files("reprompt_api") / "page")
    return create_static_files_router("/page", directories=[folder], include_in_schema=False, cache_control=None)


def _service(state: State) -> Service:
    return state["service"]


def _makers(settings: ApiSettings, service: Service) -> list[Maker]:
    makers: list[Maker] = []
    if settings.previews:
        makers.append(PreviewMaker(service.pipeline.knowledge, slots=settings.previews))
    if settings.runpod_jobs and service.pipeline.settings.runpod_endpoint is not None:
        makers.append(RunPodMaker(service.jobs, slots=settings.runpod_jobs))
    return makers


@asynccontextmanager
async def _running(worker: Worker) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop), name="worker")
    try:
        yield
    finally:
        stop.set()
        await running


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Reprompt",
        version=version("reprompt-api"),
        description="Words to music prompts with their reasons, and music from them.",
        path="/schema",
        render_plugins=[ScalarRenderPlugin(), JsonRenderPlugin()],
        use_handler_docstrings=True,
        components=Components(security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}),
        security=[{}, {"key": []}],
    )
