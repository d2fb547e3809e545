"""Numbers that learn: pure functions on numpy arrays."""
