"""Many numbers at once: an optional library in C for Paillier's arithmetic and the curve of the alignment.

Nothing depends on it. Where no C compiler was at hand when Warren was installed, gmpy2 and cryptography do the same
work with the same results, slower. `library` loads it and says which path runs and why.
"""
