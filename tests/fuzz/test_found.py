"""What fuzzing has found, kept: each input once broke what its target promises."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import HEADERS, TARGETS

BY_NAME = {target.name: target for target in TARGETS}
NETWORK, POLICY = BY_NAME["network"].seeds[0], BY_NAME["routing-policy"].seeds[0]
FOUND = [
    ("headers", HEADERS.replace(b"ce_specversion=1.0", b"ce_specversion=" + b"9" * 6_000)),
    ("network", NETWORK.replace(b"point = [39.8283, -98.5795]", b"point = [39.8283]")),
    ("network", NETWORK.replace(b"\n[elsewhere]", b"\nk" + b"9" * 99_000 + b" = 1\n[elsewhere]")),
    ("routing-policy", POLICY + b"\nk = " + b"9" * 5_000),
    ("routing-policy", b"k = " + b"[" * 5_000),
    ("return-policy", b"window_days = " + b"9" * 5_000),
    ("easypost", b'{"tracking_details": []}'),
    ("easypost", b'{"tracking_code": "1", "tracking_details": [{"status": "delivered", "datetime": "soon"}]}'),
    (
        "easypost",
        b'{"tracking_code": "1", "tracking_details": [{"message": "\xed\xa0\x80", "status": "in_transit", '
        b'"datetime": "2014-11-21T14:48:00Z"}]}',
    ),
    ("shopify", b'{"\\ud800rder_id": 5521190034427, "status": "success"}'),
    ("pos-csv", b"receipt,sold_at,sku,qty,unit_price,ship_name\n1,,TEA,1,1.00,Ann\n"),
    ("headers", b"ce_" + b"k" * 9_000 + b"=\xff"),
    ("canonical", b'{"type": "oms.channel.order-placed.v1", "' + b"k" * 9_000 + b'": 1}'),
]


@pytest.mark.parametrize(("name", "payload"), FOUND)
def test_what_once_broke_a_promise_keeps_it(name: str, payload: bytes) -> None:
    BY_NAME[name].check(payload)
