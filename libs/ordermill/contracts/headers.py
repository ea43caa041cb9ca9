"""Headers of a message: CloudEvents 1.0 attributes in Kafka's binary mode (`ce_…`), UTF-8, JSON in the value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .fields import Instant

Plain = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\u0000-\u001f\u007f]+$")]
Number = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]


class OutsideHeaders(BaseModel):
    """What a channel, a carrier or a location says of its message. Further headers are left alone."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ce_specversion: Literal["1.0"]
    ce_id: Plain
    """With `ce_source` unique: the same two again are the same message, however often it is sent."""
    ce_source: Plain
    """Who sends it; a URI reference, such as `/channels/web-shop`."""
    ce_type: str
    """The message's type and version; the value has the shape that its JSON Schema describes."""
    ce_time: Instant | None = None
    """When it happened; when it came in, if not given."""
    ce_correlationid: Plain | None = None
    """Joins all that follows from one cause; the message's own id, if not given."""
    ce_traceparent: str | None = None
    """W3C trace context, where the sender traces; a plain `traceparent` says the same."""
    traceparent: str | None = None
    content_type: Literal["application/json"] | None = Field(None, alias="content-type")


class StateHeaders(BaseModel):
    """What a service says of a latest state. `ce_id` is the key and its revision."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ce_specversion: Literal["1.0"]
    ce_id: str
    """The same again is the same message."""
    ce_source: str
    """`/ordermill/<service>`."""
    ce_type: str
    """The message's type and version."""
    ce_time: Instant
    """When the state was published."""
    ce_subject: str
    """The stream whose state it is; the message's key."""
    content_type: Literal["application/json"] = Field(alias="content-type")


class FactHeaders(StateHeaders):
    """What a service says of a fact. `ce_id` is the event's own, however often it is published."""

    ce_time: Instant
    """When it happened."""
    ce_subject: str
    """The stream that the fact stands in; the message's key."""
    ce_correlationid: str
    """Joins all that follows from one cause."""
    ce_causationid: str
    """The message or command that this fact follows from."""
    ce_actor: str
    """Who caused it: `user:…`, `channel:…`, `system:…`."""
    ce_traceparent: str | None = None
    """W3C trace context, where the service traces; `traceparent` says the same."""
    traceparent: str | None = None
    ce_sequence: Number
    """Its place in the service's log: dense, from 1."""
    ce_streamversion: Number
    """Its place in its stream, from 1: a lower one than you have seen is a repeat."""
