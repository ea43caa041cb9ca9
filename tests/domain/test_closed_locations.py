"""What becomes of orders where the network says that a location does not ship, through all services."""

from __future__ import annotations

from ordermill.contracts.location import StockArrived, StockCorrected, StockCounted
from ordermill.contracts.routing import OrderDeferred, OrderUnroutable
from ordermill.network import default_network_text, read_network
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from services.inventory.app import core as inventory
from services.inventory.domain import decision
from services.inventory.handlers import Feeds
from services.routing.app import core as routing
from services.routing.policy import default_policy_text
from tests.cli.life import MONDAY, Life
from tests.domain.test_given_up_units import facts, wait

OPEN = default_network_text()
CLOSED = OPEN.replace('id = "edison"', 'id = "edison"\nenabled = false')


async def started_over(life: Life, network: str) -> None:
    """Inventory and routing start again, over this network."""
    for name, service in (
        ("inventory", inventory(Feeds(read_network(network), 100))),
        ("routing", routing(default_policy_text(), network, life.clock)),
    ):
        engine = life.services[name].engine
        life.services[name] = running = RunningService(service, engine, Metrics(), retries=0, wall=life.clock)
        await engine.store.republish_topics(["oms.inventory.availability"])
        assert service.startup is not None
        await service.startup(running)
    await life.settle()


async def statuses(life: Life) -> dict[str, str]:
    return {key: plan["status"] for key, plan in await life.services["routing"].engine.store.documents("plans")}


async def test_nothing_is_promised_of_units_that_no_location_may_ship() -> None:
    life = Life()
    await life.start()
    await life.receive("MUG", "edison", 3)
    await started_over(life, CLOSED)
    refused = await life.order("one", {"1": ("MUG", 1, 1_200)})
    waits = await life.order("two", {"1": ("MUG", 2, 1_200)}, allow_backorder=True)
    await wait(life)
    assert await facts(life, OrderDeferred) == await facts(life, OrderUnroutable) == []
    claims = dict(await life.services["inventory"].engine.store.documents("reservations"))
    assert claims[refused]["shortages"][0]["available"] == 0
    assert claims[waits]["lines"][0]["backordered"] == 2

    await started_over(life, OPEN)
    assert await statuses(life) == {waits: "routed"}


async def test_goods_that_were_never_at_a_location_before_are_not_for_sale_either_if_it_does_not_ship() -> None:
    life = Life()
    await life.start()
    feeds = Feeds(read_network(CLOSED), 100)
    at = {"location": "edison", "reference": "r", "happened_at": MONDAY}
    await life.do(
        "inventory",
        decision(feeds.receive(StockArrived(sku="MUG", quantity=2, **at), life.now)),
        decision(feeds.correct(StockCorrected(sku="CUP", delta=2, reason="found", **at), life.now)),
        decision(feeds.count(StockCounted(sku="POT", counted=2, **at), life.now)),
    )
    stocks = dict(await life.services["inventory"].engine.store.documents("stock"))
    assert {sku: (stock["on_hand"], stock["available"]) for sku, stock in stocks.items()} == {
        "CUP": (2, 0), "MUG": (2, 0), "POT": (2, 0),
    }  # fmt: skip
