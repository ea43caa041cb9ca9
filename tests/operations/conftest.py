"""One installation for all of these tests, whose traces go to a collector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.operations.collector import Collector, collecting
from tests.operations.place import Place, place_at


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="package")
def place(collector: Collector) -> Iterator[Place]:
    # Not below pytest's own folder: that is closed to the user the server may have to run as.
    with (
        TemporaryDirectory(prefix="ordermill-operations-") as folder,
        place_at(Path(folder), OMS_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200") as found,
    ):
        yield found
