"""Sums, factors and grids whose bits are the same on every machine, and masks that only a sum takes off."""
