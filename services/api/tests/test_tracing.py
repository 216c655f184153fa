"""OpenTelemetry: off unless asked for; then one span for each request reaches a collector, without words."""

import http.server
import threading

import pytest

pytestmark = pytest.mark.xdist_group("api-app")


@pytest.fixture
def collector():
    """An OTLP endpoint on loopback that keeps what it is sent."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_reach_a_collector(serve, collector):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    address, received = collector
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with serve(REPROMPT_API_OTEL_ENDPOINT=address) as server:
        with server.client() as client:
            headers = {"traceparent": parent, "X-Request-ID": "traced-1"}
            client.post("/v1/prompts", json={"words": "a private zeppelin"}, headers=headers)
            client.get("/v1/generations/3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55")
        code, _ = server.stop()
        assert code == 0
    assert {path for path, _ in received} == {"/v1/traces"}
    spans = {}
    for _, body in received:
        assert b"zeppelin" not in body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "reprompt-api"
            for scope in resource.scope_spans:
                spans.update({span.name: span for span in scope.spans})
    prompts = spans["POST /v1/prompts"]
    assert prompts.trace_id.hex() == parent.split("-")[1]
    assert prompts.parent_span_id.hex() == parent.split("-")[2]
    attributes = {a.key: a.value for a in prompts.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["http.route"].string_value == "/v1/prompts"
    assert attributes["request.id"].string_value == "traced-1"
    assert "GET /v1/generations/{id}" in spans


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    from reprompt_api import tracing
    from reprompt_core import SettingsError

    tracing.Tracing(None)  # nothing is looked for
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    tracing.Tracing(None)
    with pytest.raises(SettingsError, match=r"reprompt-api\[otel\]"):
        tracing.Tracing("http://localhost:4318")
