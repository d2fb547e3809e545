"""What hides a plaintext is a random N-th residue, all of them, equally often."""

from math import lcm, log2

import numpy as np
import pytest
from gmpy2 import mpz

from paillier.blinding import ManyBases, WindowTables, base_count, foreign_residues, own_residues
from paillier.keys import PublicKey, generate
from paillier.primes import factors_of_order
from paillier.randomness import Randomness

RANDOMNESS = Randomness(b"b" * 32)


def chi_square(drawn, group):
    counts = {element: 0 for element in group}
    for element in drawn:
        counts[int(element)] += 1
    expected = len(drawn) / len(group)
    return sum((count - expected) ** 2 / expected for count in counts.values())


def assert_uniform(drawn, group):
    free = len(group) - 1
    assert chi_square(drawn, group) < free + 5 * (2 * free) ** 0.5


@pytest.mark.parametrize("prime", [7, 23, 31, 61])
def test_residues_under_an_own_prime_of_known_order_are_uniform(prime):
    group = {pow(x, prime, prime**2) for x in range(1, prime)}
    source = own_residues(prime, factors_of_order(prime), RANDOMNESS.stream("base", prime))
    drawn = source.draw(400 * len(group), RANDOMNESS.stream("draw", prime))
    assert len(group) == prime - 1
    assert_uniform(drawn, group)


@pytest.mark.parametrize("prime", [7, 31])
def test_residues_under_an_own_prime_of_unknown_order_are_uniform(prime):
    group = {pow(x, prime, prime**2) for x in range(1, prime)}
    source = own_residues(prime, None, RANDOMNESS.stream("base", prime))
    assert_uniform(source.draw(200 * len(group), RANDOMNESS.stream("draw", prime)), group)


@pytest.mark.parametrize(("p", "q"), [(7, 11), (11, 31), (13, 37)], ids=["2 shared", "10 shared", "12 shared"])
def test_residues_under_a_foreign_key_are_uniform_even_if_its_orders_have_much_in_common(p, q):
    n = p * q
    group = {pow(x, n, n**2) for x in range(1, n) if x % p and x % q}
    assert len(group) == (p - 1) * (q - 1) > lcm(p - 1, q - 1), "no single base generates this group"
    source = foreign_residues(PublicKey(n), RANDOMNESS.stream("base", n))
    assert_uniform(source.draw(60 * len(group), RANDOMNESS.stream("draw", n)), group)


def test_residues_of_a_real_key_are_nth_powers():
    private = generate(512, RANDOMNESS.stream("key"), insecure=True)
    n, p = private.public.modulus, private.p
    for number in foreign_residues(private.public, RANDOMNESS.stream("n")).draw(5, RANDOMNESS.stream("d")):
        assert pow(int(number), (private.p - 1) * (private.q - 1), n**2) == 1
    for factors in (factors_of_order(p), None):
        for number in own_residues(p, factors, RANDOMNESS.stream("p")).draw(5, RANDOMNESS.stream("d")):
            assert pow(int(number), p - 1, p**2) == 1


def distance_bound(group_bits):
    """docs/paillier.md: upper bound of the mean distance from uniform, group of rank 2, in bits."""
    bases, windows = base_count(group_bits)
    bits = 8 * windows
    split = 1 << min(bits // 2, 10)
    small = sum(d**2 * (1 / d + d / 2 ** (bits + 1)) ** bases for d in range(2, split + 1)) / 2
    # sum over d > split of d^2 (1.25 / d)^m, by the integral; its root and that of the largest characters.
    middle = (bases * log2(1.25) + (3 - bases) * log2(split)) / 2
    large = (group_bits - bits * bases) / 2 - 1
    return log2(small + 2**middle + 2**large)


@pytest.mark.parametrize("group_bits", [512, 1024, 2048, 3072, 4096])
def test_the_distance_from_uniform_is_below_two_to_the_minus_60(group_bits):
    bases, windows = base_count(group_bits)
    assert bases >= 64
    assert bases * windows * 8 >= group_bits + 128
    assert distance_bound(group_bits) < -60


def test_at_2048_bits_hiding_takes_272_products():
    assert base_count(2048) == (68, 4)


@pytest.mark.parametrize("window", [8, 10])
def test_table_products_are_the_powers_they_stand_for(window):
    modulus = mpz(10**30 + 57)
    bases = [mpz(3), mpz(10**20 + 39)]
    tables = WindowTables(bases, 2, window, modulus)
    width = 4 * window // 8
    rows = [bytes(width), b"\xff" * width, bytes(range(7, 7 + width))]
    exponents = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, width)
    for row, product in zip(rows, tables.powers(exponents), strict=True):
        bits = int.from_bytes(row, "little")
        low, high = bits % (1 << 2 * window), bits >> 2 * window
        assert product == pow(3, low, int(modulus)) * pow(10**20 + 39, high, int(modulus)) % modulus


def test_bases_and_residues_follow_from_their_streams():
    first = ManyBases(mpz(31) ** 2, mpz(31), RANDOMNESS.stream("t")).draw(9, RANDOMNESS.stream("d"))
    again = ManyBases(mpz(31) ** 2, mpz(31), RANDOMNESS.stream("t")).draw(9, RANDOMNESS.stream("d"))
    other = ManyBases(mpz(31) ** 2, mpz(31), RANDOMNESS.stream("t")).draw(9, RANDOMNESS.stream("e"))
    assert first == again != other
