"""Money that goes back: the port, and a provider behind HTTP."""

from .port import PaymentProvider, PaymentRefused, PaymentUnavailable, Refunded

__all__ = ["PaymentProvider", "PaymentRefused", "PaymentUnavailable", "Refunded"]
