"""Settings of the returns service, from `OMS_RETURNS_…`; `oms doctor` shows them."""

from __future__ import annotations

from pydantic import Field, FilePath
from pydantic_settings import BaseSettings, SettingsConfigDict


class ReturnsSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_RETURNS_", frozen=True, extra="ignore")

    policy_file: FilePath | None = Field(None, description="What may come back, TOML; built in if not set.")
