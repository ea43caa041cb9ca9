"""News for open pages: each hears of what it shows and of nothing else, and pages that are alike are made once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from services.console.live import Live, notes, stream

KEYS = [f"orders:{number:036d}" for number in range(1_000)]


def test_every_key_is_in_a_note_that_postgresql_takes():
    texts = notes(KEYS)
    assert len(texts) > 1
    assert max(len(text.encode()) for text in texts) < 8_000
    assert sorted(key for text in texts for key in orjson.loads(text)) == sorted(KEYS)


def test_nothing_changed_is_no_note():
    assert notes([]) == []


def test_where_too_much_changed_only_the_tables_are_told():
    assert notes([*(f"orders:{number:036d}" for number in range(10_000)), "stock:mug"]) == ['["orders","stock"]']


@pytest.mark.parametrize(
    ("interests", "told", "heard"),
    [
        (["orders:one"], ["orders:one"], True),
        (["orders:one"], ["orders:two", "events:one"], False),
        (["orders"], ["orders:two"], True),
        (["orders"], ["stock:two"], False),
        (["orders:one"], ["orders"], True),
        (["orders:one"], ["stock"], False),
    ],
)
async def test_a_page_hears_of_what_it_shows(interests, told, heard):
    live = Live("")
    with live.watch(*interests) as watcher:
        live.tell(told)
        assert await watcher.news(0.01) is heard
        assert not await watcher.news(0.01)


class Page:
    """Counts how often it is made."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.made = 0

    async def __call__(self) -> str:
        await asyncio.sleep(0.01)
        self.made += 1
        return self.texts[min(self.made, len(self.texts)) - 1]


async def test_pages_that_are_alike_are_made_once_for_each_news():
    live, page = Live(""), Page("before", "after")
    assert await asyncio.gather(*(live.rendered("queue", page) for _ in range(5))) == ["before"] * 5
    live.tell(["orders:one"])
    assert await asyncio.gather(*(live.rendered("queue", page) for _ in range(5))) == ["after"] * 5
    assert page.made == 2


async def test_a_reader_who_leaves_takes_nothing_from_the_others():
    live, page = Live(""), Page("text")
    leaves = asyncio.create_task(live.rendered("queue", page))
    stays = asyncio.create_task(live.rendered("queue", page))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays == "text"


async def test_a_page_is_sent_again_only_if_more_than_the_ids_of_its_forms_has_changed():
    def form(number: str, text: str) -> str:
        return f'<input name="form_id" value="{number * 32}">{text}'

    live, page = Live(""), Page(form("a", "one"), form("b", "one"), form("c", "two"))
    request: Any = SimpleNamespace()
    events = (await stream(request, ["orders"], page, live)).body_iterator
    assert b"aaaa" in bytes(await anext(events))  # type: ignore[arg-type]

    async def tell() -> None:
        for _ in range(2):
            await asyncio.sleep(0.2)
            live.tell(["orders:one"])

    telling = asyncio.create_task(tell())
    sent = bytes(await anext(events))  # type: ignore[arg-type]
    await telling
    assert b"cccc" in sent and b"two" in sent
