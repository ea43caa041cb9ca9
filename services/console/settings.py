"""Settings of the console, from `OMS_CONSOLE_…`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ConsoleSettings(BaseSettings):
    """Who gets in, and what the pages are served under. Where it listens and its database are as for any service."""

    model_config = SettingsConfigDict(env_prefix="OMS_CONSOLE_", frozen=True, extra="ignore")

    token: SecretStr = Field(min_length=20, description="Logs people in; at least 20 characters.")
    hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1"), description="Host names that browsers may call it by, JSON list."
    )
    secure_cookies: bool = Field(
        False, description="On where it is reached over HTTPS: for cookies and for customers' links."
    )
    session_for: timedelta = Field(timedelta(hours=12), description="After this people log in again.")
