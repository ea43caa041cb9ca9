"""The doors as the outside of a simulation uses them: the bus, and the same commands that the HTTP routes take."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from pydantic import TypeAdapter

from ordermill.contracts.base import Fact, Message
from ordermill.contracts.capture import HoldReason
from ordermill.contracts.channel import OrderPlaced
from ordermill.contracts.routing import OrderRouted
from ordermill.contracts.service import DeadLettered
from ordermill.decider import Decision
from ordermill.demo.doors import hubs_of, named
from ordermill.errors import OrdermillError, Refused
from ordermill.ids import derived_id
from ordermill.service.deadletters import drop
from ordermill.service.messages import outside_headers
from services.capture.app import CancelRequest, HoldRequest
from services.capture.domain import CancelOrder, ForgetCustomer, HoldOrder, ReleaseHold, RetryRefund
from services.capture.handlers import Intake, order_decision
from services.fulfillment.app import Work as FloorWork
from services.fulfillment.app import command_of as floor_command
from services.fulfillment.app import report_key
from services.fulfillment.handlers import work_decision
from services.inventory.app import RerouteRequest
from services.inventory.domain import RerouteUnits
from services.inventory.domain import decision as stock_decision
from services.returns.app import ReturnRequest, request_of
from services.returns.app import Work as DeskWork
from services.returns.app import command_of as desk_command

from .bus import Record, header
from .nemesis import Fault, Nemesis
from .place import Instance, Place, network
from .process import MONDAY, SPEED

ACTOR = "world"
NOBODY = "/nobody"
"""Who sends what nobody can read."""
POISON = b"poison-"
"""What keys of such records begin with."""


def _is(record: Record, fact: type[Fact]) -> bool:
    """That poison only looks like."""
    return header(record, "ce_type") == fact.type and header(record, "ce_source") != NOBODY


def poisonous(letter: DeadLettered) -> bool:
    """Whether nobody could ever handle it."""
    return letter.key_base64 is not None and b64decode(letter.key_base64).startswith(POISON)


_FLOOR: TypeAdapter[list[Any]] = TypeAdapter(list[FloorWork])
_DESK: TypeAdapter[list[Any]] = TypeAdapter(list[DeskWork])


@dataclass(frozen=True, slots=True)
class Sent:
    """One record that the outside published, to be published again should the broker forget it."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at_ms: int
    keepers: tuple[str, ...] = ()
    """Services that must keep it as a dead letter."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that somebody has handled after all; or dropped, with a note."""

    service: str
    letter_id: str
    note: str | None = None


class FailedInside(OrdermillError):
    """A service answered with an error of its own."""

    code = "simulation.failed-inside"


