"""The merchant's network: the places that hold stock and the carriers that take parcels from them. Read from TOML."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Sequence
from datetime import time
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Country, Currency, Id, LocationId, Part, Text
from ordermill.errors import Refused
from ordermill.geo import ABROAD, DISTANCE_ZONES


class NetworkInvalid(Refused):
    """The network file does not describe a network."""

    code = "network.invalid"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone: an IANA name expected") from None
    return name


def _no_offset(moment: time) -> time:
    if moment.tzinfo is not None:
        raise ValueError("a local time of day has no offset: its zone stands beside it")
    return moment


Zone = Annotated[str, AfterValidator(_zone), Field(examples=["America/New_York"])]
LocalTime = Annotated[time, AfterValidator(_no_offset)]
Minor = Annotated[int, Field(ge=0, le=10**9, strict=True)]
"""Minor units of the network's currency."""

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
ByZone = Field(min_length=DISTANCE_ZONES, max_length=ABROAD, examples=[[90, 95, 105, 120, 145, 165, 190, 220]])


class LocationKind(StrEnum):
    WAREHOUSE = "warehouse"
    SHOP = "shop"


class Weekday(StrEnum):
    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


WEEKDAYS = tuple(Weekday)
"""In the order of `date.weekday()`."""


class Location(Part):
    """A place that holds stock and ships."""

    id: LocationId = Field(examples=["reno"])
    name: Text = Field(examples=["Reno warehouse"])
    kind: LocationKind = Field(examples=["warehouse"])
    street: Text = Field(examples=["1200 Greg Street"])
    city: Text = Field(examples=["Sparks"])
    region: Text = Field("", examples=["NV"])
    postal_code: Text = Field(examples=["89434"])
    country: Country = Field(examples=["US"])
    point: tuple[Latitude, Longitude] = Field(
        examples=[[39.5502, -119.7178]], description="latitude and longitude, WGS 84, in degrees"
    )
    zone: Zone
    cut_off: LocalTime = Field(
        examples=[time(15)],
        description="what is routed before this local time starts its handling days today",
    )
    handling_days: int = Field(0, ge=0, le=30, strict=True, examples=[0], description="working days before handover")
    working_days: tuple[Weekday, ...] = Field(WEEKDAYS[:5], min_length=1, examples=[list(WEEKDAYS[:5])])
    enabled: bool = Field(
        True, strict=True, examples=[True], description="false: nothing ships from it, its free units are not for sale"
    )


class CarrierService(Part):
    """One way in which a carrier takes parcels. Lists go by zone 1 to 8; a ninth entry: it also ships abroad."""

    id: Id = Field(examples=["ground"])
    name: Text = Field(examples=["Cedar Ground"])
    levels: tuple[ServiceLevel, ...] = Field(min_length=1, examples=[["standard"]])
    base_minor: Minor = Field(examples=[590], description="the price of a parcel before its weight, in minor units")
    per_kg_minor: tuple[Minor, ...] = ByZone
    transit_days: tuple[Annotated[int, Field(ge=1, le=60, strict=True)], ...] = Field(
        min_length=DISTANCE_ZONES,
        max_length=ABROAD,
        examples=[[1, 1, 2, 3, 3, 4, 5, 5]],
        description="business days from handover to delivery",
    )
    delivers_until: LocalTime = Field(time(20), examples=[time(20)], description="local time at the destination")

    @model_validator(mode="after")
    def _as_many_prices_as_days(self) -> Self:
        if len(self.per_kg_minor) != len(self.transit_days):
            raise ValueError("per_kg_minor and transit_days must have an entry for the same zones")
        return self


class Carrier(Part):
    id: Id = Field(examples=["cedar"])
    name: Text = Field(examples=["Cedar Parcel"])
    services: tuple[CarrierService, ...] = Field(min_length=1)


class Elsewhere(Part):
    """Where an address is taken to lie that nothing is known of."""

    point: tuple[Latitude, Longitude] = Field(examples=[[39.8283, -98.5795]])
    zone: Zone


