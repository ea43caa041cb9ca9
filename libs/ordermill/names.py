"""The services of an installation, in the order in which an order meets them."""

SERVICES = ("capture", "inventory", "routing", "fulfillment", "tracking", "returns")
