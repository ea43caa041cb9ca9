"""Settings of the inventory service, from `OMS_INVENTORY_…`; `oms doctor` shows them."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InventorySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_INVENTORY_", frozen=True, extra="ignore")

    backorder_cap: int = Field(1_000, ge=0, description="Units of one SKU that may wait for stock at once.")
