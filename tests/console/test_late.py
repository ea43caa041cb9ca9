"""A newcomer finds a late order, sees why it is late, and acts on it, with nothing but the console before them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.async_api import Browser, expect

from tests.console.stand import Stand

SIX_HOURS_A_SECOND = "21600"


class FastStand(Stand):
    """An installation whose days pass in seconds, so that a promise is really missed."""

    def _launch(self) -> subprocess.Popen[bytes]:
        now = datetime.now(UTC).isoformat()
        clock = {"OMS_CLOCK_ORIGIN": now, "OMS_CLOCK_STARTED": now, "OMS_CLOCK_SPEED": SIX_HOURS_A_SECOND}
        return subprocess.Popen(
            [sys.executable, "-m", "ordermill.cli", "up"],
            env=os.environ | clock | {"OMS_HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.folder.with_name("up.log").open("ab"),
        )


@pytest.fixture
async def fast() -> AsyncIterator[FastStand]:
    with TemporaryDirectory(prefix="ordermill-late-") as folder:
        made = FastStand(Path(folder) / "home")
        await made.start()
        yield made
        await made.stop()


async def test_a_newcomer_finds_a_late_order_sees_why_and_acts_on_it(fast: FastStand, browser: Browser) -> None:
    for location in ("edison", "sparks"):
        await fast.receive("teapot", location, 5)
    placed = await fast.order([("teapot", 2)])
    await fast.fulfillments(placed, "created")

    page = await browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    await page.goto(fast.login)
    late = page.get_by_role("link", name="Late 1")
    await expect(late).to_be_visible(timeout=60_000)
    await late.click()
    row = page.locator(f"#order-{placed.order_id}")
    await expect(row).to_contain_text("late by")
    await expect(row).to_contain_text("edison: not accepted yet")
    await row.get_by_role("link", name=placed.external_id).click()

    await expect(page.locator(".alert")).to_contain_text("edison: not accepted yet")
    await page.get_by_role("link", name="Route again: edison…").click()
    await expect(page.locator("form.act")).to_contain_text("edison is asked to give back 2 units")
    await page.locator("main").get_by_role("button", name="Route again: edison").click()
    units = page.get_by_role("region", name="Where each unit is")
    await expect(units).to_contain_text("sparks: not accepted yet")
    await expect(page.locator(".timeline")).to_contain_text("Promise moved")
    await expect(page.locator(".timeline li.person").first).to_contain_text("Ann")
    facts = await fast.get("routing", f"/plans/{placed.order_id}")
    assert [each["location"] for each in facts["shipments"]] == ["sparks"], json.dumps(facts)
