"""Attacks on labels by the partner: what it can make of everything that it receives and holds in a job."""
