"""What of a person's address is kept: all of it, or of one longer than any label as much as a seal holds."""

from __future__ import annotations

from ordermill.contracts.personal import Person

SEALED_BYTES = 5_900
"""Of a person as JSON: what the longest `Sealed` has room for."""
CUT = 120
"""Characters of each text of a person that is longer than that. All of them fit, whatever they are."""


def kept(person: Person) -> Person:
    """`person`, its texts cut if all of it is more than a seal holds."""
    if len(person.model_dump_json(exclude_defaults=True).encode()) <= SEALED_BYTES:
        return person
    return Person(
        name=person.name[:CUT],
        company=person.company[:CUT],
        street=tuple(line[:CUT] for line in person.street),
        city=person.city[:CUT],
        phone=person.phone[:CUT],
        email=person.email[:CUT],
    )
