"""Reads a settled installation's topics and HTTP, nothing else, and says what is wrong. Shares no code with Ordermill.

    python read_topics.py host:port http://127.0.0.1:8105 API_TOKEN      (a broker, the tracking service)

Written from docs/reference/topics.md and events.md: each service's facts are numbered from 1 without a gap, a stream's
versions too, and come in that order on a partition; what comes twice is the same. Each order: ordered = canceled +
shipped, shipped = delivered + lost or back at its sender; HTTP says the same. Each refund is paid once, for what was
asked. No SKU is promised twice. Prints one line a fault and, last, what it read; exit status 1 if there was a fault.
"""

import asyncio
import json
import sys
from collections import defaultdict
from urllib.request import Request, urlopen

from aiokafka import AIOKafkaConsumer

SERVICES = ("capture", "inventory", "routing", "fulfillment", "tracking", "returns")


async def read(bootstrap):
    """All records of the services' facts, in the order of their partitions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        topics = {f"oms.{service}.{kind}" for service in SERVICES for kind in ("events", "stock", "dlq")}
        consumer.subscribe((topics | {"oms.log.checkpoints"}) & await consumer.topics())
        while not (parts := sorted(consumer.assignment())):
            await asyncio.sleep(0.05)
        consumer.unsubscribe()
        records = []
        for part, end in (await consumer.end_offsets(parts)).items():
            consumer.assign([part])
            while await consumer.position(part) < end:
                for polled in (await consumer.getmany(part, timeout_ms=1000)).values():
                    records += polled
        return records
    finally:
        await consumer.stop()


def distinct(records, wrong):
    """Each fact once; that repeats say the same, numbers are dense, and streams are in order on their topics."""
    known, facts, last = {}, [], {}
    for record in records:
        head = {name: value.decode() for name, value in record.headers}
        key = (head["ce_source"], head["ce_id"])
        content = (head["ce_type"], head["ce_sequence"], record.value)
        if known.setdefault(key, content) != content:
            wrong.append(f"{key}: comes twice, with different content")
        elif known[key] is content:
            facts.append((head, json.loads(record.value)))
            stream = (record.topic, record.partition, head["ce_subject"])  # goes on in another if some were added
            version = int(head["ce_streamversion"])
            if version <= last.get(stream, 0):
                wrong.append(f"{stream}: version {version} comes first after version {last[stream]}")
            last[stream] = version
    numbers, versions = defaultdict(list), defaultdict(list)
    for head, _ in facts:
        numbers[head["ce_source"]].append(int(head["ce_sequence"]))
        versions[head["ce_source"], head["ce_subject"]].append(int(head["ce_streamversion"]))
    for what, found in [*numbers.items(), *versions.items()]:
        if sorted(found) != list(range(1, len(found) + 1)):
            wrong.append(f"{what}: {len(found)} facts, numbered up to {max(found)}")
    return sorted(facts, key=lambda fact: (fact[0]["ce_source"], int(fact[0]["ce_sequence"])))


def units(lines):
    return sum(line["quantity"] for line in lines)


def check(facts, wrong):
    """What each order came to: ordered, canceled, shipped, delivered."""
    orders = defaultdict(lambda: {"ordered": 0, "canceled": 0, "shipped": 0, "delivered": 0})
    lost, parcels, ends, asked, paid = defaultdict(int), {}, defaultdict(set), {}, defaultdict(list)
    on_hand, claimed = defaultdict(int), defaultdict(int)
    for head, fact in facts:
        name, sku = head["ce_type"].removeprefix("oms.").rpartition(".")[0], fact.get("sku")
        if name in ("capture.order-captured", "capture.order-revised"):
            orders[fact["order_id"]]["ordered"] = units(fact["lines"])
        elif name == "capture.order-lines-canceled":
            orders[fact["order_id"]]["canceled"] += units(fact["lines"])
        elif name == "fulfillment.shipped":
            orders[fact["order_id"]]["shipped"] += sum(units(package["lines"]) for package in fact["packages"])
        elif name == "tracking.shipment-announced":
            parcels[fact["shipment_id"]] = fact
        elif name in ("tracking.shipment-delivered", "tracking.shipment-lost", "tracking.shipment-came-back"):
            ends[fact["shipment_id"]].add(name)
        elif name in ("capture.refund-requested", "returns.refund-requested"):
            asked[fact["refund_id"]] = fact["amount"]
        elif name in ("capture.refunded", "returns.refund-paid", "capture.refund-failed", "returns.refund-failed"):
            paid[fact["refund_id"]].append(fact.get("amount"))
        elif name in ("inventory.stock-received", "inventory.stock-restocked"):
            on_hand[sku] += fact["quantity"]
        elif name in ("inventory.stock-adjusted", "inventory.stock-counted"):
            on_hand[sku] += fact["delta"]
        elif name in ("inventory.stock-reserved", "inventory.backorder-filled"):
            claimed[sku] += fact["quantity"]
            if claimed[sku] > on_hand[sku]:
                wrong.append(f"{sku}: {claimed[sku]} promised, {on_hand[sku]} there, at number {head['ce_sequence']}")
        elif name == "inventory.stock-let-go" and fact["was"] != "backordered":
            claimed[sku] -= fact["quantity"]
        elif name == "inventory.stock-shipped-out":
            claimed[sku] -= fact["quantity"]
            on_hand[sku] -= fact["quantity"]
    for shipment, names in ends.items():
        came = "tracking.shipment-delivered" in names
        order, count = parcels[shipment]["order_id"], units(parcels[shipment]["lines"])
        lost[order] += 0 if came else count
        orders[order]["delivered"] += count if came else 0
    for order, of in orders.items():
        if of["ordered"] != of["canceled"] + of["shipped"] or of["shipped"] != of["delivered"] + lost[order]:
            wrong.append(f"{order}: {of}, lost {lost[order]}")
    for refund in asked.keys() | paid.keys():
        if len(paid[refund]) != 1 or paid[refund][0] not in (None, asked.get(refund)):
            wrong.append(f"refund {refund}: asked for {asked.get(refund)}, paid {paid[refund]}")
    return orders


def pages(url, token):
    """Every order's status."""
    after = ""
    while after is not None:
        request = Request(f"{url}/order-status?limit=1000&after={after}", headers={"Authorization": f"Bearer {token}"})
        with urlopen(request, timeout=30) as answer:
            page = json.load(answer)
        yield from page["items"]
        after = page["next"]


def compare(orders, url, token, wrong):
    """What tracking's HTTP tells of each order."""
    told = {item["key"]: item for item in pages(url, token)}
    for order, of in orders.items():
        said = {name: told.get(order, {}).get(name) for name in of}
        if said != of:
            wrong.append(f"{order}: topics say {of}, HTTP says {said}")


if __name__ == "__main__":
    faults = []
    everything = asyncio.run(read(sys.argv[1]))
    found = distinct(everything, faults)
    came_to = check(found, faults)
    compare(came_to, sys.argv[2], sys.argv[3], faults)
    summary = f"{len(everything)} records, {len(found)} facts, {len(came_to)} orders, {len(faults)} faults"
    print(*faults, summary, sep="\n")
    sys.exit(1 if faults else 0)
