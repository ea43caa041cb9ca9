"""Settings of the capture service, from `OMS_CAPTURE_…`; `oms doctor` shows them, secrets masked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CaptureSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_CAPTURE_", frozen=True, extra="ignore")

    shopify_secret: SecretStr | None = Field(None, description="Signs Shopify's webhooks; none are taken without it.")
    inbox: Path | None = Field(None, description="Folder watched for files: <inbox>/<format>/<channel>/<file>.")
    trusted_channels: frozenset[str] = Field(
        frozenset(),
        description="Channels whose payloads may carry our own extension (the demo's): nobody else writes them.",
    )
