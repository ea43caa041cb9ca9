"""Settings of the capture service, from `OMS_CAPTURE_…`; `oms doctor` shows them, secrets masked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.contracts.fields import ChannelId, Currency


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('no such time zone: expected IANA names, as {"berlin": "Europe/Berlin"}') from None
    return name


Zone = Annotated[str, AfterValidator(_zone)]
ChannelOrStore = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*(/.+)?$")]


class CaptureSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_CAPTURE_", frozen=True, extra="ignore")

    shopify_secret: SecretStr | None = Field(None, description="Signs Shopify's webhooks; none are taken without it.")
    inbox: Path | None = Field(None, description="Folder watched for files: <inbox>/<format>/<channel>/<file>.")
    zones: dict[ChannelOrStore, Zone] = Field(
        {},
        description="JSON, by channel, or channel/store for a till's store: zones of local times without an offset, as "
        '{"berlin": "Europe/Berlin"}. Elsewhere those of X12 are UTC, and others are refused.',
    )
    currencies: dict[ChannelId, Currency] = Field(
        {}, description='JSON, by channel: where a payload names none, as {"berlin": "EUR"}. Elsewhere it is USD.'
    )
    trusted_channels: frozenset[str] = Field(
        frozenset(),
        description="Channels whose payloads may carry our own extension (the demo's): nobody else writes them.",
    )
