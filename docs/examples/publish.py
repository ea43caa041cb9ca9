"""Publish JSON lines from stdin to Kafka as CloudEvents, the way any outsider can: nothing here is Ordermill's.

python publish.py TOPIC TYPE SOURCE KEY < messages.jsonl

The same line twice has the same id, so it counts once. The broker is OMS_KAFKA.
"""

import asyncio
import hashlib
import os
import sys

from aiokafka import AIOKafkaProducer


async def publish(topic: str, message_type: str, source: str, key: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=os.environ["OMS_KAFKA"], acks="all") as producer:
        for line in filter(None, map(str.strip, sys.stdin)):
            attributes = {
                "ce_specversion": "1.0",
                "ce_id": hashlib.sha256(line.encode()).hexdigest()[:32],
                "ce_source": source,
                "ce_type": message_type,
            }
            headers = [("content-type", b"application/json")]
            headers += [(name, value.encode()) for name, value in attributes.items()]
            await producer.send_and_wait(topic, line.encode(), key=key.encode(), headers=headers)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(publish(*sys.argv[1:]))
