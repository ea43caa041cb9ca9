"""What a laptop without Docker, Java or root needs to run Ordermill: PostgreSQL, a broker, and their supervisor."""

from .errors import EmbeddedError
from .processes import ChildStatus, Function, Program, Supervisor
from .stack import EmbeddedStack, running_stack

__all__ = [
    "ChildStatus",
    "EmbeddedError",
    "EmbeddedStack",
    "Function",
    "Program",
    "Supervisor",
    "running_stack",
]
