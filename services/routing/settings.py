"""Settings of the routing service, from `OMS_ROUTING_…`; `oms doctor` shows them."""

from __future__ import annotations

from pydantic import Field, FilePath
from pydantic_settings import BaseSettings, SettingsConfigDict


class RoutingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_ROUTING_", frozen=True, extra="ignore")

    policy_file: FilePath | None = Field(None, description="What plans cost and may do, TOML; built in if not set.")
