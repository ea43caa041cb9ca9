"""The providers that come with Ordermill, for laptops and tests: carriers and a payment provider behind HTTP.

A process of its own (`oms simulator`) that knows nothing of the product but what a carrier or a payment provider would
be told. It honors idempotency keys over restarts, keeps a ledger of what it did, and fails on demand as real ones do.
"""
