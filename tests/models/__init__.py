"""Tests of what lives on after training."""
