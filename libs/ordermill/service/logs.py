"""JSON lines on stderr, with correlation and causation ids where there are any; never a payload, never a secret."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

_ABOUT_CODE = frozenset({"AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "TypeError"})
"""Errors whose text speaks of code. Others may quote what they could not take: a name, an address."""


def _without_quotations(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    for raised in event.get("exception", ()):
        if raised["exc_type"] not in _ABOUT_CODE:
            raised["exc_value"] = "…"
    return event


def configure_logging(service: str, level: str = "INFO") -> None:
    """Set up structlog and the standard library's logging alike, for this process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),  # locals hold payloads
        _without_quotations,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
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
    for noisy in ("ordermill.kafka", "aiokafka", "uvicorn.access", "uvicorn.error", "faststream", "httpx"):
        logging.getLogger(noisy).setLevel("WARNING")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
