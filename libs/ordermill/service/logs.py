"""JSON lines on stderr, with correlation and causation ids where there are any; never a payload, never a secret."""

from __future__ import annotations

import logging
import sys
from math import inf

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


class _NotAgainAndAgain(logging.Filter):
    """A client of Kafka that tries again says so each time, a hundred times a second while the broker is away: the same
    words at most once in ten seconds, with how often they were said since.
    """

    SECONDS = 10.0

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        words = (record.name, record.msg)
        said_at, held_back = self._said.get(words, (-inf, 0))
        if record.created - said_at < self.SECONDS:
            self._said[words] = (said_at, held_back + 1)
            return False
        self._said[words] = (record.created, 0)
        if held_back:
            record.msg = f"{record.msg} (said {held_back} times more meanwhile)"
        return True


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
    handler.addFilter(_NotAgainAndAgain())
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
