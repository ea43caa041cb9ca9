"""Rules of what never arrives: a parcel that is lost or back at its sender is made up for, once, and never twice."""

from __future__ import annotations

import pytest

from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.returns import (
    Disposition,
    GoodsWaived,
    ParcelExpected,
    ParcelUndelivered,
    PurchaseUndelivered,
    RefundRequested,
    ReturnAuthorized,
    ReturnReason,
    UnitsClaimed,
    UnitsGivenBack,
    UnitsTakenBack,
)
from ordermill.contracts.tracking import ShipmentCameBack, ShipmentLost
from services.returns.domain import CloseReceipt, ExpireReturn, RequestReturn, Stage, WaiveGoods, command_of
from services.returns.domain.life import return_summary
from services.returns.domain.purchase import (
    ExpectParcel,
    RecordDelivery,
    RecordUndelivered,
    purchase_summary,
)
from services.returns.errors import ArrivedAfterAll, NotInspected, ReturnNotFound, ReturnNotOpen
from tests.domain.test_returns import (
    ALL,
    BOUGHT,
    DAY,
    IDS,
    MONDAY,
    POLICY,
    Log,
    ask,
    declined,
    delivered_order,
    graded,
    inspect,
    receive,
    units,
    usd,
)

OURS = POLICY.model_copy(update={"our_fault": frozenset({ReturnReason.NOT_DELIVERED})})
WAIVE = WaiveGoods("r-1", MONDAY + 3 * DAY)


def make_up(
    return_id: str = "r-1", teapots: int = 1, lines: tuple[LineQuantity, ...] = (), by: str = "agent"
) -> RequestReturn:
    return ask(return_id, reason=ReturnReason.NOT_DELIVERED, by=by, lines=lines or (units("1", "TEAPOT", teapots),))


def astray_order(why: str = "lost", lines: tuple[LineQuantity, ...] = ALL) -> Log:
    log = Log(OURS)
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", lines), RecordUndelivered("p-1", why))  # type: ignore[arg-type]
    return log


def refunds(log: Log) -> list[RefundRequested]:
    return log.of(RefundRequested)


@pytest.mark.parametrize("announced_first", [True, False])
def test_a_purchase_hears_of_units_that_never_arrived_whichever_half_comes_first(announced_first: bool) -> None:
    log = Log()
    expect, astray = ExpectParcel("p-1", "o-1", ALL), RecordUndelivered("p-1", "came-back")
    expected = ("parcel-p-1", ParcelExpected(shipment_id="p-1", order_id="o-1", lines=ALL))
    back = ("parcel-p-1", ParcelUndelivered(shipment_id="p-1", why="came-back"))
    told = PurchaseUndelivered(order_id="o-1", shipment_id="p-1", why="came-back", lines=ALL)
    first, second = (expect, astray) if announced_first else (astray, expect)
    assert log.do(first) == [expected if announced_first else back]
    assert log.do(second) == [back if announced_first else expected, ("purchase-o-1", told)]
    assert log.do(expect) == log.do(astray) == log.do(RecordUndelivered("p-1", "lost")) == []


def test_what_tracking_tells_of_a_parcel_becomes_a_command() -> None:
    lost = ShipmentLost(shipment_id="p-1", due_at=MONDAY)
    back = ShipmentCameBack(shipment_id="p-1", came_back_at=MONDAY)
    assert command_of(lost, "m") == RecordUndelivered("p-1", "lost")
    assert command_of(back, "m") == RecordUndelivered("p-1", "came-back")


def test_units_of_a_lost_parcel_are_credited_without_coming_back_and_with_the_shipping() -> None:
    log = astray_order()
    request = make_up(lines=ALL)
    _, claimed, authorized = log.do(request)
    assert claimed == ("purchase-o-1", UnitsClaimed(**IDS, lines=ALL, undelivered=True))
    assert isinstance(authorized[1], ReturnAuthorized), "a final sale that never arrived, too"
    assert log.do(WAIVE) == [
        ("return-r-1", GoodsWaived(**IDS, lines=ALL, undelivered=True)),
        ("purchase-o-1", UnitsTakenBack(**IDS, lines=ALL, our_fault=True, undelivered=True, given=usd(4140))),
        ("return-r-1", refunds(log)[0]),
    ]
    refund = refunds(log)[0]
    assert (refund.goods, refund.tax, refund.shipping) == (usd(3500), usd(100), usd(540))
    assert refund.amount == usd(4140), "all that was charged"
    assert log.do(WAIVE) == []
    assert [line["waived"] for line in return_summary(log.back())["lines"]] == [3, 1]


def test_a_parcel_that_came_back_is_received_and_inspected_as_any_other() -> None:
    log = astray_order("came-back")
    log.do(make_up(teapots=2), receive(teapots=2), inspect(graded(2)))
    assert [refund.amount for refund in refunds(log)] == [usd(2066)]
    assert log.back().stage is Stage.REFUNDING


def test_only_what_is_known_to_be_lost_or_back_is_made_up_for() -> None:
    log = Log(OURS)
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", ALL))
    assert declined(log, make_up(teapots=2)) == ("TEAPOT: 2 asked for, 0 in parcels that are lost or came back.",)
    log.do(RecordUndelivered("p-1", "lost"))
    assert declined(log, make_up("r-2", teapots=4)) == (
        "TEAPOT: 4 asked for, 3 in parcels that are lost or came back.",
    )


def test_what_never_arrived_can_not_come_back_for_another_reason() -> None:
    log = astray_order()
    assert declined(log, ask()) == ("TEAPOT: 1 asked for, 0 delivered so far.",)


