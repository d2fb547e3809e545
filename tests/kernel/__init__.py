"""The compiled kernel as a file: building it, finding it, running it under sanitizers and memcheck."""
