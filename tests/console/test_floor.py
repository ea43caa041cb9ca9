"""The floor: orders are picked by scan, packed, labeled and handed over, on a phone, with and without a connection."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Page, Route, expect

from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Placed, Stand, eventually

HOSTILE = "<script>alert(1)</script>{{7*7}}\u202e^XA=HYPERLINK(1)😀"


async def asked(stand: Stand, units: int = 2, spoons: int = 0, **more: Any) -> tuple[Placed, str, str, str]:
    """An order that Edison is asked to ship: the order, the path of its work, and both SKUs."""
    mug, spoon = stand.sku("mug"), stand.sku("spoon")
    await stand.receive(mug, "edison", 50)
    await stand.receive(spoon, "edison", 50)
    placed = await stand.order([(mug, units), *([(spoon, spoons)] if spoons else [])], **more)
    work = (await stand.fulfillments(placed))[0]
    assert work["location"] == "edison"
    return placed, f"/floor/edison/{work['key']}", mug, spoon


async def steps(page: Page) -> list[str]:
    """Who did what, as the page tells it."""
    await page.reload()
    told = await page.locator(".story li").all_text_contents()
    return [re.sub(r"^.*?\d\d:\d\d(:\d\d)? ", "", " ".join(text.split())) for text in told]


async def test_what_a_reader_opened_stays_open_when_news_comes(open_page, stand: Stand) -> None:
    placed, path, *_ = await asked(stand, 1)
    page = await open_page(path)
    await page.get_by_text("Who did what").click()
    await expect(page.locator(".story li").first).to_be_visible()
    key = (await stand.fulfillments(placed))[0]["key"]
    await stand.work({"do": "accept", "fulfillment_id": key})
    await expect(page.locator(".story")).to_contain_text("accepted")
    await expect(page.locator(".story li").first).to_be_visible()


async def test_what_a_reader_opened_stays_open_when_a_step_is_done(open_page, stand: Stand) -> None:
    _placed, path, mug, _ = await asked(stand, 1)
    await stand.work({"do": "accept", "fulfillment_id": path.rpartition("/")[2]})
    page = await open_page(path)
    await page.get_by_text("Who did what").click()
    await scan(page, mug)
    await page.get_by_role("button", name="Picked").press("Enter")
    await expect(page.locator(".story")).to_contain_text("picked")
    await expect(page.locator(".story li").first).to_be_visible()


async def scan(page: Page, *codes: str) -> None:
    """As a scanner does: characters wherever the focus is, then Enter."""
    for code in codes:
        await page.keyboard.type(code)
        await page.keyboard.press("Enter")


async def test_an_order_goes_from_accept_to_the_carrier_by_scanner_and_keyboard_alone(open_page, stand: Stand) -> None:
    placed, path, mug, spoon = await asked(stand, 2, 1)
    page = await open_page(path, size=PHONE)
    await page.get_by_role("button", name="Accept").press("Enter")
    await expect(page.get_by_role("heading", name="Pick")).to_be_visible()
    await scan(page, mug, spoon, mug)
    await expect(page.locator("#said")).to_have_text(f"{mug}: 2 of 2.")
    await page.get_by_role("button", name="All 3 picked").press("Enter")
    await expect(page.get_by_role("heading", name="Pack")).to_be_visible()
    await page.get_by_label("Weight, g").fill("1250")
    await page.get_by_role("button", name="Packed: buy the label").press("Enter")
    await expect(page.get_by_text("label bought")).to_be_visible()
    await page.get_by_role("button", name=re.compile("has it$")).press("Enter")
    await expect(page.get_by_role("heading", name="With the carrier")).to_be_visible()
    await stand.fulfillments(placed, "shipped")
    told = await steps(page)
    assert [line for line in told if " Ann" in line] == [
        "accepted Ann",
        f"picked Ann: 2 × {mug}, 1 × {spoon}",
        "packed Ann: 1 box",
        told[4],
        told[-1],
    ]


async def test_a_wrong_item_and_one_too_many_are_refused_loudly(open_page, stand: Stand) -> None:
    _placed, path, mug, _ = await asked(stand, 1)
    await stand.work({"do": "accept", "fulfillment_id": path.rpartition("/")[2]})
    page = await open_page(path, size=PHONE)
    said = page.get_by_role("alert").and_(page.locator("#said"))
    await scan(page, "COFFEE-1")
    await expect(said).to_have_text("Wrong item: COFFEE-1 is not part of this order. Put it back.")
    await expect(said).to_have_class(re.compile("wrong"))
    await scan(page, "4006381333931")
    await expect(said).to_contain_text("No table of GTINs is kept here")
    await scan(page, mug, mug)
    await expect(said).to_have_text(f"Too many: all 1 of {mug} are counted. Put this one back.")
    await expect(page.get_by_label(f"Found of {mug}, of 1")).to_have_value("1")
    await page.reload()
    await expect(page.get_by_label(f"Found of {mug}, of 1")).to_have_value("1")


async def test_what_is_not_there_is_said_and_the_rest_goes_on(open_page, stand: Stand) -> None:
    _placed, path, mug, spoon = await asked(stand, 2, 2)
    await stand.work({"do": "accept", "fulfillment_id": path.rpartition("/")[2]})
    page = await open_page(path, size=PHONE)
    await scan(page, mug, mug, spoon)
    await expect(page.get_by_role("button", name="1 to go")).to_be_disabled()
    await page.get_by_text("Something is not there").click()
    await expect(page.get_by_text("looked for at other locations")).to_be_visible()
    await page.get_by_role("button", name="Report 1 as not there").click()
    await expect(page.get_by_role("heading", name="Pack")).to_be_visible()
    await expect(page.get_by_role("status").filter(has_text="1 not there")).to_be_visible()
    assert f"short-picked Ann: 1 × {spoon}".replace("-", " ", 1) in await steps(page)


async def test_work_that_can_not_be_done_goes_elsewhere_with_a_reason(open_page, stand: Stand) -> None:
    placed, path, *_ = await asked(stand)
    page = await open_page(path, size=PHONE)
    await page.get_by_text("Can't do it here").click()
    await page.get_by_label("No capacity").check()
    await page.get_by_label("Note, if it helps").fill(HOSTILE)
    await page.get_by_role("button", name="Turn it down").click()
    await expect(page.get_by_role("heading", name="Turned down here")).to_be_visible()
    work = (await stand.fulfillments(placed, "rejected"))[0]
    assert work["reject_reason"] == "no-capacity"


async def test_units_go_into_several_boxes_by_scan(open_page, stand: Stand) -> None:
    placed, path, mug, spoon = await asked(stand, 2, 1)
    await stand.work(
        {"do": "accept", "fulfillment_id": path.rpartition("/")[2]},
        {
            "do": "pick", "fulfillment_id": path.rpartition("/")[2],
            "lines": [{"line_id": "1", "sku": mug, "quantity": 2}, {"line_id": "2", "sku": spoon, "quantity": 1}],
        },
    )  # fmt: skip
    page = await open_page(path, size=PHONE)
    await page.get_by_role("link", name="Use another box").click()
    await scan(page, spoon, mug)
    first, second = page.locator("[data-box='1']"), page.locator("[data-box='2']")
    await expect(first.get_by_label(f"Units of {mug} in box 1")).to_have_value("1")
    await expect(second.get_by_label(f"Units of {spoon} in box 2")).to_have_value("1")
    await first.get_by_label("Weight, g").fill("500")
    await second.get_by_label("Weight, g").fill("700")
    await page.get_by_role("button", name="Packed").click()
    await expect(page.get_by_text("label bought")).to_have_count(2)
    packages = (await stand.fulfillments(placed, "labeled"))[0]["packages"]
    assert [(each["weight_g"], [line["quantity"] for line in each["lines"]]) for each in packages] == [
        (500, [1]),
        (700, [1, 1]),
    ]


# Without a connection


async def kept(page: Page) -> None:
    """The device has what it needs to go on alone."""
    await expect(page.locator("html")).to_have_attribute("data-kept", "yes")


async def test_work_goes_on_without_a_connection_and_nothing_counts_twice(open_page, stand: Stand) -> None:
    placed, path, mug, _ = await asked(stand, 2)
    page = await open_page(path, size=PHONE, offline=True)
    await kept(page)
    await page.context.set_offline(True)
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_text("Waiting to be sent (1)")).to_be_visible()
    await scan(page, mug)
    await page.reload()
    await expect(page.get_by_text("Waiting to be sent (1)")).to_be_visible()
    await expect(page.get_by_role("heading", name="Pick")).to_contain_text("1 of 2")
    await scan(page, mug)
    await page.get_by_role("button", name="All 2 picked").click()
    await page.get_by_role("button", name="Packed: buy the label").click()
    await expect(page.get_by_text("Waiting to be sent (3)")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("Waiting to be sent (3)")).to_be_visible()
    await expect(page.get_by_text("The label is bought as soon as there is a connection.")).to_be_visible()
    assert (await stand.fulfillments(placed))[0]["status"] == "created"
    await page.context.set_offline(False)
    await expect(page.get_by_text("label bought")).to_be_visible()
    await expect(page.locator("#unsent")).to_be_hidden()
    told = await steps(page)
    assert [line.split(" ")[0] for line in told] == ["created", "accepted", "picked", "packed", "label", "labeled"]


async def test_what_waited_for_a_connection_is_dated_when_it_was_done(open_page, stand: Stand) -> None:
    placed, path, mug, _ = await asked(stand, 1)
    about = {"fulfillment_id": path.rpartition("/")[2]}
    lines = [{"line_id": "1", "sku": mug, "quantity": 1}]
    box = {"package": 1, "weight_g": 900, "lines": lines}
    await stand.work(
        {"do": "accept", **about}, {"do": "pick", **about, "lines": lines}, {"do": "pack", **about, "packages": [box]}
    )
    page = await open_page(path, size=PHONE, offline=True)
    await expect(page.get_by_text("label bought")).to_be_visible()
    await kept(page)
    await page.context.set_offline(True)
    await page.get_by_role("button", name=re.compile("has it$")).click()
    await expect(page.get_by_text("Waiting to be sent (1)")).to_be_visible()
    done_at = datetime.now(UTC) - timedelta(hours=3)
    await page.evaluate(
        """at => localStorage["ordermill.floor.queue"] = JSON.stringify(
            JSON.parse(localStorage["ordermill.floor.queue"]).map(entry => ({...entry, done_at: at})))""",
        done_at.isoformat(),
    )
    await page.context.set_offline(False)
    (work,) = await stand.fulfillments(placed, "shipped")
    assert abs(datetime.fromisoformat(work["shipped_at"]) - done_at) < timedelta(minutes=2)


async def test_a_report_whose_answer_was_lost_is_sent_again_and_told_as_done(open_page, stand: Stand) -> None:
    _placed, path, _mug, _ = await asked(stand, 1)
    page = await open_page(path, size=PHONE, offline=True, worker=False)
    lost = []
    back = asyncio.Event()

    async def lose(route: Route) -> None:
        if lost:
            await back.wait()
            await route.continue_()
            return
        lost.append(await (await route.fetch()).json())
        await route.abort()

    await page.context.route("**/accept", lose)
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_text("Waiting to be sent (1)")).to_be_visible()
    back.set()
    await expect(page.get_by_text("counts once")).to_be_visible()
    await expect(page.locator("#unsent")).to_be_hidden()
    assert [each["kind"] for each in lost] == ["done"]
    assert [line for line in await steps(page) if line.startswith("accepted")] == ["accepted Ann"]


async def packed_in_vain(stand: Stand, fault: str = "refused") -> tuple[Placed, str, str]:
    """An order, packed, for which its carrier sells no label just now: the path of its work and the carrier."""
    placed, path, mug, _ = await asked(stand, 1)
    work = (await stand.fulfillments(placed))[0]
    key, carrier = work["key"], work["carrier"]
    await stand.behave(carrier, **{fault: 1.0})
    line = [{"line_id": "1", "sku": mug, "quantity": 1}]
    await stand.work(
        {"do": "accept", "fulfillment_id": key},
        {"do": "pick", "fulfillment_id": key, "lines": line},
        {"do": "pack", "fulfillment_id": key, "packages": [{"package": 1, "weight_g": 900, "lines": line}]},
    )
    if fault == "refused":
        await no_label(stand, placed)
    return placed, path, carrier


async def no_label(stand: Stand, placed: Placed) -> None:
    async def failed() -> bool:
        packages = (await stand.fulfillments(placed))[0]["packages"]
        return bool(packages) and packages[0]["label"] == "failed"

    await eventually(failed)


async def test_a_label_asked_for_again_with_its_answer_lost_is_asked_for_once(stand: Stand) -> None:
    placed, path, carrier = await packed_in_vain(stand)
    key = path.rpartition("/")[2]
    try:
        report = {"do": "retry-label", "fulfillment_id": key, "package": 1, "report_id": uuid4().hex}
        first = (await stand.post("fulfillment", "/work", [report]))[0]
        assert (len(first["events"]), first["repeated"]) == (1, False)
        await no_label(stand, placed)
        again = (await stand.post("fulfillment", "/work", [report]))[0]
        assert (again["events"], again["repeated"], again["code"]) == ([], True, None)
    finally:
        await stand.behave(carrier)


async def test_reports_that_are_numbered_anew_for_each_work_and_step_are_all_taken(stand: Stand) -> None:
    works = [(await stand.fulfillments((await asked(stand, 1))[0]))[0] for _ in range(2)]
    for work in works:
        report = {"fulfillment_id": work["key"], "report_id": "1"}
        found = {"do": "pick", "lines": [{key: work["lines"][0][key] for key in ("line_id", "sku")} | {"quantity": 1}]}
        told = await stand.post("fulfillment", "/work", [report | {"do": "accept"}, report | found, report | found])
        assert [(len(each["events"]), each["repeated"]) for each in told] == [(1, False), (1, False), (0, True)]


async def test_a_box_that_gets_no_label_and_is_called_off_is_to_be_unpacked(open_page, stand: Stand) -> None:
    placed, path, carrier = await packed_in_vain(stand)
    try:
        page = await open_page(path, size=PHONE)
        await expect(page.get_by_role("button", name="Ask for a label")).to_be_visible()
        await stand.post("capture", f"/orders/{placed.order_id}/cancel", {"cancellation_id": uuid4().hex})
        await expect(page.get_by_role("heading", name="Called off")).to_be_visible()
        await expect(page.get_by_text("To be unpacked: its units were called off.")).to_be_visible()
        await expect(page.get_by_role("button", name="Ask for a label")).to_have_count(0)
    finally:
        await stand.behave(carrier)


async def bought_by(page: Page, way: str) -> None:
    """Ask for the only box's label once more."""
    await page.get_by_label("Send it by").select_option(way)
    await page.get_by_role("button", name="Ask for a label").click()
    await expect(page.get_by_text("label bought")).to_be_visible()


