"""Capture: every channel's orders in one queue, checked, held or released."""
