"""Returns: whether goods may come back, what they are worth, and where they go."""
