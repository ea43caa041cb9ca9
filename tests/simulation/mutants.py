"""Ways to break the product, each as an edit of one function's text: what a tired programmer might have written."""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import dedent
from types import FunctionType
from typing import Any

from ordermill.eventlog import checkpoints
from ordermill.eventlog.engine import Engine, _Batch
from ordermill.eventlog.memory import MemoryStore, _MemoryTransaction
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import Changes
from ordermill.service.effects import EffectWorker
from ordermill.service.running import RunningService
from ordermill.simulation import Fault
from ordermill.simulation.bus import BusPublisher, Consumer
from ordermill.simulation.log import FaultyStore
from services.capture.domain import decisions as capture
from services.fulfillment.domain import decisions as fulfillment
from services.inventory.domain import decisions as inventory
from services.inventory.domain.balance import Outcome
from services.returns.domain import decisions as returns
from services.returns.domain import life, purchase
from services.routing.planner import OrderToPlan
from services.tracking import domain as tracking


@dataclass(frozen=True)
class Mutant:
    """`function` with `old` replaced by `new`."""

    name: str
    function: Callable[..., Any]
    old: str
    new: str
    faults: tuple[Fault, ...] = tuple(Fault)
    """Under which it shows."""

    @contextmanager
    def at_large(self) -> Iterator[None]:
        """The product is broken in this way meanwhile."""
        function = inspect.unwrap(self.function)
        assert isinstance(function, FunctionType)
        text = dedent(inspect.getsource(function))
        assert text.count(self.old) == 1, f"{self.name}: {text.count(self.old)} places to break, one expected"
        broken = _without_decorators(text.replace(self.old, self.new))
        code = compile(broken, f"<{self.name}>", "exec", __future__.annotations.compiler_flag)
        scope: dict[str, Any] = {}
        function.__globals__["_publish_at_once"] = _publish_at_once
        exec(code, function.__globals__, scope)
        sound = function.__code__
        function.__code__ = scope[function.__name__].__code__
        try:
            yield
        finally:
            function.__code__ = sound
            del function.__globals__["_publish_at_once"]


def _without_decorators(text: str) -> str:
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith(("def ", "async def ")))
    return "".join(lines[first:])


async def _publish_at_once(engine: Engine, changes: Changes) -> None:
    (relay,) = (notify.__self__ for notify in engine.on_commit if isinstance(notify.__self__, Relay))
    await relay._publisher.send_events(relay._service, [SequencedRow(0, row) for row in changes.rows])


