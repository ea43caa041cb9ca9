"""aiokafka on uvloop: a connection that was reset is said to be broken.

Between a reset and the moment at which the client hears of it, uvloop answers a write with RuntimeError, where
asyncio's own loop would let it pass. aiokafka expects OSError alone: anything else ends the work of a consumer or a
producer for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send: Callable[..., Any] = AIOKafkaConnection.send


def _send_or_say_it_is_broken(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection is broken: {error}") from error


def expect_resets() -> None:
    """For all connections of this process from now on; may be called again."""
    setattr(AIOKafkaConnection, "send", _send_or_say_it_is_broken)  # noqa: B010
