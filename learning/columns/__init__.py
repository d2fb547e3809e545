"""What becomes of an owner's columns before training: declared preparation, 16-bit integers, feature codes."""
