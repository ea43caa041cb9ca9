"""Personal data. It rests in logs and on topics only sealed, under a key of its customer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .fields import PERSONAL, Part, Text


class Person(Part):
    """Who a parcel goes to and how to reach them. Never stored or published unless sealed."""

    name: Text = Field("", json_schema_extra=PERSONAL)
    company: Text = Field("", json_schema_extra=PERSONAL)
    street: Annotated[tuple[Text, ...], Field(max_length=4, json_schema_extra=PERSONAL)] = ()
    city: Text = Field("", json_schema_extra=PERSONAL)
    phone: Text = Field("", json_schema_extra=PERSONAL)
    email: Text = Field("", json_schema_extra=PERSONAL)
