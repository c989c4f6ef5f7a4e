"""What happens inside a worker between a builder and its samples (standard library and numpy)."""
