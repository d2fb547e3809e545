"""How fast it is: benchmarks, never run as tests."""