def test_delivered_and_undelivered_units_of_a_line_are_kept_apart() -> None:
    log = Log(OURS)
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", (units("1", "TEAPOT", 2),)), RecordDelivery("p-1", MONDAY))
    log.do(ExpectParcel("p-2", "o-1", (units("1", "TEAPOT", 1),)), RecordUndelivered("p-2", "lost"))
    assert declined(log, make_up("r-0", teapots=2)) == (
        "TEAPOT: 2 asked for, 1 in parcels that are lost or came back.",
    )
    log.do(make_up())
    assert declined(log, make_up("r-2")) == ("TEAPOT: 1 asked for, 0 in parcels that are lost or came back.",)
    assert declined(log, ask("r-3", teapots=3)) == ("TEAPOT: 3 asked for, 2 delivered so far.",)
    log.do(ask("r-4", teapots=2))
    teapots = purchase_summary(log.purchase)["lines"][0]
    assert (teapots["delivered"], teapots["undelivered"], teapots["in_returns"]) == (2, 1, 3)
    assert (teapots["returnable"], teapots["creditable"]) == (0, 0)


def test_a_lost_parcel_that_arrives_after_all_is_not_credited_as_lost() -> None:
    log = astray_order()
    log.do(make_up(teapots=2), RecordDelivery("p-1", MONDAY + 2 * DAY))
    with pytest.raises(ArrivedAfterAll, match="r-1: TEAPOT was delivered meanwhile"):
        log.do(WAIVE)
    log.do(CloseReceipt("r-1", MONDAY + 3 * DAY))
    assert refunds(log) == []
    log.do(ask("r-2", teapots=3))
    assert log.back("r-2").stage is Stage.AUTHORIZED, "the customer has them, and may send them back"


def test_of_two_lost_parcels_the_one_that_arrived_is_not_credited() -> None:
    log = Log(OURS)
    one = (units("1", "TEAPOT", 1),)
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", one), RecordUndelivered("p-1", "lost"))
    log.do(ExpectParcel("p-2", "o-1", one), RecordUndelivered("p-2", "lost"))
    log.do(make_up("r-1"), make_up("r-2"), RecordDelivery("p-2", MONDAY + 2 * DAY), WAIVE)
    with pytest.raises(ArrivedAfterAll):
        log.do(WaiveGoods("r-2", MONDAY + 3 * DAY))
    assert len(refunds(log)) == 1


def test_what_was_credited_as_lost_and_arrives_after_all_is_credited_no_second_time() -> None:
    log = astray_order(lines=(units("1", "TEAPOT", 3),))
    log.do(make_up(teapots=3), WAIVE, RecordDelivery("p-1", MONDAY + 5 * DAY))
    assert declined(log, ask("r-2", at=MONDAY + 6 * DAY))[0] == (
        "TEAPOT: 1 asked for, but 3 of 3 delivered are in a return."
    )


def test_a_parcel_that_was_delivered_is_not_undelivered_by_a_later_word() -> None:
    log = delivered_order(OURS)
    assert log.do(RecordUndelivered("p-1", "came-back")) == []
    assert declined(log, make_up()) == ("TEAPOT: 1 asked for, 0 in parcels that are lost or came back.",)


def test_undelivered_units_whose_return_expired_may_be_made_up_for_again() -> None:
    log = astray_order()
    log.do(make_up(teapots=3))
    given_back = log.do(ExpireReturn("r-1", MONDAY + 40 * DAY))[1]
    assert given_back == (
        "purchase-o-1",
        UnitsGivenBack(**IDS, lines=(units("1", "TEAPOT", 3),), undelivered=True),
    )
    log.do(make_up("r-2", teapots=3), WaiveGoods("r-2", MONDAY + 41 * DAY))
    assert len(refunds(log)) == 1


def test_undelivered_units_whose_return_was_closed_or_came_back_without_them_may_be_made_up_for_again() -> None:
    log = astray_order("came-back")
    log.do(make_up(teapots=3), CloseReceipt("r-1", MONDAY + DAY))
    log.do(
        make_up("r-2", teapots=3), receive("r-2", teapots=3), inspect(graded(3, Disposition.MISSING), return_id="r-2")
    )
    assert refunds(log) == [], "the box came back empty"
    log.do(make_up("r-3", teapots=3), WaiveGoods("r-3", MONDAY + 9 * DAY))
    assert [refund.amount for refund in refunds(log)] == [usd(3100)]


def test_goods_not_worth_their_way_back_stay_with_the_customer_and_are_credited() -> None:
    log = delivered_order()
    log.do(ask(teapots=3, reason=ReturnReason.DAMAGED), receive(teapots=1))
    with pytest.raises(NotInspected, match="1 received units are not inspected"):
        log.do(WAIVE)
    log.do(inspect(graded(1)))
    waived, taken, refund = log.do(WAIVE)
    assert waived == ("return-r-1", GoodsWaived(**IDS, lines=(units("1", "TEAPOT", 2),), undelivered=False))
    assert taken[1].lines == (units("1", "TEAPOT", 3),)
    assert refund[1].amount == usd(3100)


def test_only_open_returns_can_be_waived() -> None:
    log = delivered_order()
    with pytest.raises(ReturnNotFound):
        log.do(WAIVE)
    log.do(ask(), CloseReceipt("r-1", MONDAY + DAY))
    with pytest.raises(ReturnNotOpen, match="r-1: is closed"):
        log.do(WAIVE)
