"""The compiled back end gives the bytes of the gmpy2 one: any operands, any path, any number of threads."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import library
from paillier.backend import BackendError
from paillier.choice import select
from paillier.keys import PrivateKey, PublicKey, generate
from paillier.primes import draw_prime
from paillier.randomness import Randomness
from paillier.rings import Crew, KernelMemoryError, ranges
from paillier.vector import CipherVector

pytestmark = pytest.mark.kernel

RANDOMNESS = Randomness(b"c" * 32)
stream = RANDOMNESS.stream
PATHS = library.paths()
KEYS = {bits: generate(bits, stream("key", bits), insecure=True) for bits in (256, 512, 704, 1024, 2048)}
REFERENCE = select("gmpy2")


def edges(modulus):
    """Numbers of [0, modulus^2) at which carries, borrows and comparisons go wrong first."""
    square = modulus**2
    ones = [(1 << (52 * count)) - 1 for count in (1, 10, 20, 40)] + [(1 << (56 * count)) - 1 for count in (1, 19, 37)]
    near = [k * modulus + d for k in (1, 2, modulus // 2, modulus - 1) for d in (-1, 0, 1)]
    found = [0, 1, 2, square - 1, square - 2, (square - 1) // 2, *near, *ones, *(square - one for one in ones)]
    return [number for number in found if 0 <= number < square]


def vector_of(public, numbers):
    return CipherVector.from_ints(public, numbers)


def compiled(path, threads=1):
    with library.using(path):
        return select("compiled", threads)


def guests(path, public, threads=1):
    with library.using(path):
        return select("compiled", threads).guest(public, stream("guest")), REFERENCE.guest(public, stream("guest"))


def agree(pair, call):
    ours, theirs = (call(each).to_bytes() for each in pair)
    assert ours == theirs


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", KEYS)
def test_every_operation_agrees_with_gmpy2_on_edge_operands(path, bits):
    public = KEYS[bits].public
    pair = guests(path, public)
    chance = random.Random(bits)
    numbers = edges(public.modulus)
    vector, other = vector_of(public, numbers), vector_of(public, chance.sample(numbers, len(numbers)))
    count = len(numbers)
    plain = [0, 1, -1, public.modulus - 1, 1 - public.modulus, 2**60, *(chance.randrange(2**30) for _ in range(count))]
    agree(pair, lambda guest: guest.add(vector, other))
    agree(pair, lambda guest: guest.multiply_all([vector, other, vector, other, other]))
    agree(pair, lambda guest: guest.multiply_all([vector]))
    agree(pair, lambda guest: guest.add_plain(vector, plain[:count]))
    agree(pair, lambda guest: guest.rerandomise(vector, stream("r")))
    for slot, step in ((1, 1), (73, 27), (5, 4), (64, count)):
        agree(pair, lambda guest, slot=slot, step=step: guest.pack_rows(vector, slot, step))
    bins = np.array([[chance.randrange(4), row % 5, 0] for row in range(count)])
    agree(pair, lambda guest: guest.bin_sums(vector, bins, 6))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", [512, 2048])
@pytest.mark.parametrize("width", [1, 16, 73, 118, 119, 133, 300])
def test_sums_of_powers_agree_with_gmpy2_for_exponents_of_any_width(path, bits, width):
    public = KEYS[bits].public
    pair = guests(path, public)
    chance = random.Random(width)
    numbers, top = edges(public.modulus), (1 << width) - 1
    exponents = [0, top, 1, top, *(chance.randint(0, top) for _ in numbers)][: len(numbers)]
    agree(pair, lambda guest: guest.power_sum(vector_of(public, numbers), exponents, width))
    agree(pair, lambda guest: guest.power_sum(vector_of(public, numbers * 3), exponents, width))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("terms", range(1, 9))
def test_powers_of_rows_agree_with_gmpy2_for_any_number_of_terms(path, terms):
    public = KEYS[512].public
    pair = guests(path, public)
    chance = random.Random(terms)
    numbers = edges(public.modulus) * terms
    rows = np.array([[chance.choice([0, 1, 65535, chance.randrange(65536)]) for _ in range(terms)] for _ in numbers])
    rows = rows[: len(numbers) // terms]
    for bits in (16, 17, 62):
        agree(pair, lambda guest, bits=bits: guest.power_rows(vector_of(public, numbers), rows, bits))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", KEYS)
def test_encryption_and_decryption_agree_with_gmpy2_on_edge_operands(path, bits):
    private = KEYS[bits]
    n = private.public.modulus
    values = [0, 1, -1, n - 1, 1 - n, private.p, private.q, -private.p, n // 2, 2**24, -(2**24)]
    with library.using(path):
        ours = select("compiled").owner(private, stream("owner"))
    theirs = REFERENCE.owner(private, stream("owner"))
    assert ours.encrypt(values, stream("e")).to_bytes() == theirs.encrypt(values, stream("e")).to_bytes()
    vector = vector_of(private.public, [1, n + 1, n * n - 1, *theirs.encrypt(values, stream("f")).to_ints()])
    assert ours.decrypt(vector) == theirs.decrypt(vector)


@pytest.mark.parametrize("path", PATHS)
def test_primes_whose_orders_nobody_factored_serve_as_well(path):
    p, q = (draw_prime(3 << 254, 1 << 256, stream(name)) for name in "pq")
    private = PrivateKey(p, q)
    with library.using(path):
        ours = select("compiled").owner(private, stream("owner"))
    theirs = REFERENCE.owner(private, stream("owner"))
    assert ours.encrypt([0, 1, -7], stream("e")).to_bytes() == theirs.encrypt([0, 1, -7], stream("e")).to_bytes()


@pytest.mark.parametrize("path", PATHS)
def test_primes_of_different_lengths_and_keys_beyond_the_lanes_are_left_to_gmpy2(path):
    unequal = PrivateKey(draw_prime(3 << 254, 1 << 256, stream("p")), draw_prime(3 << 1022, 1 << 1024, stream("q")))
    huge = PublicKey((1 << 6000) + 1)
    backend = compiled(path)
    with library.using(path):
        owner, guest = backend.owner(unequal, stream("o")), backend.guest(huge, None)
    assert owner.decrypt(owner.encrypt([5, -5], stream("e"))) == [5, unequal.public.modulus - 5]
    assert guest.add(vector_of(huge, [3]), vector_of(huge, [4])).to_ints() == [12]


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, KEYS[512].public.modulus ** 2 - 1), min_size=1, max_size=20), st.data())
def test_products_agree_with_integers(path, numbers, data):
    public = KEYS[512].public
    factors = data.draw(st.permutations(numbers))
    (guest, _) = guests(path, public)
    expected = [one * other % public.modulus**2 for one, other in zip(numbers, factors, strict=True)]
    assert guest.add(vector_of(public, numbers), vector_of(public, factors)).to_ints() == expected


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 17, 130])
def test_no_result_depends_on_the_number_of_threads(path, count):
    public = KEYS[512].public
    chance = random.Random(count)
    vector = vector_of(public, [chance.randrange(1, public.modulus**2) for _ in range(count)])
    exponents = [chance.randrange(2**73) for _ in range(count)]

    def results(threads):
        guest, _ = guests(path, public, threads)
        with library.using(path):
            owner = select("compiled", threads).owner(KEYS[512], stream("owner"))
        bins = np.array([[row % 3] * 9 for row in range(count)], dtype=np.int64).reshape(count, 9)
        made = [
            owner.encrypt(list(range(count)), stream("e")),
            guest.rerandomise(vector, stream("r")),
            guest.add_plain(vector, exponents),
            guest.multiply_all([vector] * 3),
            guest.power_rows(vector, np.array(exponents, dtype=object).reshape(count, 1) % 65536),
            guest.pack_rows(vector, 73, 3),
            guest.bin_sums(vector, bins, 3),
            *([guest.power_sum(vector, exponents, 73)] if count else []),
        ]
        return [each.to_bytes() for each in made], owner.decrypt(vector)

    assert results(1) == results(2) == results(5)


@given(st.integers(0, 300), st.integers(1, 9), st.sampled_from([1, 8]))
def test_ranges_cover_every_row_once_and_are_cut_at_whole_blocks(count, parts, block):
    cut = ranges(count, parts, block)
    assert [row for first, last in cut for row in range(first, last)] == list(range(count))
    assert len(cut) <= parts
    assert all(first % block == 0 for first, _ in cut)


def test_a_batch_that_got_no_memory_says_so():
    for threads in (1, 3):
        with pytest.raises(KernelMemoryError, match="no memory"):
            Crew(threads).each(20, lambda first, last: -1)


def test_back_ends_have_names_and_the_fastest_is_taken():
    assert select("gmpy2").name == "gmpy2"
    assert select().name == ("compiled" if library.load() is not None else "gmpy2")
    with pytest.raises(BackendError, match="no back end 'cuda'"):
        select("cuda")
    with library.using(None):
        assert select().name == "gmpy2"
        with pytest.raises(BackendError, match="no compiled back end: "):
            select("compiled")
