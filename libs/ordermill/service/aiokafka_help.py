"""What aiokafka is helped with, for all clients of this process.

**On uvloop a connection that was reset is said to be broken.** Between a reset and the moment at which the client hears
of it, uvloop answers a write with RuntimeError, where asyncio's own loop would let it pass. aiokafka expects OSError
alone: anything else ends the work of a consumer or a producer for good.

**A member with two strategies asks once to join its group.** aiokafka asks with the first, then with both (its pull
request 1168). Another set of strategies makes a broker share out anew, so each member that joins makes all others join
again, who do the same: three may never come to an end.

**A member with a name of its own says that it goes.** aiokafka leaves it in its group, and its partitions are nobody's
until the session ends: right for a crash that is soon over, not for a stop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import JoinGroupRequest

_send: Callable[..., Any] = AIOKafkaConnection.send


def _send_or_say_it_is_broken(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection is broken: {error}") from error


_ask: Callable[..., Awaitable[Any]] = GroupCoordinator._send_req


class _NotAsked:
    """In place of an answer that is thrown away unread, but for this."""

    error_code = 0


async def _ask_with_all_strategies(self: GroupCoordinator, request: Any) -> Any:
    if isinstance(request, JoinGroupRequest) and len(request._group_protocols) < len(self._assignors):
        return _NotAsked()
    return await _ask(self, request)


def say_goodbye_at_stop(consumer: AIOKafkaConsumer) -> None:
    """Its stop, which follows, tells the broker that this member is gone, as it does for one without a name."""
    coordinator: Any = consumer._coordinator
    if coordinator is not None:
        coordinator._group_instance_id = None


def help_aiokafka() -> None:
    """From now on; may be called again."""
    setattr(AIOKafkaConnection, "send", _send_or_say_it_is_broken)  # noqa: B010
    setattr(GroupCoordinator, "_send_req", _ask_with_all_strategies)  # noqa: B010
