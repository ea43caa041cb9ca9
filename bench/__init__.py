"""How fast Ordermill is on this machine, and what it costs."""
