"""Carriers that labels are bought from. One file each; all pass the same suite, `tests/domain/test_carriers.py`."""
