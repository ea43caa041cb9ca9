"""After a run: what must hold, whatever went wrong meanwhile. Each finding is one line that names what and where."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence

from ordermill.audit import audit
from ordermill.audit.origin import origins
from ordermill.contracts.base import decode
from ordermill.contracts.service import DeadLettered, LetterRedriven
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.relay import topics_of
from ordermill.eventlog.verify import verify_store
from ordermill.service.deadletters import LETTERS
from ordermill.simulator.ledger import Entry

from .bus import Bus, header
from .nemesis import Fault
from .outside import SimulatedDoors, poisonous
from .place import Instance, Place

_REPEATING = {
    Fault.CRASH, Fault.FREEZE, Fault.DATABASE_AWAY, Fault.COMMIT_UNANSWERED, Fault.LEAD_LOST, Fault.SEND_FAILED,
    Fault.SEND_UNANSWERED, Fault.AMNESIA,
}  # fmt: skip
"""Faults after which a relay says again what it may have said. So does one whose predecessor's process has ended."""


async def findings(place: Place, doors: SimulatedDoors, settled: bool) -> list[str]:
    """What is wrong; nothing if all is well. `settled`: whether everything came to its end in time."""
    found = [] if settled else ["stuck: not everything came to its end in time"]

    async def read_ledger() -> Sequence[Entry]:
        return place.ledger.entries()

    calm = not place.deaths and not any(struck.fault in _REPEATING for struck in place.nemesis.history)
    books = await audit(place.logs, settled=True, read_ledger=read_ledger)
    told = await origins(place.logs, books.violations) if books.violations else {}
    for violation in books.violations:
        origin = told.get(violation)
        found.append(f"{violation}{f'; {origin}' if origin else ''}")
    for service, log in place.logs.items():
        wrong = await verify_store(log, place.rules[service])
        found += [f"{service}: {violation}" for violation in wrong]
        found += [f"{service}: {text}" for text in _published(service, log, place.bus, calm)]
        found += [f"{service}: {text}" for text in _states(log, place.bus)]
        found += [f"{service}: effect {key} waits for ever" for key in log._effects]
    for service in place.logs:
        leaders = [instance.process.name for instance in place.of(service) if instance.relay.status.leading]
        if settled and len(leaders) > 1:
            found.append(f"{service}: {' and '.join(leaders)} lead one relay")
    for instance in place.instances.values():
        found += [f"{instance.process.name}: {text}" for text in _remembered(instance, place)]
    return found + list(_letters(place, doors))


def _published(service: str, log: MemoryStore, bus: Bus, calm: bool) -> Iterator[str]:
    """What is on the topics is what is in the log, each stream in its order. Repetitions are no news."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for row in log._committed:
        for topic in topics_of(row.type, service):
            wanted.setdefault((topic, row.stream), []).append(str(row.event_id))
    there: dict[tuple[str, str], list[str]] = {}
    for topic in {topic for topic, _ in wanted}:
        for records in bus.records(topic):
            for record in records:
                if header(record, "ce_source") == f"/ordermill/{service}":
                    there.setdefault((topic, header(record, "ce_subject")), []).append(header(record, "ce_id"))
    for topic, stream in sorted(wanted.keys() | there.keys()):
        in_log, came = wanted.get((topic, stream), []), there.get((topic, stream), [])
        on_topic = list(dict.fromkeys(came))
        if calm and len(came) > len(on_topic):
            yield f"topic {topic}, {stream}: {len(came) - len(on_topic)} events are there twice, and no fault had that"
        if in_log != on_topic:
            lost, strange = len(set(in_log) - set(on_topic)), len(set(on_topic) - set(in_log))
            what = f"{lost} events not there, {strange} that are not in the log" if lost or strange else "out of order"
            yield f"topic {topic}, {stream}: {what}"


def _states(log: MemoryStore, bus: Bus) -> Iterator[str]:
    """The last state of each key is the one in the log: it is all that compaction leaves."""
    for (topic, key), (publication, _) in log._publications.items():
        last = [r.value for records in bus.records(topic) for r in records if r.key == key.encode()][-1:]
        if last != [publication.data]:
            yield f"topic {topic}, {key}: the last state there is {'an older one' if last else 'missing'}"


def _remembered(instance: Instance, place: Place) -> Iterator[str]:
    """What a process holds in memory is what its log gives, at whatever version it holds."""
    aggregates = instance.engine.aggregates
    log = place.logs[instance.service.name]
    for stream, held in instance.engine._cache.items():
        rows = log._streams.get(stream, [])[: held.version]
        if len(rows) < held.version:
            yield f"{stream} is remembered at version {held.version}, the log has {len(rows)}"
        elif aggregates.fold(stream, rows) != held:
            yield f"{stream} is remembered at version {held.version} otherwise than the log gives it"


def _letters(place: Place, doors: SimulatedDoors) -> Iterator[str]:
    """A record that nobody can read is kept once by each who reads its topic. Nothing else is, but by whom was of an
    older release and what follows from that; and that is handled after all.
    """
    outdated = {struck.where.rpartition("-")[0] for struck in place.nemesis.history if struck.fault is Fault.OUTDATED}
    kept: Counter[tuple[str, bytes]] = Counter()
    for service, log in place.logs.items():
        waiting: dict[str, DeadLettered] = {}
        for row in log._committed:
            fact = decode(row.type, row.data) if row.stream.startswith(LETTERS.stream("")) else None
            if isinstance(fact, LetterRedriven):
                waiting.pop(fact.letter_id, None)
            elif isinstance(fact, DeadLettered):
                key = b"" if fact.key_base64 is None else b64decode(fact.key_base64)
                if poisonous(fact):
                    kept[service, key] += 1
                else:
                    waiting[fact.letter_id] = fact
                    if service not in outdated:
                        yield f"{service}: a good message is a dead letter: {fact.message_type}: {fact.reason}"
        for letter in waiting.values():
            yield f"{service}: never handled: {letter.message_type}, kept for: {letter.reason}"
    for (service, key), times in kept.items():
        if times > 1:
            yield f"{service}: dead letter {key.decode()} is kept {times} times"
    for sent in doors.poison:
        for service in sent.keepers:
            if not kept[service, sent.key]:
                yield f"{service}: {sent.key.decode()} on {sent.topic} was neither handled nor kept"
