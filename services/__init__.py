"""Who does it: daemons, journal, executor, command line."""
