"""A browser for the tests of pages: headless Chromium, as installed; OMS_TEST_CHROMIUM names another."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.console.stand import PATIENCE_S, Stand

DESKTOP = {"width": 1400, "height": 900}
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=PATIENCE_S * 1_000)
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="package")
async def stand() -> AsyncIterator[Stand]:
    # Not below pytest's own folder: that is closed to the user the server may have to run as.
    with TemporaryDirectory(prefix="ordermill-console-") as folder:
        made = Stand(Path(folder) / "home")
        await made.start()
        yield made
        await made.stop()


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    program = os.environ.get("OMS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: install it (on Debian: apt install chromium) or name one with OMS_TEST_CHROMIUM")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield launched
        await launched.close()


Open = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page(stand: Stand, browser: Browser) -> AsyncIterator[Open]:
    """`await open_page("/stock")`: a page, logged in. Options: `size`, `script=False`, `name`, `offline=True` where the
    test takes the connection away, `worker=False` where it stands in its requests' way: those of a page that has a
    service worker pass it by.

    Ends with the test, which fails if a page reported an error or broke its content security policy.
    """
    contexts = []
    faults: list[str] = []

    async def opened(
        path: str,
        size: Any = DESKTOP,
        script: bool = True,
        name: str = "Ann",
        offline: bool = False,
        worker: bool = True,
    ) -> Page:
        context = await browser.new_context(
            viewport=size,
            java_script_enabled=script,
            timezone_id="America/New_York",
            locale="en-US",
            service_workers="allow" if worker else "block",
        )
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_S * 1_000)
        page.on("pageerror", lambda error: faults.append(str(error)))

        def heard(said: Any) -> None:
            expected = ("status of 4", *(("net::ERR_", "[object Event]") if offline else ()))
            if said.type == "error" and not any(text in said.text for text in expected):
                faults.append(said.text)

        page.on("console", heard)
        await context.request.get(stand.login.replace("name=Ann", f"name={name}"), max_redirects=0)
        await page.goto(stand.url("console", path))
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert faults == []


@pytest.fixture
def accessible() -> Callable[[Page], Awaitable[None]]:
    """`await accessible(page)`: no violation of WCAG 2.2 A and AA that axe can find, in light or in dark.

    The two differ in nothing but colors, so of dark only these are looked at.
    """

    async def check(page: Page) -> None:
        await page.wait_for_load_state()  # its styles too: without them all is close together
        for scheme, rules in (("light", _RULES), ("dark", ["color-contrast"])):
            await page.emulate_media(color_scheme=scheme)
            found = await Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
            assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"
        await page.emulate_media(color_scheme="light")

    return check