MUTANTS = (
    # The chassis
    Mutant("the inbox is not asked", _MemoryTransaction.look_up, "store._inbox.intersection(messages)", "set()"),
    Mutant("the inbox is not asked nor kept", _Batch._stage, "changes.inbox.append(cause.message)", "pass"),
    Mutant("offsets are committed first", Consumer.poll, "return found", "self.commit(found); return found"),
    Mutant("a message is given up at the first trouble", RunningService._settled, "item.attempts += 1", "return True"),
    Mutant("a message that failed is passed by", RunningService._settled, "item.error = outcome.error", "return True"),
    Mutant("what was only read is trusted", Engine._decide, "if only_read and", "if False and"),
    Mutant("a refused commit counts as done", Engine.run, "return [Outcome(error=stopped)]", "return [Outcome()]"),
    Mutant("versions are not checked", MemoryStore._apply, "if row.version != head + 1:", "if False:"),
    Mutant(
        "a timer is gone once it is claimed",
        MemoryStore.due_timers,
        "self._timers[timer.stream, timer.name] = (timer, lease_until)",
        "del self._timers[timer.stream, timer.name]",
    ),
    Mutant(
        "an effect is gone once it is claimed",
        MemoryStore.due_effects,
        "self._effects[effect.effect_id] = (effect, lease_until)",
        "del self._effects[effect.effect_id]",
    ),
    Mutant(
        "each try of an effect has a key of its own",
        EffectWorker._ask,
        "declared.perform(event, effect.effect_id,",
        'declared.perform(event, f"{effect.effect_id}-{effect.attempts}",',
    ),
    Mutant(
        "an unanswered effect is given up at once",
        EffectWorker._ask,
        "effect.attempts + 1 >= declared.attempts",
        "True",
    ),
    Mutant(
        "the cursor moves before the broker answers",
        Relay.step,
        "await self._publisher.send_events(self._service, rows, self._known)",
        "self.status.published = rows[-1].seq; await self._note(); "
        "await self._publisher.send_events(self._service, rows, self._known)",
    ),
    Mutant(
        "events are published before they are committed",
        Engine._run_once,
        "await transaction.commit(changes)",
        "await _publish_at_once(self, changes); await transaction.commit(changes)",
    ),
    Mutant("a new broker is not noticed", BusPublisher.cluster, "return self._cluster", "return 'the only one'"),
    Mutant(
        "what was under way goes to a new broker too",
        BusPublisher._send,
        "if self._cluster not in (None, self._bus.cluster):",
        "if False:",
    ),
    Mutant("an emptied broker gets no states", Relay._lead, "await self._store.republish_topics(new)", "pass"),
    Mutant(
        "two relays work on one shard",
        FaultyStore.leadership,
        "await held.__aenter__()\n    released = False",
        "released = True",
        (Fault.SCALE, Fault.SLOW),
    ),
    Mutant("a relay never asks whether it leads", Relay._lead, "await still_leads()", "pass"),
    # The trade
    Mutant("one more is sold than there is", inventory._reserve, "available >= wanted", "available + 1 >= wanted"),
    Mutant("a claim forgets what it took", inventory._reserve, "left[sku] = available - wanted", "pass"),
    Mutant(
        "more wait than may",
        inventory._reserve,
        "backordered + wanted > command.backorder_cap",
        "backordered >= command.backorder_cap",
    ),
    Mutant("a line forgets who waits", inventory._reserve, "waits[sku] = backordered + wanted", "pass"),
    Mutant(
        "a split is forgotten",
        OrderToPlan.plan_of,
        "return Plan(tuple(shipments),",
        "return Plan(tuple(shipments[:1]),",
    ),
    Mutant("an older change wins", capture._change, "stale = command.revision <= order.revision", "stale = False"),
    Mutant(
        "less is bought, and nothing goes back",
        capture._revise,
        'back = _refunds(after, ("revision", str(command.revision)), after.held_minor - after.owed_minor)',
        "back = ()",
    ),
    Mutant(
        "all refunds of an order have one id",
        capture._refunds,
        'derived_id("refund", order.order_id, *cause,',
        'derived_id("refund", order.order_id,',
    ),
    Mutant(
        "what came before its order is forgotten",
        capture._capture,
        "for change in _in_order(order.parked):",
        "for change in ():",
    ),
    Mutant("whose units are gone is not told", Outcome.tell, "if lines:", "if False:"),
    Mutant(
        "a label that was refused is asked for under its old key",
        fulfillment._retry_label,
        "label_id = package.label_id if again else fresh",
        "label_id = package.label_id",
    ),
    Mutant("units of a closed return stay in it", returns._settle, "if kept:", "if False:"),
    Mutant(
        "what was not in the box is paid for",
        life._with_inspection,
        "if line.disposition is Disposition.MISSING:",
        "if False:",
    ),
    Mutant(
        "what was lost and has arrived is credited as lost", returns.waive_goods, "if current.undelivered:", "if False:"
    ),
    Mutant(
        "an instance closes what another has closed",
        checkpoints.decide,
        "if command.first != state.last + 1:",
        "if False:",
    ),
    Mutant("a parcel that turns up stays lost", purchase.evolve_purchase, "if found else has", "if False else has"),
    Mutant(
        "a letter that is handled after all is only ticked off",
        RunningService.redrive,
        "(*decisions, deadletters.redrive(letter_id))",
        "(deadletters.redrive(letter_id),)",
    ),
    Mutant(
        "a return is refunded twice",
        returns._settle,
        "*((stream, refund) for refund in refunds)]",
        '*((stream, each) for one in refunds for each in (one, one.model_copy(update={"refund_id": "again"})))]',
    ),
    Mutant(
        "a scan counts each time it is told",
        tracking.decide,
        "[] if command.scan_id in shipment.scans else _scan",
        "_scan",
    ),
    Mutant(
        "a delivery before its announcement is dropped",
        tracking._scan,
        "if command.milestone is not Milestone.DELIVERED or",
        "if not shipment.order_id or command.milestone is not Milestone.DELIVERED or",
    ),
)
"""Each is caught by the simulation: see `test_mutants.py`."""
