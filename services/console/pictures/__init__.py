"""All pictures of the console, each with its migration."""

from __future__ import annotations

from typing import Any

from services.console.picture import Picture

from .fulfillments import FULFILLMENTS
from .letters import LETTERS
from .orders import ORDERS
from .returns import RETURNS
from .routes import ROUTES
from .stock import STOCK

PICTURES: tuple[Picture[Any], ...] = (ORDERS, LETTERS, STOCK, ROUTES, FULFILLMENTS, RETURNS)
