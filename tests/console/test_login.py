"""Nothing is open: who gets in, and what a browser is allowed to do."""

from __future__ import annotations

import httpx
from playwright.async_api import expect

from tests.console.conftest import PHONE
from tests.console.stand import Stand


async def test_a_page_without_a_session_leads_to_the_login(stand: Stand) -> None:
    async with httpx.AsyncClient(follow_redirects=False) as stranger:
        for path in ("/", "/orders/live"):
            answer = await stranger.get(stand.url("console", path))
            assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path


async def test_the_printed_address_logs_in_and_a_wrong_token_does_not(stand: Stand) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as person:
        wrong = await person.get(stand.url("console", "/login?token=wrong&name=Eve"))
        assert wrong.status_code == 403
        assert "not this installation" in wrong.text
        right = await person.get(stand.login)
        assert right.url.path == "/"
        assert "token" not in str(right.url)
        assert "Ann" in right.text


async def test_a_browser_may_load_nothing_from_elsewhere_and_run_nothing_inline(stand: Stand) -> None:
    async with httpx.AsyncClient() as person:
        policy = (await person.get(stand.url("console", "/login"))).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


async def test_another_host_name_is_refused(stand: Stand) -> None:
    async with httpx.AsyncClient() as person:
        answer = await person.get(stand.url("console", "/login"), headers={"Host": "evil.example"})
    assert answer.status_code == 400


async def test_a_forged_form_does_nothing(stand: Stand) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as person:
        await person.get(stand.login)
        for headers, data in (
            ({}, {}),
            ({}, {"csrf": "guess"}),
            ({"Sec-Fetch-Site": "cross-site"}, {"csrf": "guess"}),
        ):
            answer = await person.post(stand.url("console", "/logout"), data=data, headers=headers)
            assert answer.status_code == 409
        assert (await person.get(stand.url("console", "/"))).url.path == "/"


async def test_the_login_page_is_accessible(open_page, accessible) -> None:
    page = await open_page("/login", size=PHONE)
    await expect(page.get_by_label("The token")).to_be_visible()
    await accessible(page)
