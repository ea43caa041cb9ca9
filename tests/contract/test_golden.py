"""What was written in an old version opens in the newest, for good: one golden file for each version there ever was.

`golden/<fact>.v<n>.json` holds the message as it was written (`type`, `data`) and as it is read today (`newest`).
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import ordermill.contracts
from ordermill.contracts.base import FAMILIES, Message, UnknownVersion, decode

GOLDEN = Path(__file__).with_name("golden")
FILES = sorted(GOLDEN.glob("*.json"))

for module in pkgutil.iter_modules(ordermill.contracts.__path__):
    importlib.import_module(f"ordermill.contracts.{module.name}")


def opened(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_old_version_opens_in_the_newest(path: Path) -> None:
    golden = opened(path)
    message = decode(golden["type"], json.dumps(golden["data"]).encode())
    assert message.type == golden["newest"]["type"]
    assert json.loads(message.to_json()) == golden["newest"]["data"]
    assert message == decode(golden["newest"]["type"], json.dumps(golden["newest"]["data"]).encode())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_golden_file_is_named_by_its_fact_and_version(path: Path) -> None:
    golden = opened(path)
    assert path.name == golden["type"].split(".", 2)[2] + ".json"
    assert golden["newest"]["type"] == FAMILIES[golden["type"].rpartition(".")[0]].type


def old_versions() -> list[str]:
    return [
        f"{family}.v{version}"
        for family, message in sorted(FAMILIES.items())
        for version in range(1, message.class_version)
    ]


@pytest.mark.parametrize("name", old_versions())
def test_every_old_version_has_a_golden_file(name: str) -> None:
    assert name in {opened(path)["type"] for path in FILES}


@pytest.mark.parametrize("message", FAMILIES.values(), ids=lambda message: message.type)
def test_every_version_can_be_lifted_step_by_step_to_the_newest(message: type[Message]) -> None:
    for version in range(1, message.class_version):
        assert callable(getattr(message, f"upcast_v{version}_v{version + 1}", None))


def test_a_version_newer_than_this_code_is_not_guessed_at() -> None:
    with pytest.raises(UnknownVersion, match="this code knows up to v2"):
        decode("oms.tracking.shipment-delivered.v3", b"{}")