class Network(Part):
    """All locations and carriers. Immutable: a change is a new file, adopted with the routing policy."""

    currency: Currency = Field(examples=["USD"])
    elsewhere: Elsewhere
    locations: tuple[Location, ...] = Field(min_length=1)
    carriers: tuple[Carrier, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        _unique("location", [location.id for location in self.locations])
        _unique("carrier", [carrier.id for carrier in self.carriers])
        for carrier in self.carriers:
            _unique(f"service of {carrier.id}", [service.id for service in carrier.services])
        return self

    @cached_property
    def by_id(self) -> dict[str, Location]:
        """Each location by its id, disabled ones too."""
        return {location.id: location for location in self.locations}

    @cached_property
    def location_ids(self) -> frozenset[str]:
        return frozenset(self.by_id)

    @cached_property
    def shipping_ids(self) -> frozenset[str]:
        return frozenset(location.id for location in self.locations if location.enabled)


def _unique(what: str, ids: Sequence[str]) -> None:
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ValueError(f"{what} ids must differ; more than once: {', '.join(twice)}")


@lru_cache(maxsize=64)
def read_network(text: str, source: str = "network.toml") -> Network:
    """The network that `text` (TOML) describes. Raises NetworkInvalid, which names every faulty key."""
    return read_toml(Network, text, source, NetworkInvalid)


def default_network_text() -> str:
    """The network of the demo: eight places in the United States, two carriers."""
    return (resources.files("ordermill") / "network.toml").read_text("utf-8")


def text_of(path: Path, error: type[Refused]) -> str:
    """What stands in a settings file. Raises `error` if it can't be read, or is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path} can't be read: {fault}. Save it as UTF-8") from None


M = TypeVar("M", bound=BaseModel)


def read_toml(model: type[M], text: str, source: str, error: type[Refused]) -> M:
    """`text` as a `model`. Raises `error`: for each faulty key its name, what was expected, how to set it."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:  # more than TOMLDecodeError: too many digits or brackets
        raise error(f"{source} is not TOML: {fault}. See https://toml.io") from None
    try:
        return model.model_validate(content)
    except ValidationError as faults:
        lines = [_explain(model, content, fault) for fault in faults.errors(include_url=False)]
        raise error(f"{source}: " + "; ".join(lines)) from None


def _explain(model: type[BaseModel], content: Any, fault: Any) -> str:
    *path, key = fault["loc"] or ("",)
    where, owner = _walk(model, content, path)
    field = owner.model_fields.get(str(key)) if owner is not None else None
    full = f"{where}.{key[:80]}".strip(".") if isinstance(key, str) else _walk(model, content, fault["loc"])[0]
    if fault["type"] == "extra_forbidden" and owner is not None:
        near = get_close_matches(str(key), owner.model_fields, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        return f"`{full}`: unknown key; {hint}Known here: {', '.join(owner.model_fields)}"
    if not full:
        return str(fault["msg"]).removeprefix("Value error, ")
    found = "" if isinstance(fault["input"], dict) else f"found {_toml(fault['input'])[:60]}"
    if fault["type"] == "missing":
        found = "missing"
    expected = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Field required")
    about = (field.description or "") if field else ""
    how = f"set it like `{key} = {_toml(field.examples[0])}`" if field and field.examples else ""
    return f"`{full}`: " + "; ".join(part for part in (expected, found, about, how) if part)


def _walk(model: type[BaseModel], content: Any, path: Sequence[Any]) -> tuple[str, type[BaseModel] | None]:
    """The name of the place that `path` leads to, list entries by their ids, and the model that describes it."""
    where, here = "", content
    annotation: Any = model
    for step in path:
        try:
            here = here[step]
        except (LookupError, TypeError):
            here = None  # what is missing has a place too
        owner = _model_in(annotation)
        if isinstance(step, str):
            where = f"{where}.{step}".strip(".")
            annotation = owner.model_fields[step].annotation if owner else None
        else:
            where += f"[{here.get('id', step) if isinstance(here, dict) else step}]"
    return where, _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `annotation`, be it a model, a tuple or a union of it."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) is None:
        return None
    return next((found for one in get_args(annotation) if (found := _model_in(one))), None)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return value.isoformat() if isinstance(value, time) else str(value)
