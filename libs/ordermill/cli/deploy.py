"""What a deployment's one-shot containers do, before its services start."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ordermill.deployment import Deployment

app = typer.Typer(help="Set up an installation whose parts run in containers.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(help="A folder with a folder for each container.")]
KafkaOption = Annotated[str, typer.Option(help="Where the containers reach Kafka.")]
PostgresOption = Annotated[str, typer.Option(help="Where they reach PostgreSQL.")]


@app.command()
def secrets(
    folder: FolderArgument,
    kafka: KafkaOption = "kafka:9092",
    postgres: PostgresOption = "postgres:5432",
    demo_speed: Annotated[
        float | None,
        typer.Option(min=1, max=1_000_000, envvar="OMS_DEMO_SPEED", help="Make it a demo: the story's speed."),
    ] = None,
) -> None:
    """Make the secrets that are missing, and tell each container's folder what that container needs. Safe to repeat."""
    _deployment(folder, kafka, postgres).lay_out(demo_speed)
    typer.echo(f"{folder}: secrets and settings are there", err=True)


@app.command()
def databases(
    folder: FolderArgument,
    kafka: KafkaOption = "kafka:9092",
    postgres: PostgresOption = "postgres:5432",
) -> None:
    """Make the databases, roles, tables and topics that are missing. Safe to repeat, and while services run."""
    from ordermill.installation import adopt_environment
    from ordermill.service.logs import configure_logging

    configure_logging("deploy", "WARNING")
    os.environ["OMS_HOME"] = str(folder / "installation")
    adopt_environment()
    asyncio.run(_prepare(_deployment(folder, kafka, postgres)))
    typer.echo("databases, roles, tables and topics are there", err=True)


async def _prepare(deployment: Deployment) -> None:
    from ordermill.names import SERVICES
    from ordermill.service.kafka import ensure_topics
    from ordermill.service.run import kafka_of, until
    from ordermill.service.settings import PlatformSettings
    from ordermill.service.topics import all_topics

    await deployment.prepare()
    await until(asyncio.Event(), lambda: ensure_topics(kafka_of(PlatformSettings()), all_topics(SERVICES)))


def _deployment(folder: Path, kafka: str, postgres: str) -> Deployment:
    from ordermill.deployment import Deployment

    return Deployment(folder, kafka, postgres)
