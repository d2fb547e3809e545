"""Input tables: opened, checked and kept as snapshots."""
