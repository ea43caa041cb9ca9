"""What a laptop without Docker, Java or root needs to run Ordermill: PostgreSQL, a broker, their supervisor."""

from .errors import EmbeddedError
from .processes import Child, ChildStatus, Supervisor
from .stack import EmbeddedStack, running_stack

__all__ = ["Child", "ChildStatus", "EmbeddedError", "EmbeddedStack", "Supervisor", "running_stack"]
