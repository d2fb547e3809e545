"""What a broker, or a partner in trouble, does to real jobs: each attack has its reason, no job is harmed."""
