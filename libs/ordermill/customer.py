"""What the customer gets: a link nobody can guess, and a sentence in plain words. Pure."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from datetime import date
from hashlib import sha256

from ordermill.contracts.tracking import Milestone, OrderStatus

TOKEN_BYTES = 16
"""128 bits: guessing at a million tries a second takes longer than the sun will shine."""


def customer_token(secret: bytes, order_id: str) -> str:
    """The part of the link that shows one order without a login: `<order id>.<proof>`.

    Nothing is stored: whoever has `secret` can tell a true token. Changing it makes all links void.
    """
    return f"{order_id}.{_proof(secret, order_id)}"


def order_of_token(secret: bytes, token: str) -> str | None:
    """The order that a link is for, None if we never gave that link out. Takes as long for any wrong guess."""
    order_id, _, proof = token.rpartition(".")
    genuine = hmac.compare_digest(proof.encode(), _proof(secret, order_id).encode())
    return order_id if genuine and order_id else None


def _proof(secret: bytes, order_id: str) -> str:
    digest = hmac.digest(secret, b"ordermill customer link\0" + order_id.encode(), sha256)
    return urlsafe_b64encode(digest[:TOKEN_BYTES]).rstrip(b"=").decode()


def in_words(status: OrderStatus) -> str:
    """The status as a customer would be told it over the counter."""
    left = status.ordered - status.canceled
    match status.status:
        case "received":
            text = "We have your order and are getting it ready."
        case "on_hold":
            text = "We have your order, but need to check something before it can go on."
        case "confirmed":
            text = "Your order is confirmed and will be packed soon."
        case "backordered":
            text = "Part of your order is not in stock yet. We send it as soon as it comes in."
        case "partially_shipped":
            text = f"{status.shipped} of {left} items of your order are on their way."
        case "shipped":
            text = "Your order is on its way."
        case "partially_delivered":
            text = f"{status.delivered} of {left} items of your order have been delivered."
        case "delivered":
            text = "Your order has been delivered."
        case "canceled":
            return "Your order has been canceled."
        case "returned" if not status.delivered:
            return "Your order did not reach you, and we have made up for it."
        case "partially_returned" | "returned":
            text = _back_or_made_up_for(status, left)
    if status.status in ("partially_shipped", "partially_delivered") and left <= 0:
        text = "Part of your order is on its way."  # capture's word of how much was ordered is still to come
    text = _with_what_comes_back(text, status)
    if status.canceled:
        text += f" {_items(status.canceled)} canceled."
    return text + _promise(status)


def _back_or_made_up_for(status: OrderStatus, left: int) -> str:
    """What was lost and credited counts as returned, and is not with us."""
    came, lost = status.returned - status.waived, status.waived
    if came:
        whole = status.status == "returned"
        text = "We have everything you sent back." if whole else f"We have {came} of {left} items of your order back."
    elif status.delivered >= left:
        text = "Your order has been delivered."
    elif status.delivered:
        text = f"{status.delivered} of {left} items of your order have been delivered."
    else:
        return f"{lost} of {left} items of your order did not reach you, and we have made up for that."
    if not lost:
        return text
    if status.delivered >= left:
        return f"{text} We had made up for what did not reach you in time."
    return f"{text} {lost} item{'' if lost == 1 else 's'} did not reach you, and we have made up for that."


_BACK = {Milestone.RETURNING: "is on its way back to us", Milestone.RETURNED: "came back to us"}


def _with_what_comes_back(text: str, status: OrderStatus) -> str:
    """Of parcels that turned around on their way; what the customer sends back is in the status."""
    back = [parcel.milestone for parcel in status.parcels if parcel.milestone in _BACK]
    if not back or status.status in ("partially_returned", "returned"):
        return text
    way = _BACK[Milestone.RETURNING if Milestone.RETURNING in back else Milestone.RETURNED]
    whole = len(back) == len(status.parcels)
    match status.status:
        case "shipped" if whole:
            return f"Your order {way}."
        case "partially_shipped" if whole:
            return f"Part of your order {way}."
        case "delivered" if whole:
            return f"{text} It {way}."
        case _:
            return f"{text} Part of it {way}."


def still_comes(status: OrderStatus) -> bool:
    """Whether something of the order is yet to reach its customer."""
    left = status.ordered - status.canceled
    if status.status in ("delivered", "returned", "canceled"):
        return False
    if status.status == "partially_returned" and status.delivered + status.waived >= left:
        return False
    on_its_way = any(parcel.milestone not in (*_BACK, Milestone.DELIVERED) for parcel in status.parcels)
    return on_its_way or not status.parcels or status.shipped < left


def _promise(status: OrderStatus) -> str:
    under_way = still_comes(status)
    rest = status.status == "partially_returned" or any(parcel.milestone in _BACK for parcel in status.parcels)
    what = "The rest" if rest else "It"
    if not status.waived and status.status != "returned" and any(parcel.lost for parcel in status.parcels):
        return " A parcel seems to be lost; we are looking into it."
    if status.late and under_way:
        return f" {what} is late, and we are sorry."
    if status.late and status.status in ("delivered", "partially_returned", "returned"):
        return " It came late, and we are sorry."
    if under_way and status.promised_by is not None:
        return f" {what} should be with you by {_day(status.promised_on or status.promised_by)}."
    return ""


def _items(count: int) -> str:
    return "1 item was" if count == 1 else f"{count} items were"


def _day(day: date) -> str:
    return f"{day:%A, %B} {day.day}"
