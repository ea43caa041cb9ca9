"""Who may in, and what a browser may do with our pages."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyCookie
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import FormData, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordermill.errors import Refused

from .settings import ConsoleSettings

COOKIE = "ordermill_session"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_FORM_ID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9-]{16,64}")


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is logged in. `csrf` stands in each of their forms."""

    name: str
    csrf: str

    @property
    def actor(self) -> str:
        """As events name them."""
        return f"user:{self.name}"


class LoginNeeded(Exception):
    """A page that only people who are logged in may see."""


class Forged(Refused):
    """A form that did not come from a page of ours."""

    code = "console.forged"

    def __init__(self) -> None:
        super().__init__("this form is not from a page you opened here: load the page again and repeat what you did")


class Sessions:
    """Sessions live in a signed cookie; nothing is stored. Another token voids them all."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._token = settings.token.get_secret_value()
        self._signer = URLSafeTimedSerializer(self._token, salt="ordermill console session")
        self._for = settings.session_for
        self._secure = settings.secure_cookies

    def right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    def begin(self, answer: Response, name: str) -> None:
        session = Session(name, secrets.token_urlsafe(16))
        answer.set_cookie(
            COOKIE,
            self._signer.dumps(asdict(session)),
            max_age=int(self._for.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=self._secure,
        )

    def end(self, answer: Response) -> None:
        answer.delete_cookie(COOKIE)

    def of(self, request: Request) -> Session | None:
        cookie = request.cookies.get(COOKIE)
        if not cookie:
            return None
        try:
            return Session(**self._signer.loads(cookie, max_age=int(self._for.total_seconds())))
        except (BadSignature, TypeError):
            return None


_cookie = APIKeyCookie(
    name=COOKIE, scheme_name="session", auto_error=False, description="Set by `/login`; it ends after some hours."
)


def logged_in(request: Request, _: Annotated[str | None, Security(_cookie)]) -> Session:
    """Raises LoginNeeded."""
    sessions: Sessions = request.app.state.sessions
    session = sessions.of(request)
    if session is None:
        raise LoginNeeded
    return session


Me = Annotated[Session, Depends(logged_in)]


class Fields:
    """A form's fields, as text without surrounding space, and without NULs, which PostgreSQL's text can't hold.

    What is missing is empty; each name counts once.
    """

    def __init__(self, data: FormData) -> None:
        self._items = [
            (name, value.replace("\x00", "")) for name, value in data.multi_items() if isinstance(value, str)
        ]

    def __getitem__(self, name: str) -> str:
        return next((value.strip() for value in reversed(self.all(name))), "")

    def all(self, name: str) -> list[str]:
        return [value for known, value in self._items if known == name]

    def items(self) -> list[tuple[str, str]]:
        return self._items

    @property
    def form_id(self) -> str:
        """The same however often this very form is sent: the idempotency key of what it asks for. 422 without."""
        found = next(reversed(self.all("form_id")), "")
        if not _FORM_ID.fullmatch(found):
            raise HTTPException(422, "the form has no id: load the page again and repeat what you did")
        return found


async def checked_form(request: Request, me: Me) -> Fields:
    """The fields of a form from one of our pages. Raises Forged."""
    data = await request.form(max_files=0, max_fields=2_000)
    shown = data.get("csrf")
    from_elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if from_elsewhere or not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), me.csrf.encode()):
        raise Forged
    return Fields(data)


Form = Annotated[Fields, Depends(checked_form)]


def with_id(form: Form) -> Fields:
    """A form that asks for something once."""
    _ = form.form_id
    return form


Once = Annotated[Fields, Depends(with_id)]


class SecurityHeaders:
    """On every answer; pages are never kept by anything in between."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, sealed if scope["type"] == "http" else send)


def person(name: Any) -> str:
    """What a person calls themselves, fit to stand in events and headers: up to 80 printable ASCII characters."""
    return "".join(char for char in str(name) if char.isascii() and char.isprintable())[:80].strip() or "operator"
