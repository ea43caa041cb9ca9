"""Routing: which location ships which line, when it arrives, at what cost."""