async def test_a_label_the_carrier_refuses_is_bought_another_way(open_page, stand: Stand) -> None:
    placed, path, carrier = await packed_in_vain(stand)
    other = "swift/ground" if carrier == "cedar" else "cedar/ground"
    try:
        page = await open_page(path, size=PHONE)
        await expect(page.get_by_text("no label")).to_be_visible()
        await bought_by(page, other)
    finally:
        await stand.behave(carrier)
    assert (await stand.fulfillments(placed, "labeled"))[0]["packages"][0]["carrier"] == other.partition("/")[0]
    assert f"label requested Ann: box 1: {other.replace('/', ' ')}" in await steps(page)


async def test_while_a_carrier_is_silent_the_label_is_bought_from_another(open_page, stand: Stand) -> None:
    placed, path, carrier = await packed_in_vain(stand, "silent")
    other = "swift/ground" if carrier == "cedar" else "cedar/ground"
    try:
        page = await open_page(path, size=PHONE)
        await expect(page.get_by_text("label is being bought")).to_be_visible()
        await page.get_by_text("It takes too long").click()
        await expect(page.locator(f"option[value^='{carrier}/ground']")).to_have_count(0)
        await bought_by(page, other)
    finally:
        await stand.behave(carrier)
    assert (await stand.fulfillments(placed, "labeled"))[0]["packages"][0]["carrier"] == other.partition("/")[0]


