"""What can go wrong in routing, one class each."""

from __future__ import annotations

from ordermill.errors import Poison, Refused, Transient


class PolicyInvalid(Refused):
    """The policy file does not describe a policy for this network."""

    code = "routing.policy-invalid"


class PolicyNotAdopted(Transient):
    """There is no policy to decide under so far; the service adopts its file when it starts."""

    code = "routing.policy-not-adopted"

    def __init__(self, order_id: str) -> None:
        super().__init__(
            f"{order_id}: no routing policy is in force, so it is not routed. Tried again; routing adopts the file "
            "named by OMS_ROUTING_POLICY when it starts, see its log if this lasts."
        )


class PolicyMismatch(Refused):
    """A plan was to be made again under another policy or network than it was made under."""

    code = "routing.policy-mismatch"

    def __init__(self, plan_id: str, expected: str, found: str) -> None:
        super().__init__(
            f"{plan_id}: decided under policy {expected[:12]}, this one is {found[:12]}. Give both texts of the "
            "PolicyAdopted event whose policy_hash is the former: oms log show policy-default"
        )


class OrderNotRouted(Poison):
    """Word of a plan's failure for an order that was never routed here."""

    code = "routing.order-not-routed"

    def __init__(self, order_id: str, what: str) -> None:
        super().__init__(
            f"{order_id}: {what} is given back, but this order was never routed by this log. If the log was lost, "
            "restore it before inventory's messages are read on."
        )
