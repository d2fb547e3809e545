"""Golden logs: exports that this and every later version must verify and replay."""