async def test_a_report_that_somebody_else_overtook_is_told_and_stays_visible(open_page, stand: Stand) -> None:
    _placed, path, *_ = await asked(stand, 1)
    ann = await open_page(path, size=PHONE, offline=True)
    await kept(ann)
    await ann.context.set_offline(True)
    await ann.get_by_role("button", name="Accept").click()
    bob = await open_page(path, name="Bob")
    await bob.get_by_text("Can't do it here").click()
    await bob.get_by_label("Damaged").check()
    await bob.get_by_role("button", name="Turn it down").click()
    await expect(bob.get_by_role("heading", name="Turned down here")).to_be_visible()
    await ann.context.set_offline(False)
    told = ann.locator("#unsent").get_by_role("alert")
    await expect(told).to_contain_text("Not done: Bob rejected it at")
    await ann.reload()
    await expect(told).to_contain_text("Bob rejected it at")
    await told.get_by_role("button", name="Understood").click()
    await expect(ann.locator("#unsent")).to_be_hidden()


async def test_of_two_pickers_the_second_is_told_who_did_what(open_page, stand: Stand) -> None:
    _, path, mug, _ = await asked(stand, 2)
    ann, bob = await open_page(path), await open_page(path, name="Bob", offline=True)
    await kept(bob)
    await bob.context.set_offline(True)
    await bob.get_by_role("button", name="Accept").click()
    await scan(bob, mug)
    await bob.get_by_text("Something is not there").click()
    await bob.get_by_role("button", name="Report 1 as not there").click()
    await expect(bob.get_by_text("Waiting to be sent (2)")).to_be_visible()
    await ann.get_by_role("button", name="Accept").click()
    await expect(ann.get_by_role("heading", name="Pick")).to_be_visible()
    await scan(ann, mug, mug)
    await ann.get_by_role("button", name="All 2 picked").click()
    await expect(ann.get_by_role("heading", name="Pack")).to_be_visible()
    await expect(ann.locator(".story")).to_contain_text("picked Ann")
    await bob.context.set_offline(False)
    told = bob.locator("#unsent").get_by_role("alert")
    await expect(told.first).to_contain_text("Nothing changed: Ann accepted it at")
    await expect(told.last).to_contain_text("Not done: Ann picked it at")
    await expect(told.last).to_contain_text(f"2 × {mug}")


