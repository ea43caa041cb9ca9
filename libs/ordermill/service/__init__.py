"""The chassis: one way to write a service."""
