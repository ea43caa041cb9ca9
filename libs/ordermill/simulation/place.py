"""All six services of one installation in one loop, each instance a process that may die and is started again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, TypeVar

from pydantic import BaseModel

from ordermill.contracts.base import UnknownVersion, decode
from ordermill.decider import Decision
from ordermill.errors import OrdermillError
from ordermill.eventlog.checkpoints import Signer
from ordermill.eventlog.engine import Engine, Rules
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import NOTHING, Publication
from ordermill.keyring import Keyring, MemoryKeyStore
from ordermill.names import SERVICES
from ordermill.network import Network, default_network_text, read_network
from ordermill.service.checkpointing import keep_checkpoints
from ordermill.service.declare import Service
from ordermill.service.messages import envelope_of
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from ordermill.simulator.ledger import Ledger
from services.capture.app import core as capture
from services.capture.handlers import Intake
from services.fulfillment.app import core as fulfillment
from services.inventory.app import core as inventory
from services.inventory.handlers import Feeds
from services.returns.app import core as returns
from services.returns.handlers import Desk
from services.returns.policy import BUILT_IN, read_policy
from services.routing.app import core as routing
from services.routing.policy import default_policy_text
from services.tracking.app import core as tracking
from services.tracking.handlers import Deadlines
from services.tracking.settings import TrackingSettings

from .bus import Bus, BusPublisher, Consumer, NotTaken, NotYours
from .log import FaultyStore
from .nemesis import Fault, Nemesis
from .process import Process
from .providers import FaultyCarrier, FaultyPayments, MemoryPayments, memory_carriers

T = TypeVar("T")

POLL_S = 1.0
"""How often loops look that nobody wakes. Slower than in production: looking is what a simulation spends time on."""
CHECKPOINT_EVERY_S = 30.0
SESSION_S = 4.0
"""How long a group waits for a silent member."""
BACKORDER_CAP = 5
"""So few that some orders are refused for it."""

_SIGNER = Signer(bytes(32))
_THRIFTY = re.sub(r"(?m)^(shipment|standard) = .*$", r"\1 = 2000", default_policy_text())
"""Days and shipments are dear to it."""
_STRICT = read_policy(BUILT_IN).model_copy(
    update={"window_days": 3, "authorization_days": 1, "restocking_fee_percent": 15, "refund_shipping": False}
)


def _of_old(service: Service, number: int) -> Service:
    """An older release of it, which knows the consumed message of that number in an older version only."""
    known = service.consumes[number]

    def handle(message: Any, received: Any) -> Iterable[Decision]:
        raise UnknownVersion(known.message.type, known.message.class_version - 1)

    consumes = (*service.consumes[:number], replace(known, handle=handle), *service.consumes[number + 1 :])
    return replace(service, consumes=consumes)


@cache
def network() -> Network:
    return read_network(default_network_text())


@dataclass
class Instance:
    """A service's process at work."""

    process: Process
    service: Service
    engine: Engine
    running: RunningService
    relay: Relay
    keyring: Keyring
    desk: Desk
    """Returns' policy as this process has it."""
    outdated: bool = False
    member: Consumer | None = None