async def test_a_page_that_is_not_kept_says_so_and_lists_those_that_are(open_page, stand: Stand) -> None:
    placed, path, *_ = await asked(stand)
    page = await open_page(path, size=PHONE, offline=True)
    await kept(page)
    await page.context.set_offline(True)
    await page.goto(stand.url("console", "/floor/sparks"))
    await expect(page.get_by_role("heading", name="No connection")).to_be_visible()
    await page.get_by_role("link", name=placed.external_id).click()
    await expect(page.get_by_role("button", name="Accept")).to_be_visible()


async def test_what_one_person_did_is_not_sent_in_the_name_of_the_next(open_page, stand: Stand) -> None:
    _placed, path, *_ = await asked(stand)
    page = await open_page(path, size=PHONE, offline=True)
    await kept(page)
    await page.context.set_offline(True)
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_text("Waiting to be sent (1)")).to_be_visible()
    await page.goto("about:blank")
    await page.context.set_offline(False)
    await page.goto(stand.login.replace("name=Ann", "name=Bob"))
    await page.goto(stand.url("console", path))
    await expect(page.locator("#unsent")).to_contain_text("Kept for Ann")
    # Ann's page may have sent it itself in the moment between the connection's return and its own end.
    assert [line for line in await steps(page) if line not in ("created Ordermill", "accepted Ann")] == []
    await page.goto(stand.login)
    await page.goto(stand.url("console", path))
    await expect(page.get_by_text(re.compile("is yours to pick|counts once"))).to_be_visible()
    assert [line for line in await steps(page) if line.startswith("accepted")] == ["accepted Ann"]


