"""Inventory: what is on hand where, and which order may have it."""
