"""Settings of the tracking service, from `OMS_TRACKING_…`; `oms doctor` shows them."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrackingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_TRACKING_", frozen=True, extra="ignore")

    late_after: timedelta = Field(timedelta(hours=4), description="Grace after a promise before a parcel is late.")
    lost_after: timedelta = Field(timedelta(days=14), description="Silence after which a parcel counts as lost.")
