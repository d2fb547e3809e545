"""One module per target; see `tests.fuzz`."""
