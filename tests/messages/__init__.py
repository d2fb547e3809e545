"""Bytes that two versions must agree on: codec, envelope, seal, identities, routing keys."""
