"""Products of two ciphertexts are those of integers, on every path and for every length that is folded or is not."""

import random

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import library
from paillier.choice import select
from paillier.folding import fold_of
from paillier.keys import PublicKey
from paillier.vector import CipherVector

pytestmark = pytest.mark.kernel

PATHS = library.paths()
LIMB = 52
FOLDED = (256, 704, 1226, 2048, 3072, 4096)
NOT_FOLDED = (1024, 1536)
SHORTEST_AND_LONGEST = [n for bits in FOLDED for n in ((1 << bits - 1) + 1, (1 << bits) - 1)]


def guest_of(path, n):
    with library.using(path):
        return select("compiled").guest(PublicKey(n), None)


def modulus_of(bits):
    return random.Random(bits).getrandbits(bits) | 1 | 1 << bits - 1


def limbs_for(bits):
    """Of a half, in tens, as the kernel has them in lanes."""
    return -(-(bits + 8) // (10 * LIMB)) * 10


def agree(guest, left, right):
    public, square = guest.public, guest.public.square
    sums = guest.add(CipherVector.from_ints(public, left), CipherVector.from_ints(public, right))
    assert sums.to_ints() == [one * other % square for one, other in zip(left, right, strict=True)]


def edges(n):
    """0, 1, all-ones limbs, and what lies just beside the multiples of n and the powers of 2^52."""
    square = n * n
    powers = [1 << LIMB * k for k in range(1, square.bit_length() // LIMB + 1)]
    near = [k * n for k in (1, 2, n - 1, n)] + powers
    found = [0, 1, 2, *(one + d for one in near for d in (-1, 0, 1)), *(square - one for one in powers), square // 2]
    return [number for number in found if 0 <= number < square]


def limbs_of(chance, square):
    """A number of limbs that are zero, full or of one bit: long carries, and differences that cancel."""
    kinds = (0, 0, (1 << LIMB) - 1, 1, 1 << LIMB - 1)
    number = sum(chance.choice(kinds) << LIMB * k for k in range(square.bit_length() // LIMB + 1))
    return (number >> chance.randrange(square.bit_length())) % square


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", [*SHORTEST_AND_LONGEST, *map(modulus_of, FOLDED + NOT_FOLDED)], ids=lambda n: hex(n)[:9])
def test_products_of_edge_operands_are_those_of_integers(path, n):
    chance, guest = random.Random(n), guest_of(path, n)
    numbers = edges(n) + [limbs_of(chance, n * n) for _ in range(60)] + [chance.randrange(n * n) for _ in range(20)]
    agree(guest, numbers, chance.sample(numbers, len(numbers)))
    agree(guest, numbers, numbers)
    agree(guest, numbers, [n * n - 1] * len(numbers))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", [704, 2048])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_products_are_those_of_integers(path, bits, data):
    n = modulus_of(bits)
    limb = st.one_of(st.sampled_from([0, 1, (1 << LIMB) - 1, 1 << LIMB - 1]), st.integers(0, (1 << LIMB) - 1))
    count = n.bit_length() * 2 // LIMB
    number = st.lists(limb, min_size=1, max_size=count).map(
        lambda found: sum(x << LIMB * k for k, x in enumerate(found))
    )
    pairs = data.draw(st.lists(st.tuples(number, number), min_size=1, max_size=20))
    agree(guest_of(path, n), *([each[side] % (n * n) for each in pairs] for side in (0, 1)))


@pytest.mark.parametrize("path", PATHS)
def test_products_that_are_just_beside_multiples_of_the_square_are_reduced_below_it(path):
    n = modulus_of(2048)
    square, guest, chance = n * n, guest_of(path, n), random.Random(1)
    left = [chance.randrange(square) | 1 for _ in range(40)]
    rests = [0, 1, 2, n, square - 1, square - 2, square - n, 1 << LIMB * 78, (1 << LIMB * 78) - 1, square >> 1] * 4
    right = [rest * pow(one, -1, square) % square for one, rest in zip(left, rests, strict=True)]
    agree(guest, left, right)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 15, 16, 17])
@pytest.mark.parametrize("path", PATHS)
def test_rows_that_do_not_fill_the_lanes_are_multiplied_as_well(path, count):
    n = modulus_of(2048)
    chance = random.Random(count)
    agree(guest_of(path, n), *([chance.randrange(n * n) for _ in range(count)] for _ in range(2)))


@pytest.mark.parametrize("n", SHORTEST_AND_LONGEST, ids=lambda n: hex(n)[:9])
def test_moduli_of_usual_lengths_are_folded(n):
    limbs = limbs_for(n.bit_length())
    fold = fold_of(mpz(n) ** 2, limbs, LIMB)
    assert fold is not None
    assert fold.cut + 4 <= fold.at <= 3 * limbs


@pytest.mark.parametrize("bits", NOT_FOLDED)
def test_moduli_that_fill_their_limbs_are_not_folded(bits):
    assert fold_of(mpz(modulus_of(bits)) ** 2, limbs_for(bits), LIMB) is None
