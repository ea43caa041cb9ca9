"""For Schemathesis: a person who is logged in, and forms that hold their `csrf`. Named by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import os
from typing import Any

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation

LOGIN = os.environ.get("CONSOLE_LOGIN")
"""The address that logs in; without it nobody is."""

_send = requests.Session.send


def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    """Redirects are answers too; a stream is left after its first event, for it has no end."""
    answer = _send(self, request, **options | {"allow_redirects": False, "stream": True})
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if not line:
                break
        answer._content = b"\n".join(lines)
        answer.close()
    assert answer.content is not None  # read it all
    return answer


requests.Session.send = send  # type: ignore[assignment, method-assign]


class Person:
    """Session and `csrf`, once for all requests."""

    def __init__(self, login: str) -> None:
        with requests.Session() as session:
            session.get(login, timeout=20)
            self.cookies = session.cookies.get_dict()
            told = session.get(f"{login.partition('/login')[0]}/floor-session", timeout=20).json()
            self.csrf = told["csrf"]


if LOGIN:
    person = Person(LOGIN)

    @schemathesis.auth()
    class LoggedIn:
        def get(self, case: Any, context: Any) -> dict[str, str]:
            return person.cookies

        def set(self, case: Any, data: dict[str, str], context: Any) -> None:
            case.cookies = {**(case.cookies or {}), **data}

    @schemathesis.hook
    def filter_case(context: Any, case: Any) -> bool:
        """Not those in which the session is what is missing: then they are a stranger."""
        return not case.meta.is_negative_at(ParameterLocation.COOKIE)

    @schemathesis.hook
    def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("csrf"), str):
            case.body = case.body | {"csrf": person.csrf}
