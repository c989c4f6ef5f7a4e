"""Adapters between devbench and deep-learning frameworks. None imports its framework on import."""
