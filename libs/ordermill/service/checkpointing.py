"""A service closes what is new in its log, from time to time: see `ordermill.eventlog.checkpoints`."""

from __future__ import annotations

import asyncio

from ordermill.decider import decision
from ordermill.errors import OrdermillError
from ordermill.eventlog.checkpoints import CHECKPOINTS, MOST, Close, Closed, Signer, decide
from ordermill.eventlog.merkle import leaf, root
from ordermill.eventlog.store import VersionConflict

from .loops import forever
from .running import RunningService

ACTOR = "checkpoints"
PAUSE_S = 0.25
"""Between two where many are due, so that a log that never had one is closed beside its service's work."""


class NumbersMissing(OrdermillError):
    """The log is not whole, so nothing of it is closed."""

    code = "service.numbers-missing"

    def __init__(self, service: str, after: int) -> None:
        super().__init__(f"{service}: numbers are missing beyond {after}, so no checkpoint is made. See: oms verify")


async def keep_checkpoints(running: RunningService, signer: Signer, every_s: float) -> None:
    """A checkpoint every so many seconds from now on, where there is something new; until canceled."""

    async def work() -> int:
        try:
            closed = await make_checkpoint(running, signer)
        except VersionConflict:
            return 0  # others are at it
        if closed < MOST:
            return 0
        await asyncio.sleep(PAUSE_S)
        return closed

    await asyncio.sleep(every_s)  # who has just started has more urgent things to do
    await forever("checkpoints", work, every_s)


async def make_checkpoint(running: RunningService, signer: Signer) -> int:
    """Make one checkpoint of what is new, MOST events of it at most; of how many. Raises NumbersMissing."""
    engine, service = running.engine, running.service.name
    stream = CHECKPOINTS.stream(service)
    known: Closed = (await engine.state(stream)).state
    found = await engine.store.hashes(known.last, MOST)
    if len(found) <= min(known.number, 1):  # nothing but the last checkpoint itself
        return 0
    first, last = found[0][0], found[-1][0]
    if (first, last) != (known.last + 1, known.last + len(found)):
        raise NumbersMissing(service, known.last)
    made = root([leaf(seq, event_hash) for seq, event_hash in found])
    command = Close(service, first, last, made.hex(), engine.clock(), signer)
    await running.execute([decision(stream, decide, command)], ACTOR)
    return len(found)
