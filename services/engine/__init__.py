"""How a job goes on: one delivery, result or decision at a time, each in one unit of work."""
