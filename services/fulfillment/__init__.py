"""Fulfillment: one order's part at one location, from accepting the work to handing parcels to the carrier."""
