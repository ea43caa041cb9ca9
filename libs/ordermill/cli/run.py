"""Starting things: a service, the stack, the demo."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()

KafkaOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Another broker than the embedded: the folder of an Apache Kafka to start, or host:port of one that runs.",
    ),
]
AS_FAST_AS_IT_GOES = 86_400.0
"""A day a second: beyond that the clock, not the product, would set the pace."""


@app.command()
def run(service: Annotated[str, typer.Argument(help="Its name, or `all`.")]) -> None:
    """Run one service, the console, or all, with the OMS_… settings in the environment.

    Stops gracefully on Ctrl-C or SIGTERM.
    """
    from ordermill.demo.launch import run_all
    from ordermill.installation import adopt_environment, runner
    from ordermill.names import CONSOLE, SERVICES
    from ordermill.wrong_settings import check_settings

    adopt_environment()
    if service == "all":
        check_settings((*SERVICES, CONSOLE))
        raise typer.Exit(run_all())
    if service not in (*SERVICES, CONSOLE):
        raise typer.BadParameter(f"no service {service!r}; there are: all, {', '.join(SERVICES)}, {CONSOLE}")
    check_settings((service,))
    runner(service)()


@app.command()
def simulator() -> None:
    """Run the simulated carriers and payment provider, with the OMS_SIMULATOR_… settings in the environment.

    A process of its own that services call over HTTP. `oms up` and `oms demo` start one themselves.
    """
    from contextlib import suppress

    from ordermill.installation import NoInstallation, adopt_environment
    from ordermill.simulator.run import SimulatorSettings, run_simulator
    from ordermill.wrong_settings import checked

    with suppress(NoInstallation):  # it needs nothing of one but its own settings
        adopt_environment()
    checked(SimulatorSettings, "simulator")
    run_simulator()


@app.command()
def up(kafka: KafkaOption = None) -> None:
    """Start PostgreSQL, a broker, simulated providers and all services here, in the folder `.ordermill` (or OMS_HOME).

    Set OMS_FULFILLMENT_CARRIERS_URL or OMS_PAYMENTS_URL, with their keys, to have other carriers or another provider.
    """
    from ordermill.demo.launch import Options, launch
    from ordermill.service.logs import configure_logging

    configure_logging("launcher", "WARNING")
    raise typer.Exit(launch(Options(kafka=kafka)))


@app.command()
def demo(
    orders: Annotated[int, typer.Option(min=0, max=150_000, help="How many real baskets become orders.")] = 500,
    speed: Annotated[
        str, typer.Option(help="Seconds of the story in a real one: a number, `real` (1) or `max` (a day a second).")
    ] = "28800",
    end: Annotated[bool, typer.Option("--exit", help="End when all orders are settled.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the closing table as one JSON object.")] = False,
    kafka: KafkaOption = None,
    per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Orders sent in a real second, in place of the story's own pace.")
    ] = None,
) -> None:
    """Real orders from four kinds of channels through six services to the door, and some of them back.

    Exit status with --exit: 0 if everything adds up, 1 if not, 130 if stopped before.
    """
    from ordermill.demo.launch import Options, launch
    from ordermill.service.logs import configure_logging

    configure_logging("launcher", "WARNING")
    options = Options(
        orders=orders,
        speed=_speed(speed),
        hurry=speed == "max",
        end_when_settled=end,
        as_json=as_json,
        kafka=kafka,
        per_second=per_second,
    )
    raise typer.Exit(launch(options))


@app.command()
def world(
    orders: Annotated[int, typer.Option(min=0, max=150_000, help="How many real baskets become orders.")] = 100,
    end: Annotated[bool, typer.Option("--exit", help="End when all orders are settled.")] = False,
) -> None:
    """The demo's outside for services that run elsewhere: channels, warehouses, carriers, customers.

    Needs an installation that was laid out as a demo (`oms deploy secrets --demo-speed`), and its folder in OMS_HOME.
    Each start sends `orders` more, once those before are settled.
    """
    from ordermill.demo.run import run_outside
    from ordermill.installation import adopt_environment, home

    adopt_environment()
    raise typer.Exit(run_outside(home(), orders, end))


def _speed(text: str) -> float:
    named = {"real": 1.0, "max": AS_FAST_AS_IT_GOES}
    try:
        speed = named.get(text) or float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 1_000_000:
        raise typer.BadParameter(f"{text!r}: a number from 1 to 1000000, `real` or `max`", param_hint="--speed")
    return speed
