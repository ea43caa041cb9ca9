"""The two carriers that come with Ordermill: cedar speaks in dotted words, swift in numbers as parcel posts do."""

from __future__ import annotations

from ordermill.contracts.tracking import Milestone

from .codes import CodeTable

CEDAR = CodeTable(
    "cedar",
    {
        "label.created": Milestone.LABEL_CREATED,
        "label.reprinted": Milestone.LABEL_CREATED,
        "pickup.collected": Milestone.IN_TRANSIT,
        "hub.arrived": Milestone.IN_TRANSIT,
        "hub.sorted": Milestone.IN_TRANSIT,
        "hub.departed": Milestone.IN_TRANSIT,
        "depot.arrived": Milestone.IN_TRANSIT,
        "courier.loaded": Milestone.OUT_FOR_DELIVERY,
        "courier.nobody-home": Milestone.ATTEMPT_FAILED,
        "courier.refused": Milestone.ATTEMPT_FAILED,
        "courier.no-access": Milestone.ATTEMPT_FAILED,
        "locker.ready": Milestone.READY_FOR_PICKUP,
        "delivered.door": Milestone.DELIVERED,
        "delivered.neighbor": Milestone.DELIVERED,
        "delivered.locker": Milestone.DELIVERED,
        "exception.address": Milestone.EXCEPTION,
        "exception.damaged": Milestone.EXCEPTION,
        "exception.weather": Milestone.EXCEPTION,
        "return.started": Milestone.RETURNING,
        "return.handed-over": Milestone.RETURNED,
    },
)

SWIFT = CodeTable(
    "swift",
    {
        "010": Milestone.LABEL_CREATED,  # shipment data received
        "100": Milestone.IN_TRANSIT,  # accepted at origin
        "120": Milestone.IN_TRANSIT,  # arrived at sort center
        "125": Milestone.IN_TRANSIT,  # missorted, forwarded
        "130": Milestone.IN_TRANSIT,  # departed sort center
        "150": Milestone.EXCEPTION,  # held by customs
        "155": Milestone.IN_TRANSIT,  # released by customs
        "200": Milestone.IN_TRANSIT,  # arrived at destination
        "210": Milestone.OUT_FOR_DELIVERY,
        "300": Milestone.DELIVERED,
        "301": Milestone.DELIVERED,  # to a neighbor
        "302": Milestone.DELIVERED,  # collected at the counter
        "310": Milestone.READY_FOR_PICKUP,  # at the counter
        "400": Milestone.ATTEMPT_FAILED,  # addressee not at home
        "410": Milestone.ATTEMPT_FAILED,  # refused
        "450": Milestone.EXCEPTION,  # address insufficient
        "460": Milestone.EXCEPTION,  # damaged
        "500": Milestone.RETURNING,
        "510": Milestone.RETURNED,
    },
)
