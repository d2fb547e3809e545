"""Warren from Python."""
