"""The simulated providers as a process, and how others reach it."""

from __future__ import annotations

from pathlib import Path

import uvicorn
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.network import NetworkInvalid, default_network_text, read_network, text_of
from ordermill.service.logs import configure_logging

from .app import Providers, simulator
from .faults import Behavior
from .ledger import Ledger
from .wire import FaultyProtocol


class SimulatorSettings(BaseSettings):
    """Settings of the simulated providers, from `OMS_SIMULATOR_…`."""

    model_config = SettingsConfigDict(env_prefix="OMS_SIMULATOR_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address it listens on.")
    port: int = Field(ge=1, le=65_535, description="Port it listens on.")
    provider_key: SecretStr = Field(description="What callers show who buy labels or refund money.")
    control_token: SecretStr = Field(description="What callers show who read the ledger or change the behavior.")
    ledger: Path | None = Field(None, description="SQLite file of what was done; in memory if not set.")
    seed: str = Field("1", max_length=80, description="The same seed, keys and behavior: the same faults.")
    behavior: Behavior = Field(Behavior(), description="JSON: how all providers behave at first.")
    network_file: Path | None = Field(
        None, validation_alias="OMS_NETWORK_FILE", description="Whose carriers; the built-in network if not set."
    )


def run_simulator() -> None:
    """Until SIGTERM or SIGINT."""
    settings = SimulatorSettings()
    configure_logging("simulator", "WARNING")
    network = read_network(
        text_of(settings.network_file, NetworkInvalid) if settings.network_file else default_network_text()
    )
    providers = Providers(network, Ledger(settings.ledger), settings.seed, settings.behavior)
    uvicorn.run(
        simulator(providers, settings.provider_key, settings.control_token),
        host=settings.host,
        port=settings.port,
        http=FaultyProtocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