# Lists, papers, manifests


async def test_new_work_appears_by_itself_and_a_scanned_number_opens_it(open_page, stand: Stand) -> None:
    page = await open_page("/floor/edison?step=accept", size=PHONE)
    placed, path, *_ = await asked(stand, title=HOSTILE)
    await expect(page.get_by_role("link", name=placed.external_id)).to_be_visible()
    assert await page.evaluate("document.querySelectorAll('main script, main [onerror]').length") == 0
    await expect(page.get_by_text("{{7*7}}").first).to_be_visible()
    assert "\u202e" not in await page.locator("main").inner_text()
    await page.get_by_label("Scan a slip").fill(placed.external_id)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(re.escape(path)))
    await page.goto(stand.url("console", "/floor"))
    await expect(page).to_have_url(re.compile("/floor/edison$"))
    await page.get_by_label("Scan a slip").fill("nobody")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("nobody: no order")


async def test_labels_and_slips_come_through_the_console_with_hostile_names_harmless(stand: Stand) -> None:
    placed, path, mug, _ = await asked(stand, 1, name=HOSTILE, title=HOSTILE)
    key = path.rpartition("/")[2]
    line = [{"line_id": "1", "sku": mug, "quantity": 1}]
    await stand.work(
        {"do": "accept", "fulfillment_id": key},
        {"do": "pick", "fulfillment_id": key, "lines": line},
        {"do": "pack", "fulfillment_id": key, "packages": [{"package": 1, "weight_g": 900, "lines": line}]},
    )
    await stand.fulfillments(placed, "labeled")
    async with httpx.AsyncClient(follow_redirects=True) as person:
        await person.get(stand.login)
        await _there(person, stand, path)
        at = stand.url("console", f"{path}/packages/1")
        pdf, zpl, slip = [await person.get(f"{at}/{paper}") for paper in ("label.pdf", "label.zpl", "slip.pdf")]
        assert (pdf.content[:5], slip.content[:5]) == (b"%PDF-", b"%PDF-")
        assert (zpl.content.count(b"^XA"), zpl.content.count(b"^XZ")) == (1, 1)
        assert "attachment" in zpl.headers["content-disposition"]
        assert (await person.get(f"{at}/label.exe")).status_code == 422
        assert (await person.get(stand.url("console", f"{path}/packages/9/label.pdf"))).status_code == 404
        assert (await person.get(stand.url("console", f"/floor/sparks/{key}"))).status_code == 404
        assert (await person.get(stand.url("console", "/floor/mars"))).status_code == 404


