"""A broker for every test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.kafka import Broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """With all topics and nothing in them."""
    made = Broker(tmp_path)
    try:
        await made.make_topics()
        yield made
    finally:
        await made.close()
