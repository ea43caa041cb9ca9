"""Publish an order to Ordermill and follow it until it is delivered, knowing nothing but the files in schemas/.

python order.py --kafka HOST:PORT --sku SKU [--stock UNITS] ...
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

Json = dict[str, Any]
SCHEMAS = Path(__file__).parents[3] / "schemas"
STATUS = "oms.tracking.order-status.v1"


class Contracts:
    """Ordermill's published contracts: topics and messages from AsyncAPI files, their shapes from JSON Schema files."""

    def __init__(self, folder: Path) -> None:
        self._topics: dict[str, str] = {}
        self._schemas: dict[str, list[Draft202012Validator]] = {}
        for path in sorted((folder / "asyncapi").glob("*.json")):
            document = json.loads(path.read_bytes())
            for channel in document["channels"].values():
                for name in channel["messages"]:
                    self._topics.setdefault(name, channel["address"])
            for name, message in document["components"]["messages"].items():
                headers = {**message["headers"], "allOf": [_file(path, each) for each in message["headers"]["allOf"]]}
                self._schemas[name] = [_validator(headers), _validator(_file(path, message["payload"]))]

    def topic_of(self, name: str) -> str:
        return self._topics[name]

    def check(self, name: str, headers: Json, payload: Any) -> None:
        """Raises jsonschema's ValidationError."""
        for validator, value in zip(self._schemas[name], (headers, payload), strict=True):
            validator.validate(value)


def _file(path: Path, reference: Json) -> Json:
    found: Json = json.loads((path.parent / reference["$ref"]).read_bytes())
    return found


def _validator(schema: Json) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=FormatChecker())


class Channel:
    """A sales channel of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.contracts = Contracts(options.schemas)
        self.external_id = f"sample-{uuid4()}"
        self.now = datetime.now(UTC).isoformat()
        self.producer = Producer(
            # Idempotent where the broker supports it; the one that comes embedded with Ordermill does not.
            {"bootstrap.servers": options.kafka, "acks": "all", "enable.idempotence": options.idempotent}
        )

    def say(self, **line: str) -> None:
        print(json.dumps({"external_id": self.external_id, **line}, separators=(",", ":")), flush=True)

    def publish(self, name: str, key: str, message_id: str, payload: Json) -> None:
        """The same source and id are the same message, so a message sent again after a failure counts once."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": message_id,
            "ce_source": f"/channels/{self.options.channel}",
            "ce_type": name,
            "ce_time": self.now,
            "content-type": "application/json",
        }
        self.contracts.check(name, headers, payload)
        failed: list[KafkaError] = []

        def settled(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        self.producer.produce(
            self.contracts.topic_of(name), json.dumps(payload).encode(), key, headers=headers, on_delivery=settled
        )
        if self.producer.flush(30) or failed:
            raise SystemExit(f"not sent: {failed or 'the broker does not answer'}")
        self.say(sent=name)

    def stock_up(self) -> None:
        reference = f"stock-{self.external_id}"
        arrived = {
            "location": self.options.location,
            "sku": self.options.sku,
            "reference": reference,
            "happened_at": self.now,
            "quantity": self.options.stock,
        }
        self.publish("oms.location.stock-arrived.v1", self.options.sku, reference, arrived)

    def order(self) -> None:
        quantity, price, none = 2, 1_299, {"minor": 0, "currency": "USD"}
        placed = {
            "channel": self.options.channel,
            "external_id": self.external_id,
            "placed_at": self.now,
            "ship_to": {
                "person": {"name": "Sample Customer", "street": ["1 Sample Street"], "city": "Trenton"},
                "country": "US",
                "region": "NJ",
                "postal_code": "08608",
            },
            "lines": [
                {
                    "line_id": "1",
                    "sku": self.options.sku,
                    "quantity": quantity,
                    "unit_price": {"minor": price, "currency": "USD"},
                    "discount": none,
                    "tax": none,
                }
            ],
            "shipping": none,
            "shipping_tax": none,
            "total": {"minor": quantity * price, "currency": "USD"},
            "payment": {"status": "paid", "reference": self.external_id},
            "allow_backorder": True,  # goods and order go out together, on two topics: either may be read first
        }
        self.publish("oms.channel.order-placed.v1", self.external_id, self.external_id, placed)

    def follow(self) -> bool:
        """Whether it was delivered in time. The topic is read from its start; only the newest of our own counts."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.options.kafka,
                "group.id": f"ordermill-sample-{uuid4()}",
                "enable.auto.commit": False,
            }
        )
        topic = self.contracts.topic_of(STATUS)
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        version, told = -1, ""
        until = time.monotonic() + self.options.timeout
        try:
            while told != "delivered" and time.monotonic() < until:
                message = consumer.poll(0.5)
                if message is None or message.error():
                    continue
                headers = {name: value.decode() for name, value in message.headers() or []}
                if headers.get("ce_type") != STATUS:
                    continue  # a newer version that we do not know yet
                status = json.loads(message.value())
                self.contracts.check(STATUS, headers, status)
                ours = (status["channel"], status["external_id"]) == (self.options.channel, self.external_id)
                if ours and status["version"] > version:
                    version = status["version"]
                    if status["status"] != told:
                        told = status["status"]
                        self.say(status=told)
            return told == "delivered"
        finally:
            consumer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kafka", required=True, help="HOST:PORT")
    parser.add_argument("--sku", required=True)
    parser.add_argument("--stock", type=int, default=0, help="units to bring in first")
    parser.add_argument("--schemas", type=Path, default=SCHEMAS)
    parser.add_argument("--channel", default="python-sample")
    parser.add_argument("--location", default="edison")
    parser.add_argument("--timeout", type=float, default=60, help="seconds")
    parser.add_argument("--idempotent", action="store_true")
    channel = Channel(parser.parse_args())
    try:
        if channel.options.stock:
            channel.stock_up()
        channel.order()
        delivered = channel.follow()
    except ValidationError as error:
        print(f"{error.json_path}: {error.message}", file=sys.stderr)
        return 2
    if not delivered:
        print(f"not delivered within {channel.options.timeout:g} s", file=sys.stderr)
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main())
