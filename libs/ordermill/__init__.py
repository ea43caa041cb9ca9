"""Ordermill: an event-sourced order management system."""
