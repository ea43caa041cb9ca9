"""The event log: append-only, sequenced without gaps, hash-chained by stream; its inbox, timers, effects and views."""