class Place:
    """The logs, the broker, the providers, and whoever is alive."""

    def __init__(self, random: Random, nemesis: Nemesis, partitions: int = 2) -> None:
        self.nemesis = nemesis
        self.bus = Bus(partitions)
        self.logs = {service: MemoryStore() for service in SERVICES}
        self.ledger = Ledger()
        self.instances: dict[str, Instance] = {}
        """By process name, those that are alive."""
        self.deaths = 0
        """Of processes: killed, or ended by a start that failed."""
        self.rules: dict[str, Rules] = {}
        self.topics: dict[str, list[str]] = {}
        """By service: what it reads."""
        self._metrics = {service: Metrics(service) for service in SERVICES}
        """Shared by all processes of a service: they take long to make, and nobody looks at them."""
        self._random = random
        self._keys = MemoryKeyStore()
        self._master = random.randbytes(32)
        self._carriers = memory_carriers(network(), self.ledger)
        self._payments = MemoryPayments(self.ledger)

    def start(self) -> None:
        for service in SERVICES:
            instances = 1
            if self.nemesis.strikes(Fault.SCALE, service):
                instances = 2 + self.nemesis.one_of(2)
            for number in range(1, instances + 1):
                self._launch(service, f"{service}-{number}")

    def of(self, service: str) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.service.name == service]

    def quiet(self) -> bool:
        """Nothing waits anywhere: no message, no effect, no event to publish, and nobody who has yet to hear of a new
        broker.
        """
        if self.bus.lag() or any(log._effects for log in self.logs.values()):
            return False
        return not any(
            instance.process.stands_still
            or instance.outdated
            or instance.relay.unsure
            or (instance.relay.status.leading and instance.relay.status.published < self._head(instance))
            for instance in self.instances.values()
        )

    def _head(self, instance: Instance) -> int:
        return len(self.logs[instance.service.name]._committed)

    def _launch(self, service: str, name: str) -> None:
        process = Process(name, self.nemesis, lambda dead: self._bury(service, dead), self._froze)
        instance = self._made(service, process)
        self.instances[name] = instance
        if instance.outdated:
            asyncio.get_running_loop().call_later(self.nemesis.amount(5, 40), process.kill)
        process.spawn(self._live(instance))

    def _bury(self, service: str, dead: Process) -> None:
        """The group notices by and by; whoever looks after processes starts another."""
        instance = self.instances.pop(dead.name)
        self.deaths += 1
        loop = asyncio.get_running_loop()
        if instance.member is not None:
            loop.call_later(self._random.uniform(0, 6), self.bus.leave, instance.member)
        loop.call_later(self._random.uniform(0.2, 3), self._launch, service, dead.name)

    def _froze(self, process: Process, seconds: float) -> None:
        """A group waits for its members for a while only; a zombie has the rest of its batch to do."""
        member = self.instances[process.name].member
        if member is not None and seconds > SESSION_S:
            asyncio.get_running_loop().call_later(SESSION_S, self.bus.leave, member)

    def _made(self, name: str, process: Process) -> Instance:
        nemesis, random = self.nemesis, Random(self._random.getrandbits(64))
        keyring = Keyring(self._keys, self._master, random.randbytes, asyncio.get_running_loop().time)
        payments = FaultyPayments(self._payments, process, nemesis)
        desk = Desk(read_policy(BUILT_IN))
        carriers = {c.name: FaultyCarrier(c, process, nemesis) for c in self._carriers.values()}
        match name:
            case "capture":
                service = capture(Intake(keyring), payments)
            case "inventory":
                service = inventory(Feeds(network(), BACKORDER_CAP))
            case "routing":
                policy = _THRIFTY if nemesis.strikes(Fault.POLICY, process.name) else default_policy_text()
                service = routing(policy, default_network_text(), process.clock)
            case "fulfillment":
                service = fulfillment(carriers, network(), keyring)
            case "tracking":
                late, lost = _default(TrackingSettings, "late_after"), _default(TrackingSettings, "lost_after")
                service = tracking(Deadlines(late, lost))
            case _:
                if nemesis.strikes(Fault.POLICY, process.name):
                    desk = Desk(_STRICT)
                service = returns(desk, payments)
        if outdated := nemesis.strikes(Fault.OUTDATED, process.name):
            service = _of_old(service, nemesis.one_of(len(service.consumes)))
        store = FaultyStore(self.logs[name], process, nemesis)
        self.rules[name], self.topics[name] = service.rules(), service.topics
        engine = Engine(store, self.rules[name], process.clock, random.randbytes)
        running = RunningService(service, engine, self._metrics[name], wall=process.wall, chance=random)
        publisher = FaultyPublisher(self.bus, process, nemesis)
        relay = Relay(store, publisher, name, poll_s=POLL_S, pace_s=0.05)
        engine.on_commit.append(relay.wake)
        return Instance(process, service, engine, running, relay, keyring, desk, outdated)

    async def _live(self, instance: Instance) -> None:
        """What `ordermill.service.run` does with a service, on the bus; an error at the start ends the process."""
        process, service, running = instance.process, instance.service, instance.running
        try:
            process.spawn(instance.relay.run())
            if service.follows:
                process.spawn(self._follow(instance))
            if service.startup is not None:
                await service.startup(running)
        except OrdermillError:
            process.kill()
            return
        running.consuming = True
        process.spawn(self._consume(instance))
        if service.timers:
            process.spawn(running.timers_loop(POLL_S))
        if service.effects:
            process.spawn(running.effects_loop(POLL_S))
        process.spawn(keep_checkpoints(running, _SIGNER, CHECKPOINT_EVERY_S))

    async def _follow(self, instance: Instance) -> None:
        absorb = {followed.message: followed.absorb for followed in instance.service.follows}
        follower = self.bus.follow(sorted({message.topic for message in absorb}))
        while True:
            records = await follower.poll()
            await instance.process.point("follow")
            for record in records:
                message = decode(envelope_of(record.headers).type, record.value or b"")
                absorb[type(message)](message)

    async def _consume(self, instance: Instance) -> None:
        process, nemesis, name = instance.process, self.nemesis, instance.service.name
        while True:
            await process.point("poll")
            member = instance.member
            if member is None or not member.belongs:
                member = instance.member = self.bus.join(f"oms.{name}", instance.service.topics)
            records = await member.poll(1 + nemesis.one_of(40))
            if not records:
                continue
            await process.point("handle a batch")
            await instance.running.handle(records)
            await process.point("commit offsets")
            if nemesis.strikes(Fault.REBALANCE, name):
                self.bus.rebalance(f"oms.{name}")
            if nemesis.strikes(Fault.OFFSETS_REFUSED, process.name):
                self.bus.rebalance(f"oms.{name}")
                continue
            with suppress(NotYours):  # another has them and will see them again; its inbox knows them
                member.commit(records)


def _default(settings: type[BaseModel], name: str) -> Any:
    return settings.model_fields[name].default


class FaultyPublisher(BusPublisher):
    """A relay's way to the broker."""

    def __init__(self, bus: Bus, process: Process, nemesis: Nemesis) -> None:
        super().__init__(bus, process.clock)
        self._process = process
        self._nemesis = nemesis
        self._refusing = False

    async def cluster(self) -> str:
        await self._process.point("ask for the cluster")
        return await super().cluster()

    async def is_empty(self, topic: str) -> bool:
        await self._process.point("look into a topic")
        return await super().is_empty(topic)

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        rows = await self._taken(rows)
        await super().send_events(service, rows, known)
        await self._answered()

    async def send_states(self, service: str, states: Sequence[Publication]) -> None:
        states = await self._taken(states)
        await super().send_states(service, states)
        await self._answered()

    async def _taken(self, batch: Sequence[T]) -> Sequence[T]:
        """What of a batch the broker takes: all of it, or so many before it refuses."""
        await self._process.point("send")
        if not self._nemesis.strikes(Fault.SEND_FAILED, self._process.name):
            return batch
        self._refusing = True
        return batch[: self._nemesis.one_of(len(batch))]

    async def _answered(self) -> None:
        await self._process.point("send, done")
        refusing, self._refusing = self._refusing, False
        if refusing or self._nemesis.strikes(Fault.SEND_UNANSWERED, self._process.name):
            raise NotTaken("no answer to a batch")
