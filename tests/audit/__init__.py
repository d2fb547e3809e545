"""Tests of exports and of what is made of them; several share recorded jobs."""
