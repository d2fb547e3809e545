"""Primes p whose p - 1 is factored, so that generators can be found and not only hoped for."""

from functools import lru_cache
from math import isqrt

import gmpy2
import numpy as np
from gmpy2 import mpz

from paillier.randomness import RandomStream

PRIME_ROUNDS = 40  # Baillie-PSW and then Miller-Rabin: GMP's mpz_probab_prime_p
COFACTOR_BITS = 20  # p - 1 = 2 k r with k of at most this many bits and r prime


@lru_cache(maxsize=4)
def small_primes(limit: int) -> tuple[int, ...]:
    """All primes below `limit`, in order (sieve of Eratosthenes)."""
    sieve = np.ones(max(limit, 2), dtype=bool)
    sieve[:2] = False
    for at in range(2, isqrt(len(sieve)) + 1):
        if sieve[at]:
            sieve[at * at :: at] = False
    return tuple(np.flatnonzero(sieve).tolist())


def draw_prime(low: int, high: int, stream: RandomStream) -> int:
    """A uniform prime of [low, high), by rejection."""
    while True:
        candidate = low + stream.below(high - low)
        if candidate & 1 and gmpy2.is_prime(mpz(candidate), PRIME_ROUNDS):
            return candidate


def draw_factored_prime(bits: int, stream: RandomStream) -> int:
    """A prime p = 2 k r + 1 of exactly `bits` bits, r prime, k < 2^20; the product of two has 2 `bits` bits.

    The large prime factor of p - 1 is what the p - 1 method of factoring would have liked not to meet; the
    choice of r (bits - 20 bits long) and k leaves p with nearly the entropy of a random prime.
    """
    low, high = isqrt(1 << (2 * bits - 1)) + 1, 1 << bits
    r = draw_prime(1 << (bits - COFACTOR_BITS - 1), 1 << (bits - COFACTOR_BITS), stream)
    k_low, k_high = low // (2 * r) + 1, (high - 1) // (2 * r)
    while True:
        candidate = 2 * r * (k_low + stream.below(k_high - k_low)) + 1
        if gmpy2.is_prime(mpz(candidate), PRIME_ROUNDS):
            return candidate


def factors_of_order(prime: int) -> tuple[int, ...] | None:
    """The distinct primes of p - 1; None where trial division to 2^20 leaves a composite.

    Never None for a prime of `draw_factored_prime`.
    """
    rest = mpz(prime - 1)
    found = []
    for small in small_primes(1 << COFACTOR_BITS):
        if rest % small == 0:
            found.append(small)
            rest, _ = gmpy2.remove(rest, small)
    if rest == 1:
        return tuple(found)
    return (*found, int(rest)) if gmpy2.is_prime(rest, PRIME_ROUNDS) else None


def is_generator(element: int, prime: int, factors: tuple[int, ...]) -> bool:
    """Whether `element` generates the multiplicative group mod `prime`, of these prime factors."""
    return all(gmpy2.powmod(element, (prime - 1) // factor, prime) != 1 for factor in factors)
