"""AsyncAPI files pass AsyncAPI's own parser, and the real messages in them fit what they say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from ordermill.names import SERVICES
from ordermill.schemas.files import FOLDER
from ordermill.schemas.messages import all_types
from ordermill.schemas.surfaces import declared
from ordermill.service.topics import all_topics
from tests.node import installed

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / FOLDER
CHECK = Path(__file__).with_name("asyncapi")
DOCUMENTS = {path.stem: json.loads(path.read_bytes()) for path in sorted((SCHEMAS / "asyncapi").glob("*.json"))}
EXAMPLES = sorted((SCHEMAS / "examples").glob("*.json"))


def check(*files: Path) -> list[dict[str, Any]]:
    command = [installed(CHECK), str(CHECK / "validate.mjs"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_file_passes_the_official_parser_and_its_examples_fit() -> None:
    found = check(*(SCHEMAS / "asyncapi" / f"{service}.json" for service in SERVICES))
    assert [fault for each in found for fault in each["faults"]] == []
    assert sum(each["examples"] for each in found) >= 80


def test_a_file_that_is_none_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "asyncapi").mkdir()
    for part in ("messages", "headers"):
        (tmp_path / part).symlink_to(SCHEMAS / part)
    spoiled = json.loads(json.dumps(DOCUMENTS["capture"]))
    spoiled["operations"]["send.oms.capture.events"]["action"] = "shout"
    spoiled["components"]["messages"]["oms.capture.order-held.v1"]["examples"][0]["payload"]["reason"] = "whim"
    (tmp_path / "asyncapi" / "capture.json").write_text(json.dumps(spoiled))
    assert check(tmp_path / "asyncapi" / "capture.json")[0]["faults"]
    spoiled["operations"]["send.oms.capture.events"]["action"] = "send"
    (tmp_path / "asyncapi" / "capture.json").write_text(json.dumps(spoiled))
    [fault] = check(tmp_path / "asyncapi" / "capture.json")[0]["faults"]
    assert "oms.capture.order-held.v1: data/reason must be equal to one of the allowed values" in fault


def test_every_topic_is_told_of_by_who_writes_it_and_who_reads_it() -> None:
    all_types()
    assert {topic for document in DOCUMENTS.values() for topic in document["channels"]} == set(all_topics(SERVICES))
    for service, document in DOCUMENTS.items():
        received = {
            operation["channel"]["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            if operation["action"] == "receive"
        }
        follows = {followed.message.topic for followed in declared(service).follows}
        assert received == {*declared(service).topics, *follows}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_message_of_its_type(path: Path) -> None:
    example, name = json.loads(path.read_bytes()), path.stem
    assert example["headers"]["ce_type"] == name
    schema = json.loads((SCHEMAS / "messages" / f"{name}.json").read_bytes())
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(example["data"])
    channels = [(topic, told) for document in DOCUMENTS.values() for topic, told in document["channels"].items()]
    assert example["topic"] in {topic for topic, told in channels if name in told["messages"]}


def test_people_in_examples_are_made_up() -> None:
    texts = [path.read_text() for path in EXAMPLES]
    emails = {word for text in texts for word in text.replace('"', " ").split() if "@" in word and "." in word}
    assert emails
    assert {email.rpartition("@")[2] for email in emails} == {"example.com"}
