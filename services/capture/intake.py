"""Payloads in vendors' formats, from webhooks and files: adapted, sealed, decided, or kept with the reason why not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import orjson
import structlog

from ordermill.contracts.capture import OrderChangeRefused, OrderRejected
from ordermill.decider import Decision
from ordermill.errors import OrdermillError, Poison, Refused, Transient
from ordermill.eventlog.engine import Outcome
from ordermill.ids import order_id_of
from ordermill.service import deadletters
from ordermill.service.running import RunningService, facts_of

from .adapters import ADAPTERS, Adapted, AdapterContext, Reason, adapt
from .adapters.base import USUAL_CURRENCY
from .handlers import Intake, order_decision

logger = structlog.get_logger(__name__)

DONE, FAILED, WORKING = ".done", ".failed", ".working"


class Unadapted(Exception):
    """Something in a payload became no message. Carried into the dead letter."""

    code = "capture.not-adapted"

    def __init__(self, reasons: Sequence[Reason]) -> None:
        super().__init__("; ".join(str(reason) for reason in reasons[:5]) + (" …" if len(reasons) > 5 else ""))


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one payload: the order ids that it touched, and what was turned away, with reasons."""

    orders: tuple[str, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Payload:
    """A payload as a dead letter keeps it."""

    topic: str
    key: bytes
    value: bytes
    partition: int = -1
    offset: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()


class Payloads:
    """Takes in whole payloads. What is taken is committed when a call returns."""

    def __init__(
        self,
        intake: Intake,
        trusted: frozenset[str] = frozenset(),
        zones: Mapping[str, str] = MappingProxyType({}),
        currencies: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`zones` by channel, or by channel/store; `currencies` by channel: what holds if a payload does not say it."""
        self._intake = intake
        self._trusted = trusted
        self._zones = {name: ZoneInfo(zone) for name, zone in zones.items()}
        self._currencies = currencies

    async def take(
        self, service: RunningService, name: str, payload: bytes, channel: str, topic: str | None = None
    ) -> Taken:
        """Adapt and decide. Raises UnknownFormat; whatever is wrong with the payload ends in a reason, not an error.

        Raises what may pass by itself, after the rest was taken and what was turned away is kept: send it again.
        """
        now = service.engine.clock()
        adapted = await asyncio.to_thread(adapt, name, payload, self._context(channel, now, topic))
        await self._intake.prepare(adapted.messages)
        requests: list[tuple[list[Decision], str | None]] = [
            ([order_decision(self._intake.command(message, now))], None) for message in adapted.messages
        ]
        actor = f"channel:{channel}"
        outcomes = await service.execute_many(requests, actor)
        turned_away = (*adapted.rejections, *_refusals(adapted, outcomes))
        if turned_away:
            await self._keep(service, name, payload, channel, turned_away)
        for outcome in outcomes:
            if outcome.error is not None and not isinstance(outcome.error, Poison | Refused):
                raise outcome.error
        return _taken(adapted, turned_away, outcomes)

    def _context(self, channel: str, now: datetime, topic: str | None) -> AdapterContext:
        of_stores = f"{channel}/"
        return AdapterContext(
            channel,
            now,
            currency=self._currencies.get(channel, USUAL_CURRENCY),
            topic=topic,
            zone=self._zones.get(channel),
            zones={name.removeprefix(of_stores): z for name, z in self._zones.items() if name.startswith(of_stores)},
            honors_extension=channel in self._trusted,
        )

    async def _keep(
        self, service: RunningService, name: str, payload: bytes, channel: str, reasons: Sequence[Reason]
    ) -> None:
        letter_id = sha256(f"{name}\0{channel}\0".encode() + payload).hexdigest()[:32]
        record = _Payload(f"{name}:{channel}", channel.encode(), payload)
        letter, blobs = deadletters.letter_of(record, letter_id, Unadapted(reasons), 0, name, letter_id)
        await service.execute([deadletters.keep(letter)], f"channel:{channel}", blobs=blobs)


def _refusals(adapted: Adapted, outcomes: Sequence[Outcome]) -> Iterator[Reason]:
    """Of messages that will never be taken, however often they are sent as things are; they stop no other."""
    for message, outcome in zip(adapted.messages, outcomes, strict=True):
        if isinstance(outcome.error, Poison | Refused):
            yield Reason(outcome.error.code, f"order {message.external_id}", str(outcome.error))


def _taken(adapted: Adapted, turned_away: Sequence[Reason], outcomes: Sequence[Outcome]) -> Taken:
    rejected = [str(reason) for reason in turned_away]
    for outcome in outcomes:
        rejected += [f"{f.external_id}: {'; '.join(f.reasons)}" for f in facts_of(outcome, OrderRejected)]
        rejected += [f"{f.change_id}: {f.reason}" for f in facts_of(outcome, OrderChangeRefused)]
    ids = dict.fromkeys(order_id_of(message.channel, message.external_id) for message in adapted.messages)
    return Taken(tuple(ids), tuple(rejected))


class Folder:
    """A watched folder: `<inbox>/<format>/<channel>/<file>`; a file counts once it has its final name.

    It is claimed by renaming, so several instances may watch one folder, and ends in `.done`, or in `.failed` beside a
    file of reasons. A file whose instance died is taken up again at the next start: orders are known by their ids.
    Write elsewhere or under a name that begins with a dot, then rename.
    """

    def __init__(self, inbox: Path, instance: str, payloads: Payloads) -> None:
        self._inbox = inbox
        self._instance = instance
        self._payloads = payloads

    async def watch(self, service: RunningService) -> None:
        for name in ADAPTERS:
            (self._inbox / name).mkdir(parents=True, exist_ok=True)
        self._take_up_again()
        while True:
            taken = 0
            for claimed in self._claim():
                await self._take(service, claimed)
                taken += 1
            if not taken:
                await asyncio.sleep(0.25)

    def _take_up_again(self) -> None:
        for left in self._inbox.glob(f"*/*/{WORKING}/{self._instance}/*"):
            os.replace(left, left.parent.parent.parent / left.name)

    def _claim(self) -> list[Path]:
        claimed: list[Path] = []
        for path in sorted(self._inbox.glob("*/*/*")):
            if path.name.startswith(".") or not path.is_file():
                continue
            target = path.parent / WORKING / self._instance / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(path, target)
            except FileNotFoundError:
                continue  # another instance was first
            claimed.append(target)
        return claimed

    async def _take(self, service: RunningService, path: Path) -> None:
        folder = path.parent.parent.parent
        name, channel = folder.parent.name, folder.name
        while True:
            try:
                taken = await self._payloads.take(service, name, path.read_bytes(), channel)
                break
            except Transient as error:
                logger.warning("a file waits", file=path.name, format=name, channel=channel, error=str(error))
                await asyncio.sleep(1)
            except OrdermillError as error:
                taken = Taken((), (str(error),))
                break
            except Exception as error:
                logger.exception("a file could not be taken", file=path.name, format=name, channel=channel)
                taken = Taken((), (f"unexpected {type(error).__name__}: a defect of ours",))
                break
        end = folder / (FAILED if taken.rejected else DONE)
        end.mkdir(exist_ok=True)
        if taken.rejected:
            (end / f"{path.name}.reasons.json").write_bytes(orjson.dumps(taken.rejected, option=orjson.OPT_INDENT_2))
        os.replace(path, end / path.name)
        logger.info("file taken", file=path.name, format=name, channel=channel, orders=len(taken.orders))
