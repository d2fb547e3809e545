"""Numbers that hide, against phe and plain integers; every back end gives the same bytes."""
