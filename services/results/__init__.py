"""What people and programs see of finished jobs: reports, tables, plots."""
