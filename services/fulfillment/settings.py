"""Settings of the fulfillment service, from `OMS_FULFILLMENT_…`; `oms doctor` shows them."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.service.outbound import ProviderUrl


class FulfillmentSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_FULFILLMENT_", frozen=True, extra="ignore")

    carriers_url: ProviderUrl = Field(description="Where labels are bought: https://host[:port][/path].")
    carriers_key: SecretStr | None = Field(None, description="What it knows us by; sent as a bearer token.")
    carrier_urls: dict[str, ProviderUrl] = Field(
        {}, description='JSON, by carrier: where it is, if elsewhere: {"cedar": "https://…"}.'
    )
    carrier_keys: dict[str, SecretStr] = Field({}, description="JSON, by carrier: what that one knows us by.")
