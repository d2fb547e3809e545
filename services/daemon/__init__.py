"""A running party: the engine on its transport, and what its operator can ask of it."""