class SimulatedDoors:
    """Sends what the world does, and some of it twice or late. What was sent to a broker that forgot is sent again."""

    def __init__(self, place: Place, random: Random, nemesis: Nemesis) -> None:
        self.locations = sorted(network().location_ids)
        self.hubs = hubs_of(network())
        self.poison: list[Sent] = []
        self._place = place
        self._random = random
        self._nemesis = nemesis
        self._sent: list[Sent] = []
        self._on_its_way = 0

    @property
    def idle(self) -> bool:
        """Nothing that was said has yet to arrive."""
        return not self._on_its_way

    async def go(self, door: str, items: Sequence[Any]) -> bool:
        """Take all `items` through one kind of door; whether they got through."""
        match door:
            case "stock" | "scan" | "channel" | "canonical":
                for message in items:
                    self._publish(message)
                return True
            case "shopify" | "x12-850" | "pos-csv":
                return await self._ask("capture", lambda at: self._order(at, items))
            case "work":
                return await self._ask("fulfillment", lambda at: self._floor(at, _FLOOR.validate_python(items)))
            case "capture":
                return await self._ask("capture", lambda at: self._look_after(at, items))
            case "inventory":
                return await self._ask("inventory", lambda at: self._reroute(at, items))
            case "letters":
                return all([await self._ask(letter.service, partial(self._letter, letter)) for letter in items])
            case _:
                return await self._ask("returns", lambda at: self._returns(at, items))

    def forgotten(self) -> None:
        """The broker is a new one."""
        for sent in self._sent:
            self._place.bus.append(sent.topic, sent.key, sent.value, sent.headers, sent.at_ms)

    def poison_somebody(self) -> None:
        """Put a record that nobody can read onto a topic that somebody reads."""
        topics = sorted({topic for i in self._place.instances.values() for topic in i.service.topics})
        if not topics:
            return
        number = len(self.poison)
        ours = (("ce_specversion", b"1.0"), ("ce_id", b"poison-%d" % number), ("ce_source", NOBODY.encode()))
        types = [c.message.type.encode() for i in self._place.instances.values() for c in i.service.consumes]
        known = ("ce_type", self._random.choice(sorted(types)))
        value, headers = self._random.choice((
            (b"{", (*ours, known)),
            (b"{}", (*ours, known)),
            (b"\xff\xfe", (*ours, known)),
            (b"{}", (*ours, ("ce_type", b"oms.nobody.knows.v1"))),
            (b"poison %d" % number, ()),
        ))  # fmt: skip
        topic = self._random.choice(topics)
        sent = Sent(
            topic, POISON + b"%d" % number, value, headers, self._now_ms(), () if headers else self._readers(topic)
        )
        plans = [r for records in self._place.bus.records(OrderRouted.topic) for r in records if _is(r, OrderRouted)]
        if plans and self._random.random() < 0.4:
            sent = self._stray(self._random.choice(plans), number, ours)
        self.poison.append(sent)
        self._append(sent)

    def _stray(self, plan: Record, number: int, ours: tuple[tuple[str, bytes], ...]) -> Sent:
        """A plan, sound in itself, for an order that nobody knows."""
        stray = OrderRouted.from_json(plan.value or b"").model_copy(
            update={"order_id": derived_id("stray", str(number))}
        )
        headers = (*ours, ("ce_type", OrderRouted.type.encode()))
        return Sent(
            OrderRouted.topic, POISON + b"%d" % number, stray.to_json(), headers, self._now_ms(), ("inventory",)
        )

    def _readers(self, topic: str) -> tuple[str, ...]:
        return tuple(service for service, topics in self._place.topics.items() if topic in topics)

    # Topics

    def _publish(self, message: Message) -> None:
        source, message_id, key = named(message)
        headers = tuple(outside_headers(message, source, message_id, MONDAY))
        sent = Sent(message.topic, key, message.to_json(), headers, self._now_ms())
        where = f"{message.type} {message_id}"
        if self._nemesis.strikes(Fault.REPEAT, where):
            again = sent
            if self._random.random() < 0.5:
                anew = tuple(outside_headers(message, source, f"{message_id}-again", MONDAY))
                again = Sent(sent.topic, key, sent.value, anew, sent.at_ms)
            self._later(self._nemesis.amount(0, 3), again)
        if self._nemesis.strikes(Fault.LATE, where):
            self._later(self._nemesis.amount(0.5, 8), sent)
        else:
            self._append(sent)

    def _later(self, seconds: float, sent: Sent) -> None:
        self._on_its_way += 1
        asyncio.get_running_loop().call_later(seconds, self._arrive, sent)

    def _arrive(self, sent: Sent) -> None:
        self._on_its_way -= 1
        self._append(sent)

    def _append(self, sent: Sent) -> None:
        self._sent.append(sent)
        self._place.bus.append(sent.topic, sent.key, sent.value, sent.headers, sent.at_ms)

    def _now_ms(self) -> int:
        return int(MONDAY.timestamp() * 1_000 + asyncio.get_running_loop().time() * SPEED * 1_000)

    # Requests

    async def _ask(self, service: str, work: Callable[[Instance], Awaitable[None]]) -> bool:
        """Have one instance do it; False if there is none, or it dies meanwhile."""
        ready = [instance for instance in self._place.of(service) if instance.running.consuming]
        if not ready:
            return False
        instance = self._random.choice(ready)

        async def request() -> bool:
            await instance.process.point("take a request")
            try:
                await work(instance)
            except OrdermillError:
                return False
            await instance.process.point("answer a request")
            return True

        task = instance.process.spawn(request())
        await asyncio.wait([task], timeout=30)
        return task.done() and not task.cancelled() and bool(task.result())

    async def _order(self, at: Instance, orders: Sequence[OrderPlaced]) -> None:
        intake = Intake(at.keyring)
        await intake.prepare(orders)
        await self._execute(at, [(order_decision(intake.command(o, at.engine.clock())), o.external_id) for o in orders])

    async def _floor(self, at: Instance, reports: Sequence[Any]) -> None:
        now = at.engine.clock()
        await self._execute(at, [(work_decision(floor_command(report, now)), report_key(report)) for report in reports])

    async def _look_after(self, at: Instance, items: Sequence[tuple[str, Any]]) -> None:
        for path, asked in items:
            _, _, order_id, what = path.split("/")
            command: HoldOrder | ReleaseHold | RetryRefund | CancelOrder | ForgetCustomer
            if what == "refunds":
                command = RetryRefund(order_id, asked)
            elif what == "cancel":
                call = CancelRequest.model_validate(asked)
                command = CancelOrder(order_id, call.cancellation_id, at.engine.clock(), call.lines, call.reason)
            elif what == "forget":
                command = ForgetCustomer(order_id)
            else:
                hold = HoldRequest.model_validate(asked)
                command = (HoldOrder if what == "hold" else ReleaseHold)(order_id, HoldReason(hold.reason), hold.note)
            await self._execute(at, [(order_decision(command), None)])

    async def _reroute(self, at: Instance, items: Sequence[tuple[str, Any]]) -> None:
        for order_id, body in items:
            asked = RerouteRequest.model_validate(body)
            command = RerouteUnits(order_id, asked.fulfillment_id, asked.reroute_id, asked.elsewhere)
            await self._execute(at, [(stock_decision(command), None)])

    async def _returns(self, at: Instance, items: Sequence[tuple[str, Any]]) -> None:
        now = at.engine.clock()
        for path, body in items:
            commands: list[Any]
            if path == "/returns":
                commands = [request_of(ReturnRequest.model_validate(body), now)]
            else:
                ours = frozenset(self.locations)
                commands = [desk_command(report, now, ours) for report in _DESK.validate_python(body)]
            await self._execute(at, [(at.desk.decision(command), None) for command in commands])

    async def _letter(self, letter: Letter, at: Instance) -> None:
        if letter.note is None:
            try:
                await at.running.redrive(letter.letter_id, ACTOR)
            except OrdermillError:
                raise
            except Exception as defect:
                raise FailedInside(letter.service) from defect  # what it logged is a finding of the run
        else:
            await self._execute(at, [(drop(letter.letter_id, letter.note), None)])

    async def _execute(self, at: Instance, requests: Sequence[tuple[Decision, str | None]]) -> None:
        """A refusal is an answer; that nobody knows is none."""
        outcomes = await at.running.execute_many([([decision], key) for decision, key in requests], ACTOR)
        for outcome in outcomes:
            if outcome.error is not None and not isinstance(outcome.error, Refused):
                raise outcome.error
