"""Whole parties on virtual time: real journal, runner, relay, machines and tasks; nothing else is real."""
