"""What is counted, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics"]

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry for an app: apps made in tests do not share it."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "reprompt_requests_total", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "reprompt_request_seconds", "Time to the end of the answer.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self.in_flight = Gauge("reprompt_requests_in_flight", "Requests under way.", registry=registry)
        self.streams = Gauge(
            "reprompt_streams", "Event streams, downloads and waiting requests under way.", registry=registry
        )
        self.refused = Counter("reprompt_refused_total", "Requests refused.", ["why"], registry=registry)
        self.prompts = Counter("reprompt_prompts_total", "Prompts written.", ["refiner", "mode"], registry=registry)
        self.generations = Counter(
            "reprompt_generations_total",
            "Generations answered to a POST, those that an idempotency key found included.",
            ["generator", "refiner"],
            registry=registry,
        )
        self.votes = Counter("reprompt_votes_total", "Votes on comparisons.", ["preferred"], registry=registry)
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
