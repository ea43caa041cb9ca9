"""Settings of the fulfillment service, from `OMS_FULFILLMENT_…`; `oms doctor` shows them."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FulfillmentSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_FULFILLMENT_", frozen=True, extra="ignore")

    carrier_latency_s: float = Field(0.0, ge=0, le=60, description="How long the built-in carriers take to answer.")
