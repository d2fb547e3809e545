"""How it travels: the transport port and its implementations."""
