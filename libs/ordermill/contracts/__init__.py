"""The published language: everything that travels on a topic, stands in a log or crosses HTTP."""
