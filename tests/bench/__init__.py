"""What measures speed measures what it says: each benchmark on a small job."""
