"""`python -m ordermill.cli`."""

from ordermill.cli import main

main()
