"""Templates, and the few words and numbers that all pages write alike."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
from fastapi import Depends, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ordermill.clock import Clock
from ordermill.contracts.fields import MINOR_DIGITS, Money
from ordermill.keyring import Keyring
from ordermill.network import Network
from ordermill.service.settings import PlatformSettings

from .conservation import Conservation
from .doors import Doors
from .live import Live
from .security import Sessions
from .settings import ConsoleSettings
from .watch import Watch

HERE = Path(__file__).parent
ZONE_COOKIE = "ordermill_zone"
NOTICE_COOKIE = "ordermill_notice"
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
NAVIGATION: list[tuple[str, str]] = [
    ("/", "Queue"),
    ("/stock", "Stock"),
    ("/routing", "Routing"),
    ("/floor", "Floor"),
    ("/returns", "Returns"),
    ("/machine", "Machine room"),
    ("/reference", "Reference"),
]
"""(path, label) of what stands at the top of each page."""


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"money": money, "said": said, "words": words, "number": number, "minor": minor}
    made.globals |= {"form_id": lambda: uuid4().hex, "navigation": NAVIGATION}
    return made


@dataclass(frozen=True)
class Console:
    """What every page is made from."""

    settings: ConsoleSettings
    platform: PlatformSettings
    clock: Clock
    pool: asyncpg.Pool
    live: Live
    doors: Doors
    keyring: Keyring
    network: Network
    watch: Watch
    conservation: Conservation
    environment: Environment = field(default_factory=environment)


def console(request: Request) -> Console:
    """The console that this request came to."""
    return request.app.state.console  # type: ignore[no-any-return]


This = Annotated[Console, Depends(console)]


def address(request: Request, settings: ConsoleSettings) -> str:
    """Under which people reach this console, without a slash at the end. A proxy with TLS before it does not show."""
    base = request.base_url
    return str(base.replace(scheme="https") if settings.secure_cookies else base).rstrip("/")


def zone_of(request: Request) -> ZoneInfo:
    """The reader's time zone, as their browser named it; UTC until it did."""
    try:
        return ZoneInfo(request.cookies.get(ZONE_COOKIE, "UTC")[:64])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def render(request: Request, template: str, in_zone: ZoneInfo | None = None, **context: Any) -> str:
    """A template with what all of them may use: `me`, `now`, `when`, `day`, `ago`, `csrf`, `path`.

    `in_zone`: whose times it shows, where that is not the reader's zone.
    """
    this = console(request)
    zone, now = in_zone or zone_of(request), this.clock()
    sessions: Sessions = request.app.state.sessions
    me = sessions.of(request)
    return this.environment.get_template(template).render(
        me=me,
        csrf=me.csrf if me else "",
        path=request.url.path,
        now=now,
        zone=zone.key,
        when=lambda at: moment(at, zone, now),
        day=lambda at: day(at, zone),
        ago=lambda at: distance(at, now),
        **context,
    )


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page. A notice that waited for it is shown once."""
    notice = _waiting(request)
    answer = HTMLResponse(render(request, template, notice=notice, **context), status)
    if notice is not None:
        answer.delete_cookie(NOTICE_COOKIE)
    return answer


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of what a person did."""

    kind: Literal["done", "same", "refused"]
    text: str


def _waiting(request: Request) -> Notice | None:
    kind, _, text = request.cookies.get(NOTICE_COOKIE, "").partition("|")
    if kind not in ("done", "same", "refused"):
        return None
    return Notice(kind, bytes.fromhex(text).decode(errors="replace") if re.fullmatch("(?:[0-9a-f]{2})+", text) else "")  # type: ignore[arg-type]


def answer(request: Request, notice: Notice, back: str) -> Response:
    """To a form: the notice where the page stays open, else back to the page, which shows it once.

    `back` must be a path of ours.
    """
    if request.headers.get("HX-Request"):
        return HTMLResponse(render(request, "notice.html", notice=notice, out_of_band=True))
    sent = RedirectResponse(back if re.match(r"/(?![/\\])", back) else "/", 303)
    text = notice.text.encode()[:1_200].hex()
    sent.set_cookie(NOTICE_COOKIE, f"{notice.kind}|{text}", max_age=60, httponly=True, samesite="lax")
    return sent


# Words and numbers


def said(text: object) -> Markup:
    """Text from outside: isolated, so that its writing direction stays its own, and without characters nobody sees."""
    return Markup("<bdi>") + _UNSEEN.sub("", str(text)) + Markup("</bdi>")


def words(name: object) -> str:
    """`failed-effect` or `partially_shipped` as a person writes it."""
    return str(name).replace("-", " ").replace("_", " ")


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def money(amount: Money | None) -> str:
    return "–" if amount is None else str(amount)


def minor(value: int | None, currency: str) -> str:
    """`1299, "USD"` as `12.99 USD`."""
    if value is None:
        return "–"
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{value / 10**digits:,.{digits}f} {currency}"


def local(at: datetime, zone: ZoneInfo) -> datetime:
    """On the reader's clock; in UTC at the ends of the calendar, where there is no such time on that clock."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.astimezone(UTC)


def moment(at: datetime | None, zone: ZoneInfo, now: datetime) -> Markup:
    """An instant on the reader's clock; the date only where it is not today's."""
    if at is None:
        return Markup("–")
    here = local(at, zone)
    same_day = here.date() == now.astimezone(zone).date()
    text = f"{here:%H:%M:%S}" if same_day else f"{here:%b} {here.day}, {here:%H:%M}"
    if abs(now - at) > timedelta(days=300):
        text = f"{here:%b} {here.day} {here:%Y}, {here:%H:%M}"
    return _time(at.astimezone(UTC).isoformat(), text, f"{here:%Y-%m-%d %H:%M:%S} {here.tzinfo}")


def _time(iso: str, text: str, title: str = "") -> Markup:
    """Put together rather than formatted: pages hold hundreds of them, and Markup's format is slow."""
    titled = Markup('" title="') + title if title else Markup()
    return Markup('<time datetime="') + iso + titled + Markup('">') + text + Markup("</time>")


@lru_cache(maxsize=2_000)
def day(at: datetime | None, zone: ZoneInfo) -> Markup:
    """The reader's calendar day of an instant."""
    if at is None:
        return Markup("–")
    here = local(at, zone)
    return _time(at.astimezone(UTC).isoformat(), f"{here:%a, %b} {here.day}")


def distance(at: datetime | None, now: datetime) -> str:
    """`3 h ago`, `in 2 days`."""
    if at is None:
        return "–"
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if size >= length:
            count = int(size // length)
            text = f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "now"
