"""Who does it: daemons, journal, executor, compute tasks, command line."""

__version__ = "0.1.0"