async def _there(person: httpx.AsyncClient, stand: Stand, path: str) -> str:
    """The page of work, once the console has heard of it."""

    async def found() -> str:
        answer = await person.get(stand.url("console", path))
        return answer.text if answer.status_code == 200 else ""

    return await eventually(found)  # type: ignore[no-any-return]


async def test_a_carrier_takes_all_parcels_that_its_manifest_lists(open_page, stand: Stand) -> None:
    works = []
    for _ in range(2):
        placed, path, mug, _ = await asked(stand, 1)
        key = path.rpartition("/")[2]
        line = [{"line_id": "1", "sku": mug, "quantity": 1}]
        await stand.work(
            {"do": "accept", "fulfillment_id": key},
            {"do": "pick", "fulfillment_id": key, "lines": line},
            {"do": "pack", "fulfillment_id": key, "packages": [{"package": 1, "weight_g": 900, "lines": line}]},
        )
        works += await stand.fulfillments(placed, "labeled")
    carrier = works[0]["packages"][0]["carrier"]
    page = await open_page(f"/floor/edison/manifest/{carrier}")
    for work in works:
        await expect(page.get_by_text(work["packages"][0]["tracking_number"])).to_be_visible()
    await page.get_by_role("button", name=re.compile(" has all ")).click()
    await expect(page.get_by_role("status").filter(has_text="with the carrier")).to_be_visible()
    await expect(page.get_by_role("heading", name="Handed over today")).to_be_visible()
    for work in works:
        assert (await stand.get("fulfillment", f"/fulfillments/{work['key']}"))["status"] == "shipped"


# Without JavaScript, and with wrong forms


