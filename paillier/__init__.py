"""Numbers that hide: Paillier keys, cipher vectors, packing."""
