"""A carrier behind HTTP, as the built-in simulator speaks it.

    POST {url}/carriers/{carrier}/labels
    Idempotency-Key: <label id>
    {"service": "ground", "weight_g": 700, "reference": "…", "sender": {…}, "recipient": {…}}
    -> 201 {"carrier": "cedar", "service": "ground", "tracking_number": "…", "cost": {"minor": 915, "currency": "USD"}}

`sender` and `recipient` have name, company, street (lines), city, region, postal_code and country. 422 with problem
details is a refusal for good. A carrier with an interface of its own gets a file of its own beside this one, which
talks through `Provider` too and passes the suite in `tests/domain/test_carriers.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict

from pydantic import ValidationError

from ordermill.service.outbound import Outbound, Provider, ProviderRefused, ProviderUnavailable

from ..errors import CarrierRefused, CarrierUnavailable
from ..settings import FulfillmentSettings
from .base import BoughtLabel, Carrier, LabelRequest

_WORD = re.compile(r"[^\W\d_]{3,}")
_ANYBODYS = frozenset(
    {"street", "strasse", "road", "avenue", "drive", "lane", "court", "house", "box", "the", "and", "for", "not"}
)
"""Words of many an address, and those without which a reason says something else."""

_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "ł": "l", "đ": "d"})


class HttpCarrier:
    """One carrier of the network."""

    def __init__(self, name: str, provider: Provider) -> None:
        self._name = name
        self._provider = provider

    @property
    def name(self) -> str:
        return self._name

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        try:
            answer = await self._provider.post(f"/carriers/{self._name}/labels", asdict(request), idempotency_key)
            sold = BoughtLabel.model_validate(answer)
        except ProviderRefused as error:
            raise CarrierRefused(self._name, _without_names(error.reason, request)) from None
        except ProviderUnavailable as error:
            raise CarrierUnavailable(self._name, error.reason, error.retry_after_s, error.counts) from error
        except ValidationError as error:
            fields = ", ".join(sorted({str(each["loc"][0]) if each["loc"] else "all" for each in error.errors()}))
            raise CarrierUnavailable(self._name, f"gave an answer that can't be read ({fields})") from None
        if (sold.carrier, sold.service) != (self._name, request.service):
            reason = f"sold a label of {sold.carrier} {sold.service}, asked for {request.service}"
            raise CarrierUnavailable(self._name, reason)
        return sold


def http_carriers(names: Iterable[str], settings: FulfillmentSettings, outbound: Outbound) -> dict[str, Carrier]:
    """The network's carriers, each where the settings say. Raises ProviderInsecure."""
    return {
        name: HttpCarrier(
            name,
            outbound.provider(
                name,
                settings.carrier_urls.get(name, settings.carriers_url),
                settings.carrier_keys.get(name, settings.carriers_key),
            ),
        )
        for name in names
    }


def _without_names(reason: str, request: LabelRequest) -> str:
    """A reason is kept and shown; carriers like to quote whom they could not serve: in part, in capitals, in ASCII."""
    recipient = request.recipient
    private = [each.strip() for each in (recipient.name, recipient.company, *recipient.street, recipient.city)]
    for words in sorted(filter(None, private), key=len, reverse=True):
        reason = re.sub(re.escape(words), "…", reason, flags=re.IGNORECASE)
    names = {plain for words in private for word in _WORD.findall(words) for plain in _spellings(word)}
    return _WORD.sub(lambda found: "…" if names.intersection(_spellings(found[0])) else found[0], reason)


def _spellings(word: str) -> set[str]:
    """A word as those write it who have no letters but the plain ones; none of a word that tells nothing."""
    lower = word.casefold()
    bare = "".join(char for char in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(char))
    return {
        lower,
        bare.translate(_SPELLED_OUT),
        unicodedata.normalize("NFC", lower).translate(_SPELLED_OUT),
    } - _ANYBODYS
