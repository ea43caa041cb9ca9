"""Tracking: follows every parcel to the door, and tells each order's status as its customer is told it."""
