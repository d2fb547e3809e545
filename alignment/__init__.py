"""Who is in both: private set intersection."""