async def test_the_floor_works_without_javascript(open_page, stand: Stand) -> None:
    placed, path, mug, _ = await asked(stand, 2)
    page = await open_page(path, size=PHONE, script=False)
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_text("is yours to pick")).to_be_visible()
    for code, said in (
        (mug, f"{mug}: 1 of 2."),
        ("OTHER", "Wrong item: OTHER"),
        (mug, f"{mug}: 2 of 2."),
        (mug, "Too many"),
    ):
        await page.get_by_label("Scan each unit").fill(code)
        await page.get_by_label("Scan each unit").press("Enter")
        await expect(page.locator("#said")).to_contain_text(said)
    await page.get_by_role("button", name="All picked").click()
    await expect(page.get_by_text("Picked: pack it now.")).to_be_visible()
    await page.get_by_role("link", name="Use another box").click()
    await page.get_by_label("Weight, g").first.fill("300")
    await page.get_by_label("Weight, g").last.fill("400")
    await page.get_by_label(f"Units of {mug} in box 1").fill("1")
    await page.get_by_label(f"Units of {mug} in box 2").fill("1")
    await page.get_by_role("button", name="Packed").click()
    await stand.fulfillments(placed, "labeled")
    await expect(page.get_by_text("Packed. 2 labels are being bought.")).to_be_visible()

    async def labeled() -> bool:
        await page.reload()
        return await page.get_by_role("heading", name="Print, stick, hand over").is_visible()

    await eventually(labeled)
    await page.get_by_role("button", name=re.compile("has it$")).click()
    await expect(page.get_by_role("heading", name="With the carrier")).to_be_visible()


@pytest.mark.parametrize(
    ("do", "fields", "says"),
    [
        ("reject", {"reason": "boredom"}, "Say why"),
        ("pick", {"do": "all"}, "not counted yet"),
        ("pick", {"do": "all", "found:1": "-1"}, "no number of units"),
        ("pick", {"do": "short", "found:1": "9"}, "Accept it first"),
        ("pack", {}, "Nothing is in a box"),
        ("pack", {"box:1:1": "1"}, "has no weight"),
        ("pack", {"box:1:1": "1.5"}, "no whole number"),
        ("label/1", {"way": "owl"}, "Choose how"),
        ("label/1", {"way": "cedar/ground"}, "nothing is packed yet"),
        ("hand-over", {}, "not accepted yet"),
    ],
)
async def test_a_wrong_form_is_told_what_is_wrong_and_changes_nothing(
    stand: Stand, do: str, fields: dict[str, str], says: str
) -> None:
    placed, path, *_ = await asked(stand, 1)
    async with httpx.AsyncClient(follow_redirects=True, timeout=20) as person:
        await person.get(stand.login)
        csrf = re.search(r'name="csrf" value="([^"]+)"', await _there(person, stand, path))
        assert csrf is not None
        url = stand.url("console", f"{path}/{do}")
        body = {"csrf": csrf[1], "form_id": uuid4().hex, **fields}
        answer = await person.post(url, data=body, headers={"Accept": "application/json"})
        assert (answer.status_code, answer.json()["kind"]) == (409, "refused")
        assert says in answer.json()["text"]
        assert says in (await person.post(url, data={**body, "form_id": uuid4().hex})).text
        forged = await person.post(url, data=body | {"csrf": "guess"}, headers={"Accept": "application/json"})
        assert (forged.status_code, "kind" in forged.json()) == (409, False)
        assert (await person.post(url, data=body | {"note": "x" * 1_100_000})).status_code == 413
        nameless = await person.post(stand.url("console", f"{path}/accept"), data=body | {"form_id": "1"})
        assert nameless.status_code == 422
    assert (await stand.fulfillments(placed))[0]["status"] == "created"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_the_floor_is_accessible(open_page, accessible, stand: Stand, size: Any) -> None:
    _placed, path, mug, _ = await asked(stand, 1)
    key = path.rpartition("/")[2]
    page = await open_page("/floor?choose", size=size)
    await accessible(page)
    for address in ("/floor/edison", path):
        await page.goto(stand.url("console", address))
        await accessible(page)
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_role("heading", name="Pick")).to_be_visible()
    await scan(page, "WRONG")
    await page.get_by_text("Something is not there").click()
    await accessible(page)
    await scan(page, mug)
    await page.get_by_role("button", name="Picked").click()
    await page.get_by_role("link", name="Use another box").click()
    await accessible(page)
    await page.get_by_label("Weight, g").first.fill("900")
    await page.get_by_role("button", name="Packed").click()
    await expect(page.get_by_text("label bought")).to_be_visible()
    await accessible(page)
    carrier = (await stand.get("fulfillment", f"/fulfillments/{key}"))["carrier"]
    await page.goto(stand.url("console", f"/floor/edison/manifest/{carrier}"))
    await accessible(page)
