"""Settings, from `OMS_…` variables, the same everywhere. Read once at start, passed on as values."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.network import default_network_text


class PlatformSettings(BaseSettings):
    """What all services share; `oms doctor` shows them, secrets masked."""

    model_config = SettingsConfigDict(env_prefix="OMS_", frozen=True, extra="ignore")

    kafka: str = Field(description="Kafka bootstrap servers, host:port, comma-separated.")
    api_token: SecretStr = Field(description="Bearer token that HTTP callers must show.")
    keyring_url: SecretStr = Field(description="PostgreSQL URL of the keyring's database.")
    master_key: SecretStr = Field(description="Wraps the customers' keys: 32 bytes, base64.")
    link_secret: SecretStr = Field(description="Makes customers' links unguessable: 32 bytes, base64.")
    instance: str = Field("1", description="Names this instance of a service among its like; static group membership.")
    partitions: int = Field(4, ge=1, le=512, description="Partitions of topics that this installation makes.")
    replication: int = Field(1, ge=1, le=9, description="Copies of each partition.")
    fetch_wait_ms: int = Field(500, ge=1, le=10_000, description="How long the broker may hold back an empty fetch.")
    batch_max: int = Field(500, ge=1, le=10_000, description="Messages per poll, so per transaction.")
    workers: int = Field(1, ge=1, le=64, description="Polls a service works on side by side, by partition.")
    retries: int = Field(5, ge=0, le=100, description="How often a message that may pass by itself is tried again.")
    network_file: Path | None = Field(
        None, description="Locations and carriers, TOML; the built-in network if not set."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    session_timeout_ms: int = Field(10_000, ge=500, le=300_000, description="Silence after which a member is out.")
    static_membership: bool = Field(True, description="Keep an instance's partitions over a restart of it.")
    idempotent_producer: bool = Field(True, description="Off for brokers without it (the embedded one).")
    clock_origin: datetime | None = Field(None, description="Demo: what a scaled clock showed at OMS_CLOCK_STARTED.")
    clock_started: datetime | None = Field(None, description="Demo: the real time at which it showed that.")
    clock_speed: float = Field(1.0, gt=0, le=1_000_000, description="Demo: seconds that pass in one real second.")

    def network_text(self) -> str:
        """The merchant's network, TOML: the file that is named, or the built-in one."""
        return self.network_file.read_text() if self.network_file else default_network_text()


class ServiceSettings(BaseSettings):
    """One service's own settings, from `OMS_<SERVICE>_…`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="The service's role on its log: may insert and select events.")
    host: str = Field("127.0.0.1", description="Address its HTTP listens on.")
    port: int = Field(0, ge=0, le=65_535, description="Port its HTTP listens on.")


def settings_of(service: str) -> ServiceSettings:
    """Read `OMS_<SERVICE>_…`. Raises pydantic's ValidationError, which names what is missing or wrong."""
    return ServiceSettings(_env_prefix=f"OMS_{service.upper()}_")
