"""The simulated providers' HTTP: what carriers and a payment provider offer, a ledger, and how they should behave.

    POST /carriers/{carrier}/labels   Idempotency-Key, LabelOrder  -> 201 SoldLabel
    POST /refunds                     Idempotency-Key, RefundOrder -> 201 SentRefund
    GET  /ledger                      what was done, by key
    GET, PUT /behavior/{provider}     a carrier's name, or `payments`

Callers show the provider key for the first two, the control token for the rest. An answer names the key it is for in
its header `Idempotency-Key`; a refusal is 422 with problem details (RFC 9457).
Source of what keys mean: the IETF draft "The Idempotency-Key HTTP Header Field",
draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr, ValidationError
from starlette.status import HTTP_401_UNAUTHORIZED

from ordermill.errors import Refused
from ordermill.network import Network

from .carriers import CarrierDesk, LabelOrder
from .faults import BEFORE_ACTING, Behavior, Fault
from .ledger import Act, Entry, Ledger
from .payments import RefundOrder, refund
from .wire import WIRE_HEADER

PAYMENTS = "payments"
MAX_BODY_BYTES = 100_000
_STATUS = {Fault.UNAVAILABLE: 503, Fault.ERROR: 500, Fault.BUSY: 429, Fault.REDIRECT: 307, Fault.DROPPED: 503}
_bearer = HTTPBearer(auto_error=False)
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
Acting = Callable[[bytes, str], tuple[bytes, Act]]


class Providers:
    """All simulated providers, and how each behaves now."""

    def __init__(self, network: Network, ledger: Ledger, seed: str, behavior: Behavior) -> None:
        self.ledger = ledger
        self.desk = CarrierDesk(network)
        self.behaviors = dict.fromkeys((*self.desk.names, PAYMENTS), behavior)
        self._seed = seed

    def sell(self, carrier: str) -> Acting:
        def act(body: bytes, key: str) -> tuple[bytes, Act]:
            sold = self.desk.sell(carrier, LabelOrder.model_validate_json(body), key)
            return sold.model_dump_json().encode(), Act(amount=sold.cost, reference=sold.tracking_number)

        return act

    def refund(self, body: bytes, key: str) -> tuple[bytes, Act]:
        sent = refund(RefundOrder.model_validate_json(body), key)
        return sent.model_dump_json().encode(), Act(amount=sent.amount, reference=sent.reference)

    async def answer(self, provider: str, request: Request, content: Callable[[bytes], str], act: Acting) -> Response:
        """Do what `request` asks for, once for its key, unless today is not its day."""
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= 255:
            return _problem(400, "expected a header Idempotency-Key of up to 255 characters", key)
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return _problem(413, f"expected at most {MAX_BODY_BYTES} bytes", key)
        asked = self.ledger.ask(provider, key)
        behavior = self.behaviors[provider]
        fault = behavior.fault_of(self._seed, provider, key, asked)
        await asyncio.sleep(behavior.delay_of(self._seed, provider, key, asked))
        if fault in BEFORE_ACTING:
            return _not_done(fault, behavior, key)
        try:
            answer = self.ledger.once(provider, key, content(body), lambda: act(body, key))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return _problem(422, faults[:300], key)
        except Refused as error:
            return _problem(422, str(error), key)
        return await self._delivered(fault, behavior, request, provider, key, answer)

    async def _delivered(
        self, fault: Fault | None, behavior: Behavior, request: Request, provider: str, key: str, answer: bytes
    ) -> Response:
        headers = {"Idempotency-Key": key}
        match fault:
            case Fault.SLOW:
                await asyncio.sleep(behavior.slow_s)
            case Fault.SILENT:
                while not await request.is_disconnected():
                    await asyncio.sleep(0.1)
                headers[WIRE_HEADER] = Fault.DROPPED
            case Fault.TORN | Fault.TWICE:
                headers[WIRE_HEADER] = fault
            case Fault.MALFORMED:
                answer = b"<html>" + answer[: len(answer) // 2]
            case Fault.OVERSIZED:
                answer = answer[:-1] + b" " * 10_000_000 + b"}"
            case Fault.STALE if (earlier := self.ledger.earlier(provider, key)) is not None:
                headers["Idempotency-Key"], answer = earlier
            case _:
                pass
        return Response(answer, 201, headers, media_type="application/json")


def simulator(providers: Providers, provider_key: SecretStr, control_token: SecretStr) -> FastAPI:
    app = FastAPI(title="Simulated carriers and payments", openapi_url=None)

    def shows(secret: SecretStr) -> Callable[[Shown], None]:
        def check(shown: Shown) -> None:
            if shown is None or not hmac.compare_digest(shown.credentials.encode(), secret.get_secret_value().encode()):
                raise HTTPException(HTTP_401_UNAUTHORIZED, "show the key: Authorization: Bearer …")

        return check

    customers, control = [Depends(shows(provider_key))], [Depends(shows(control_token))]

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.post("/carriers/{carrier}/labels", dependencies=customers)
    async def label(carrier: str, request: Request) -> Response:
        if carrier not in providers.desk.names:
            key = request.headers.get("Idempotency-Key", "")
            return _problem(404, f"no carrier {carrier[:40]!r}; there are {', '.join(providers.desk.names)}", key)
        return await providers.answer(carrier, request, _digest, providers.sell(carrier))

    @app.post("/refunds", dependencies=customers)
    async def refunds(request: Request) -> Response:
        return await providers.answer(PAYMENTS, request, _what_goes_back, providers.refund)

    @app.get("/ledger", dependencies=control)
    async def ledger() -> list[Entry]:
        return providers.ledger.entries()

    @app.get("/behavior/{provider}", dependencies=control)
    async def behavior(provider: str) -> Behavior:
        return providers.behaviors[_known(provider)]

    @app.put("/behavior/{provider}", dependencies=control)
    async def behave(provider: str, behavior: Behavior) -> Behavior:
        """From the next call on."""
        providers.behaviors[_known(provider)] = behavior
        return behavior

    def _known(provider: str) -> str:
        if provider not in providers.behaviors:
            raise HTTPException(404, f"no provider {provider!r}; there are {', '.join(providers.behaviors)}")
        return provider

    return app


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()


def _what_goes_back(body: bytes) -> str:
    """Asked again later it is the same refund: when it was asked for does not count."""
    order = RefundOrder.model_validate_json(body)
    return f"{order.payment}\0{order.amount}"


def _problem(status: int, detail: str, key: str) -> Response:
    body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail}
    return JSONResponse(body, status, {"Idempotency-Key": key}, media_type="application/problem+json")


def _not_done(fault: Fault | None, behavior: Behavior, key: str) -> Response:
    if fault is Fault.REFUSED:
        return _problem(422, "not today: refused for good", key)
    headers = {"Idempotency-Key": key}
    match fault:
        case Fault.BUSY:
            headers["Retry-After"] = str(behavior.retry_after_s)
        case Fault.REDIRECT:
            headers["Location"] = "http://elsewhere.invalid/"
        case Fault.DROPPED:
            headers[WIRE_HEADER] = fault
        case _:
            pass
    return Response(b"", _STATUS[fault or Fault.ERROR], headers)
