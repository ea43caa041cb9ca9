"""Settings, from `OMS_…` variables, the same everywhere. Read once at start, passed on as values."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import datetime
from socket import gethostname
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, FilePath, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.network import NetworkInvalid, default_network_text, text_of

_SERVERS = re.compile(r"[^\s,:/]+:\d{1,5}(,[^\s,:/]+:\d{1,5})*")


def _servers(text: str) -> str:
    if not _SERVERS.fullmatch(text):
        raise ValueError("expected host:port, several with commas between")
    return text


def _postgres_url(secret: SecretStr) -> SecretStr:
    url = urlsplit(secret.get_secret_value())
    if url.scheme not in ("postgresql", "postgres") or not url.path.strip("/"):
        raise ValueError("expected postgresql://role:password@host:port/database")
    return secret


def _key(secret: SecretStr) -> SecretStr:
    try:
        size = len(b64decode(secret.get_secret_value(), validate=True))
    except ValueError:
        size = 0
    if size != 32:
        raise ValueError("expected 32 bytes in base64, as `openssl rand -base64 32` makes them")
    return secret


Servers = Annotated[str, AfterValidator(_servers)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
Key = Annotated[SecretStr, AfterValidator(_key)]


class PlatformSettings(BaseSettings):
    """What all services share; `oms doctor` shows them, secrets masked."""

    model_config = SettingsConfigDict(env_prefix="OMS_", frozen=True, extra="ignore")

    kafka: Servers = Field(description="Kafka bootstrap servers, host:port, comma-separated.")
    api_token: SecretStr = Field(description="Bearer token that HTTP callers must show.")
    keyring_url: PostgresUrl = Field(description="PostgreSQL URL of the keyring's database.")
    master_key: Key = Field(description="Wraps the customers' keys: 32 bytes, base64.")
    link_secret: Key = Field(description="Makes customers' links unguessable: 32 bytes, base64.")
    checkpoint_key: Key | None = Field(
        None, description="Signs checkpoints of the logs (Ed25519): 32 bytes, base64. Not set: none are made."
    )
    checkpoint_every_s: float = Field(
        300, ge=0.1, le=86_400, description="Seconds from one checkpoint of what is new in a log to the next."
    )
    instance: str = Field("", description="Names this instance among its like; the host's name if not set.")
    partitions: int = Field(4, ge=1, le=512, description="Partitions of topics that this installation makes.")
    replication: int = Field(1, ge=1, le=9, description="Copies of each partition.")
    fetch_wait_ms: int = Field(500, ge=1, le=10_000, description="How long the broker may hold back an empty fetch.")
    batch_max: int = Field(500, ge=1, le=10_000, description="Messages per poll, so per transaction.")
    workers: int = Field(1, ge=1, le=64, description="Polls a service works on side by side, by partition.")
    retries: int = Field(5, ge=0, le=100, description="How often a message that may pass by itself is tried again.")
    network_file: FilePath | None = Field(
        None, description="Locations and carriers, TOML; the built-in network if not set."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    session_timeout_ms: int = Field(10_000, ge=500, le=300_000, description="Silence after which a member is out.")
    static_membership: bool = Field(True, description="Give an instance that crashed its partitions back at once.")
    idempotent_producer: bool = Field(True, description="Off for brokers without it (the embedded one).")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+",
        description="Where traces go: an OpenTelemetry collector's base URL, OTLP over HTTP. Not set: no traces.",
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of new traces that is recorded; a trace begun elsewhere does as it began."
    )
    clock_origin: datetime | None = Field(None, description="Demo: what a scaled clock showed at OMS_CLOCK_STARTED.")
    clock_started: datetime | None = Field(None, description="Demo: the real time at which it showed that.")
    clock_speed: float = Field(1.0, gt=0, le=1_000_000, description="Demo: seconds that pass in one real second.")

    @property
    def member(self) -> str:
        """What Kafka knows this instance by. Two of a kind under one name would put each other out of their group."""
        return self.instance or gethostname()

    def network_text(self) -> str:
        """The merchant's network, TOML: the file that is named, or the built-in one. Raises NetworkInvalid."""
        return text_of(self.network_file, NetworkInvalid) if self.network_file else default_network_text()


class ServiceSettings(BaseSettings):
    """One service's own settings, from `OMS_<SERVICE>_…`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: PostgresUrl = Field(description="The service's role on its log: may insert and select events.")
    host: str = Field("127.0.0.1", description="Address its HTTP listens on.")
    port: int = Field(0, ge=0, le=65_535, description="Port its HTTP listens on.")


def settings_of(service: str) -> ServiceSettings:
    """Read `OMS_<SERVICE>_…`. Raises pydantic's ValidationError, which names what is missing or wrong."""
    return ServiceSettings(_env_prefix=f"OMS_{service.upper()}_")
