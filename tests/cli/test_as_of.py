"""What was true at a moment, and what was known of it: both from the events, and only if these are as recorded."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ordermill.cli.as_of import OutOfTurn, moment_of
from ordermill.cli.prove import streams_of_order
from ordermill.contracts.capture import OrderLinesCanceled
from ordermill.contracts.tracking import Milestone
from ordermill.eventlog.records import NotAsRecorded, Row
from services.tracking.domain import RecordScan, parcel_decision

from .life import MONDAY, Life, live


@pytest.fixture(scope="module")
async def life() -> Life:
    made = Life()
    await live(made)
    return made


async def stream_of(life: Life, service: str, category: str) -> tuple[str, list[Row]]:
    """The longest of them."""
    store = life.services[service].engine.store
    names = {each.row.stream for each in await store.read(0, 10_000) if each.row.stream.startswith(f"{category}-")}
    streams = {name: await store.read_stream(name) for name in names}
    return max(streams.items(), key=lambda each: len(each[1]))


@pytest.mark.parametrize(
    ("service", "category"),
    [
        ("capture", "order"),
        ("inventory", "stock"),
        ("routing", "plan"),
        ("tracking", "shipment"),
        ("tracking", "status"),
        ("returns", "parcel"),
    ],
)
async def test_now_it_is_as_the_view_has_it_and_before_it_was_as_after_fewer_events(
    life: Life, service: str, category: str
) -> None:
    running = life.services[service]
    name, rows = await stream_of(life, service, category)
    rules = running.service.rules()
    now = moment_of(service, rules, name, rows, life.now)
    assert (now.events, now.of, now.last) == (len(rows), len(rows), rows[-1])
    views = [view for view in rules.views if view.category == category]
    if views:
        assert now.state == await running.engine.store.document(views[0].name, name.partition("-")[2])
    first = moment_of(service, rules, name, rows, rows[0].happened_at)
    assert 1 <= first.events <= len(rows)
    assert moment_of(service, rules, name, rows, MONDAY - timedelta(days=1)).last is None


async def test_an_order_is_shown_in_every_service_that_knows_it(life: Life) -> None:
    stores = {name: each.engine.store for name, each in life.services.items()}
    orders = [stream async for stream, _ in stores["capture"].all_streams("order")]
    streams = await streams_of_order(stores, orders[0].removeprefix("order-"))
    begun = {service for service, names in streams.items() for name in names if await stores[service].read_stream(name)}
    assert begun == {"capture", "inventory", "routing", "fulfillment", "tracking", "returns"}


async def test_what_happened_before_and_was_told_later_was_so_and_was_not_known() -> None:
    life = Life()
    await life.start()
    seen = life.now - timedelta(hours=5)
    scan = RecordScan("cedar-1", "s-1", Milestone.IN_TRANSIT, "x", seen)
    await life.do("tracking", parcel_decision(scan))
    store = life.services["tracking"].engine.store
    rows = await store.read_stream("shipment-cedar-1")
    told_late = [row._replace(happened_at=seen) for row in rows]
    rules = life.services["tracking"].service.rules()

    def state(at: datetime, known: bool) -> int:
        return moment_of("tracking", rules, "shipment-cedar-1", rehashed(told_late), at, known).events

    assert state(seen + timedelta(hours=1), known=False) == 1
    assert state(seen + timedelta(hours=1), known=True) == 0
    assert state(life.now, known=True) == 1


async def test_what_is_known_was_known_although_the_clock_was_set_back_since(life: Life) -> None:
    """An event was decided upon all that are before it in its stream, whenever the clock says they were recorded."""
    name, rows = await stream_of(life, "tracking", "shipment")
    set_back = [*rows[:-1], rows[-1]._replace(recorded_at=rows[0].recorded_at)]
    rules = life.services["tracking"].service.rules()
    known = moment_of("tracking", rules, name, rehashed(set_back), rows[0].recorded_at, known=True)
    assert (known.events, known.state) == (len(rows), moment_of("tracking", rules, name, rows, life.now).state)


async def test_an_order_that_was_canceled_before_it_was_placed_by_its_channels_clock_has_no_state_between(
    life: Life,
) -> None:
    running = life.services["capture"]
    rules = running.service.rules()
    canceled = {
        each.row.stream
        for each in await running.engine.store.read(0, 10_000)
        if each.row.type == OrderLinesCanceled.type
    }
    assert canceled
    for name in sorted(canceled):
        rows = await running.engine.store.read_stream(name)
        ahead = rehashed([rows[0]._replace(happened_at=life.now), *rows[1:]])
        with pytest.raises(OutOfTurn, match=r"version 1 .* --known"):
            moment_of("capture", rules, name, ahead, rows[-1].happened_at)
        assert moment_of("capture", rules, name, ahead, life.now).events == len(rows)
        assert moment_of("capture", rules, name, ahead, rows[-1].happened_at, known=True).events == len(rows)


def rehashed(rows: list[Row]) -> list[Row]:
    from ordermill.eventlog.records import GENESIS, chained

    made, previous = [], GENESIS
    for row in rows:
        made.append(row._replace(hash=chained(previous, row)))
        previous = made[-1].hash
    return made


async def test_a_stream_that_is_not_as_recorded_shows_nothing(life: Life) -> None:
    name, rows = await stream_of(life, "capture", "order")
    spoiled = [rows[0]._replace(actor="user:somebody-else"), *rows[1:]]
    rules = life.services["capture"].service.rules()
    for at in (life.now, rows[0].happened_at):
        with pytest.raises(NotAsRecorded, match="version 1 is not as it was recorded"):
            moment_of("capture", rules, name, spoiled, at)
