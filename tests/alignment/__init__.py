"""Private set intersection: the suite against its published vectors, and lists that are not honest."""
