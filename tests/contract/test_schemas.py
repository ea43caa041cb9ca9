"""What stands in `schemas/` is current, is what it says it is, and may be relied on for good."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from ordermill.contracts.base import BY_TYPE, Malformed, decode
from ordermill.contracts.channel import OrderPlaced
from ordermill.names import SERVICES
from ordermill.schemas.__main__ import new_breaks
from ordermill.schemas.files import FOLDER, OldVersionLost, generate, read, write
from ordermill.schemas.history import NoHistory
from ordermill.schemas.messages import all_types, message_schema, old_versions

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / FOLDER
GOLDEN = Path(__file__).with_name("golden")


def files(part: str) -> list[Path]:
    found = sorted((SCHEMAS / part).glob("*.json"))
    assert found
    return found


def opened(path: Path) -> Json:
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


def test_the_schemas_are_those_of_the_models() -> None:
    made, there = generate(SCHEMAS), read(SCHEMAS)
    assert sorted(path for path in made.keys() | there.keys() if made.get(path) != there.get(path)) == []


def test_making_them_again_gives_the_same_bytes(tmp_path: Path) -> None:
    made = generate(SCHEMAS)
    assert len(write(tmp_path, made)) == len(made)
    assert write(tmp_path, made) == []
    for path in made:
        assert (tmp_path / path).read_bytes() == (SCHEMAS / path).read_bytes()


@pytest.mark.parametrize("path", [*files("messages"), *files("headers")], ids=lambda path: path.stem)
def test_each_is_a_json_schema_2020_12(path: Path) -> None:
    schema = opened(path)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)


def test_every_type_has_a_schema_in_every_version_it_ever_had() -> None:
    names = {name for each in all_types() for name in (each.type, *old_versions(each))}
    assert {path.stem for path in files("messages")} == names


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_a_golden_message_fits_the_schema_of_its_own_version_and_of_the_newest(path: Path) -> None:
    golden = opened(path)
    for message in (golden, golden["newest"]):
        Draft202012Validator(opened(SCHEMAS / "messages" / f"{message['type']}.json")).validate(message["data"])


def test_personal_data_is_marked_and_in_the_clear_only_where_a_channel_sends_it() -> None:
    def marks(schema: Any) -> set[str]:
        if isinstance(schema, dict):
            own = {str(schema["x-personal-data"])} if "x-personal-data" in schema else set()
            return own.union(*(marks(value) for value in schema.values()))
        return set().union(*(marks(value) for value in schema)) if isinstance(schema, list) else set()

    found = {path.stem: marks(opened(path)) for path in files("messages")}
    assert found["oms.capture.order-captured.v1"] == {"sealed"}
    clear = {name for name, marked in found.items() if "clear" in marked}
    assert clear == {"oms.channel.order-placed.v1", "oms.channel.order-changed.v1"}


def test_what_outsiders_send_is_closed_and_what_we_send_is_open() -> None:
    order = {"line_id": "1", "sku": "A", "quantity": 1}
    fact = Draft202012Validator(opened(SCHEMAS / "messages" / "oms.fulfillment.picked.v1.json"))
    assert fact.is_valid({"fulfillment_id": "f", "order_id": "o", "lines": [order | {"new": 1}], "new": 1})
    assert not fact.is_valid({"fulfillment_id": "f", "lines": []})
    sent = message_schema(OrderPlaced)
    assert sent["additionalProperties"] is False
    assert sent["$defs"]["Money"]["additionalProperties"] is False


def test_what_fits_a_schema_is_taken_also_3_0_for_an_integer() -> None:
    data = {"location": "reno", "sku": "TEA", "reference": "r", "happened_at": "2026-03-02T09:00:00+01:00"}
    arrived = "oms.location.stock-arrived.v1"
    schema = Draft202012Validator(opened(SCHEMAS / "messages" / f"{arrived}.json"))
    for quantity, fits in ((3, True), (3.0, True), (3.5, False), ("3", False), (True, False)):
        message = {**data, "quantity": quantity}
        assert schema.is_valid(message) is fits
        if fits:
            assert json.loads(decode(arrived, json.dumps(message).encode()).to_json())["quantity"] == 3
        else:
            with pytest.raises(Malformed, match="quantity"):
                decode(arrived, json.dumps(message).encode())


@pytest.mark.parametrize("path", files("openapi"), ids=lambda path: path.stem)
def test_each_surface_is_an_openapi_3_1(path: Path) -> None:
    document = opened(path)
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


SERVICES_SURFACES = [path for path in files("openapi") if path.stem in SERVICES]


@pytest.mark.parametrize("path", SERVICES_SURFACES, ids=lambda path: path.stem)
def test_whatever_needs_the_token_says_so_and_every_problem_is_a_problem(path: Path) -> None:
    for at, methods in opened(path)["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == ("security" in operation or "/shopify" in at), at
            for status, answer in operation["responses"].items():
                if status >= "400" and at != "/readyz":
                    assert list(answer["content"]) == ["application/problem+json"]


def test_the_console_says_what_needs_a_session_which_forms_need_what_and_how_it_turns_down() -> None:
    document = opened(SCHEMAS / "openapi" / "console.json")
    for at, methods in document["paths"].items():
        for method, told in methods.items():
            assert ("401" in told["responses"]) == ("security" in told), at
            if "security" in told:
                assert told["responses"]["303"]["headers"]["Location"]["required"], at
            if method == "post":
                schema = told["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
                assert ("csrf" in schema["required"]) == ("security" in told), at
                assert all("description" in field or "enum" in field for field in schema["properties"].values()), at
                assert "413" in told["responses"], at
            for status, answer in told["responses"].items():
                if status >= "400" and status not in ("401", "403") and at != "/readyz":
                    assert {"text/html", "application/problem+json"} <= set(answer["content"]), at


# What was committed binds: on repositories of their own


class Repository:
    """A git repository with today's schemas committed."""

    def __init__(self, folder: Path, made: dict[str, Json]) -> None:
        self.folder = folder
        self.schemas = folder / FOLDER
        self.made = made
        shutil.copytree(SCHEMAS / "examples", self.schemas / "examples")
        write(self.schemas, made)
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def git(self, *command: str) -> None:
        who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *command], cwd=self.folder, check=True, capture_output=True)

    def commit(self, subject: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)

    def add_field(self) -> None:
        """One that today's model does not have."""
        schema = copy.deepcopy(self.made[HELD])
        schema["properties"]["formerly"] = {"type": "string"}
        write(self.schemas, self.made | {HELD: schema})

    def take_it_away(self) -> None:
        write(self.schemas, self.made)

    def breaks(self) -> list[str]:
        return [str(each) for each in new_breaks(self.schemas, self.made)]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ordermill.schemas", *options],
            cwd=self.folder,
            env={"PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def made() -> dict[str, Json]:
    return generate(SCHEMAS)


@pytest.fixture
def repository(tmp_path: Path, made: dict[str, Json]) -> Repository:
    return Repository(tmp_path / "repository", made)


HELD = "messages/oms.capture.order-held.v1.json"


def test_a_stale_file_is_named_and_written_anew(repository: Repository) -> None:
    write(repository.schemas, repository.made | {HELD: {**repository.made[HELD], "description": "something else"}})
    checked = repository.run("--check")
    assert (checked.returncode, checked.stderr.strip()) == (1, f"schemas/{HELD} is stale: run make schemas and commit")
    assert repository.run().stdout == f"schemas/{HELD}\n"


def test_a_break_writes_nothing_and_says_what_to_do(repository: Repository) -> None:
    repository.add_field()
    before = (repository.schemas / HELD).read_text()
    found = repository.run()
    assert (found.returncode, found.stdout) == (1, "")
    assert f"schemas/{HELD}: formerly: field-removed" in found.stderr
    assert "add a new one with an upcaster" in found.stderr
    assert (repository.schemas / HELD).read_text() == before


def test_a_break_is_caught_though_committed_with_its_schema_and_long_ago(repository: Repository) -> None:
    assert repository.breaks() == []
    repository.add_field()
    repository.commit("what consumers relied on")
    repository.take_it_away()
    repository.commit("the break, its schema made anew")
    repository.git("commit", "-q", "--allow-empty", "-m", "and another")
    [found] = repository.breaks()
    assert found.startswith(f"schemas/{HELD}: formerly: field-removed")


def test_a_deliberate_break_is_accepted_by_name_and_only_as_long_as_there_is_one(repository: Repository) -> None:
    repository.add_field()
    repository.commit("never published")
    repository.take_it_away()
    accepted = repository.schemas / "accepted-breaks.toml"
    entry = f'[[accepted]]\nfile = "{HELD}"\npath = "formerly"\nrule = "field-removed"\nbecause = "never published"\n'
    accepted.write_text(entry)
    assert repository.breaks() == []
    accepted.write_text(entry + entry.replace("formerly", "never"))
    [found] = repository.breaks()
    assert "accepted, but nothing of the kind is broken" in found


def test_what_was_only_on_a_branch_binds_nobody(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "try")
    repository.add_field()
    repository.commit("a try")
    repository.take_it_away()
    repository.commit("thought better of it")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "try")
    assert repository.breaks() == []


def test_an_old_version_is_kept_as_it_was_and_missed_when_gone(repository: Repository) -> None:
    old = "messages/oms.tracking.shipment-delivered.v1.json"
    assert Path(old).stem not in BY_TYPE
    assert repository.made[old] == opened(SCHEMAS / old)
    (repository.schemas / old).unlink()
    with pytest.raises(OldVersionLost, match="take the file back with git"):
        generate(repository.schemas)


def test_a_clone_without_history_is_not_taken_for_a_clean_one(repository: Repository, tmp_path: Path) -> None:
    repository.git("commit", "-q", "--allow-empty", "-m", "second")
    shallow = tmp_path / "shallow"
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.folder}", str(shallow))
    with pytest.raises(NoHistory, match="git fetch --unshallow"):
        new_breaks(shallow / FOLDER, repository.made)
    repository.git("-C", str(shallow), "fetch", "-q", "--unshallow")
    assert new_breaks(shallow / FOLDER, repository.made) == []
