"""Traces for OpenTelemetry, where they are asked for: one span for each request, sent by OTLP over HTTP."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from reprompt_core import SettingsError

__all__ = ["Tracing"]


class Tracing:
    """Off without an endpoint: then nothing of OpenTelemetry is imported.

    Args:
        endpoint: base address of a collector, such as http://localhost:4318; None: off.

    Raises:
        SettingsError: reprompt-api[otel] is not installed.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._provider: Any = None
        if endpoint and not (find_spec("opentelemetry") and find_spec("opentelemetry.exporter.otlp.proto.http")):
            raise SettingsError("REPROMPT_API_OTEL_ENDPOINT needs more packages: pip install 'reprompt-api[otel]'")

    def open(self) -> None:
        """Begins to send."""
        if self._endpoint is None:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "reprompt-api", "service.version": version("reprompt-api")})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=f"{self._endpoint.rstrip('/')}/v1/traces", timeout=10)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    def close(self) -> None:
        """Sends what is left; takes seconds where the collector is away."""
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str], request_id: str) -> Generator[dict[str, Any]]:
        """The span of a request, under the caller's own where it sent one. What is put into the dict becomes its
        attributes; `http.route` its name, too. Neither words nor prompts belong there."""
        attributes: dict[str, Any] = {}
        if self._provider is None:
            yield attributes
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(headers)
        tracer = self._provider.get_tracer("reprompt_api", version("reprompt-api"))
        with tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as span:
            try:
                yield attributes
            finally:
                span.set_attributes({"http.request.method": method, "request.id": request_id, **attributes})
                span.update_name(f"{method} {attributes.get('http.route', '')}".strip())
                if attributes.get("http.response.status_code", 0) >= 500:
                    span.set_status(Status(StatusCode.ERROR))
