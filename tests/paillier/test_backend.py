"""Every batch operation agrees with phe and with Python's own integers, on random and on edge operands."""

import pickle
import random

import numpy as np
import phe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import library
from paillier.backend import BackendError
from paillier.choice import select
from paillier.keys import PrivateKey, generate
from paillier.primes import draw_prime
from paillier.products import straus_cost, straus_plan
from paillier.randomness import Randomness
from paillier.vector import CiphertextError, CipherVector

RANDOMNESS = Randomness(b"o" * 32)
PRIVATE = generate(512, RANDOMNESS.stream("key"), insecure=True)
PUBLIC = PRIVATE.public
N, SQUARE = PUBLIC.modulus, PUBLIC.modulus**2
PHE = PRIVATE.to_phe()
REFERENCE = "gmpy2"
BACK_ENDS = [REFERENCE, *(f"compiled {path}" for path in library.paths())]
EDGES = [0, 1, 2, N // 2, N // 2 + 1, N - 1, -1, 1 - N]
UNITS = [1, 2, N - 1, N + 1, SQUARE - 1, SQUARE - 2, (1 << 1000) + 7]


@pytest.fixture(scope="module", autouse=True, params=BACK_ENDS)
def back_end(request):
    """Every test runs on every back end, and on every path of the compiled one."""
    global BACKEND, OWNER, GUEST  # noqa: PLW0603
    name, _, path = request.param.partition(" ")
    with library.using(path or None):
        BACKEND = select(name, threads=2)
        OWNER = BACKEND.owner(PRIVATE, RANDOMNESS.stream("owner"))
        GUEST = BACKEND.guest(PUBLIC, RANDOMNESS.stream("guest"))
        yield


def party_of(name):
    return {"owner": OWNER, "guest": GUEST}[name]


def stream(*parts):
    return RANDOMNESS.stream("test", *parts)


def phe_decrypt(vector, key=PHE):
    return [int(key.raw_decrypt(int(number))) for number in vector.to_ints()]


def phe_encrypt(values):
    chance = random.Random(repr(values))
    return CipherVector.from_ints(
        PUBLIC, [PHE.public_key.raw_encrypt(value % N, r_value=chance.randrange(2, N)) for value in values]
    )


def numbers(vector):
    return [int(number) for number in vector.to_ints()]


@pytest.mark.parametrize("party", ["owner", "guest"])
def test_phe_decrypts_what_is_encrypted(party):
    vector = party_of(party).encrypt(EDGES, stream("encrypt"))
    vector.check()
    assert phe_decrypt(vector) == [value % N for value in EDGES]


def test_what_phe_encrypts_is_decrypted():
    assert OWNER.decrypt(phe_encrypt(EDGES)) == [value % N for value in EDGES]


@given(st.lists(st.integers(1 - N, N - 1), max_size=4))
def test_what_is_encrypted_is_decrypted(values):
    assert OWNER.decrypt(OWNER.encrypt(values, stream("any"))) == [value % N for value in values]


@pytest.mark.parametrize("party", ["owner", "guest"])
def test_encryption_is_fresh_for_each_value_and_stream_and_the_same_when_run_again(party):
    first = numbers(party_of(party).encrypt([5] * 20, stream("fresh", 1)))
    assert len(set(first)) == 20
    assert not set(first) & set(numbers(party_of(party).encrypt([5] * 20, stream("fresh", 2))))
    assert numbers(party_of(party).encrypt([5] * 20, stream("fresh", 1))) == first


def test_tables_made_again_from_their_stream_give_the_same_bytes_on_every_back_end():
    owner = select("gmpy2").owner(PRIVATE, RANDOMNESS.stream("owner"))
    guest = select("gmpy2").guest(PUBLIC, RANDOMNESS.stream("guest"))
    assert owner.encrypt([1, 2], stream(1)).to_bytes() == OWNER.encrypt([1, 2], stream(1)).to_bytes()
    assert guest.encrypt([1, 2], stream(1)).to_bytes() == GUEST.encrypt([1, 2], stream(1)).to_bytes()


def test_a_key_from_elsewhere_encrypts_as_well():
    # Primes p whose p - 1 nobody factored: the other way to hide.
    p = draw_prime(3 << 254, 1 << 256, stream("p"))
    q = draw_prime(3 << 254, 1 << 256, stream("q"))
    private = PrivateKey.from_phe(PrivateKey(p, q).to_phe())
    owner = BACKEND.owner(private, stream("tables"))
    vector = owner.encrypt([0, 1, -1], stream("e"))
    assert phe_decrypt(vector, private.to_phe()) == [0, 1, p * q - 1]
    assert owner.decrypt(vector) == [0, 1, p * q - 1]


def test_rerandomised_ciphertexts_keep_their_plaintexts_and_nothing_else():
    vector = phe_encrypt(EDGES)
    other = GUEST.rerandomise(vector, stream("again"))
    assert phe_decrypt(other) == phe_decrypt(vector)
    assert not set(numbers(other)) & set(numbers(vector))
    assert numbers(GUEST.rerandomise(vector, stream("again"))) == numbers(other)
    quotients = [new * pow(old, -1, SQUARE) % SQUARE for new, old in zip(numbers(other), numbers(vector), strict=True)]
    assert len(set(quotients)) == len(EDGES)


def test_sums_agree_with_phe():
    left, right = phe_encrypt(EDGES), phe_encrypt(EDGES[::-1])
    key = PHE.public_key
    expected = [
        phe.EncryptedNumber(key, one, 0)._raw_add(one, other)
        for one, other in zip(numbers(left), numbers(right), strict=True)
    ]
    assert numbers(GUEST.add(left, right)) == expected
    assert numbers(GUEST.multiply_all([left, right, left])) == [
        one * other % SQUARE for one, other in zip(expected, numbers(left), strict=True)
    ]
    assert numbers(GUEST.multiply_all([left])) == numbers(left)


def test_plain_numbers_are_added_as_phe_encrypts_them():
    chance = random.Random(1)
    bases = [chance.randrange(2, N) for _ in EDGES]
    zeros = CipherVector.from_ints(PUBLIC, [pow(base, N, SQUARE) for base in bases])
    expected = [PHE.public_key.raw_encrypt(value % N, r_value=base) for value, base in zip(EDGES, bases, strict=True)]
    assert numbers(GUEST.add_plain(zeros, EDGES)) == expected


def test_inverses_are_negatives():
    vector = phe_encrypt([0, 1, 7, N - 1])
    assert phe_decrypt(GUEST.invert(vector)) == [0, N - 1, N - 7, 1]
    edges = CipherVector.from_ints(PUBLIC, UNITS)
    assert numbers(GUEST.invert(edges)) == [pow(unit, -1, SQUARE) for unit in UNITS]
    with pytest.raises(CiphertextError, match="in common"):
        GUEST.invert(CipherVector.from_ints(PUBLIC, [2, PRIVATE.p]))


@pytest.mark.parametrize("bits", [1, 16, 17, 40])
@pytest.mark.parametrize("terms", [1, 2, 3, 6, 7])
def test_powers_of_the_terms_of_a_row_agree_with_integers(terms, bits):
    chance = random.Random(terms * 100 + bits)
    top = (1 << bits) - 1
    rows = [[0] * terms, [top] * terms, [top] + [0] * (terms - 1), [0] * (terms - 1) + [1]]
    rows += [[chance.randint(0, top) for _ in range(terms)] for _ in range(3)]
    bases = [chance.choice(UNITS) for _ in range(len(rows) * terms)]
    result = GUEST.power_rows(CipherVector.from_ints(PUBLIC, bases), np.array(rows), bits)
    expected = []
    for at, row in enumerate(rows):
        product = 1
        for base, exponent in zip(bases[at * terms :], row, strict=False):
            product = product * pow(base, exponent, SQUARE) % SQUARE
        expected.append(product)
    assert numbers(result) == expected


def test_powers_of_the_terms_of_a_row_agree_with_phe():
    values = [3, -4, N - 1, 0, 1, 2**30]
    exponents = np.array([[65535, 0, 1], [65534, 32767, 2]], dtype=np.uint16)
    plain = phe_decrypt(GUEST.power_rows(phe_encrypt(values), exponents))
    assert plain == [(3 * 65535 - 1) % N, (2 * 2**30 + 32767) % N]
    key = PHE.public_key
    encrypted = [phe.EncryptedNumber(key, int(number), 0) for number in numbers(phe_encrypt(values))]
    oracle = encrypted[0] * 65535 + encrypted[1] * 0 + encrypted[2] * 1
    assert int(PHE.raw_decrypt(oracle.ciphertext(be_secure=False))) == plain[0]


@pytest.mark.parametrize("bits", [1, 8, 73, 133])
@pytest.mark.parametrize(("rows", "terms"), [(1, 1), (2, 3), (40, 2), (300, 1)])
def test_powers_summed_over_rows_agree_with_integers(rows, terms, bits):
    chance = random.Random(rows + bits)
    top = (1 << bits) - 1
    exponents = [0, top, 1, *[chance.randint(0, top) for _ in range(rows)]][:rows]
    bases = [chance.choice([*UNITS, chance.randrange(1, SQUARE)]) for _ in range(rows * terms)]
    expected = [1] * terms
    for at, base in enumerate(bases):
        expected[at % terms] = expected[at % terms] * pow(base, exponents[at // terms], SQUARE) % SQUARE
    vector = CipherVector.from_ints(PUBLIC, bases)
    assert numbers(GUEST.power_sum(vector, exponents, bits)) == expected


def test_powers_summed_over_rows_agree_with_phe():
    values = [5, -6, 7, 8]
    shares = [2**73 - 1, 0]
    plain = phe_decrypt(GUEST.power_sum(phe_encrypt(values), shares, 73))
    assert plain == [5 * (2**73 - 1), -6 * (2**73 - 1) % N]


@pytest.mark.parametrize("exponent", [0, 2**73 - 1])
def test_equal_exponents_at_either_end_are_summed(exponent):
    vector = CipherVector.from_ints(PUBLIC, UNITS)
    product = 1
    for unit in UNITS:
        product = product * pow(unit, exponent, SQUARE) % SQUARE
    assert numbers(GUEST.power_sum(vector, [exponent] * len(UNITS), 73)) == [product]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_rows_are_packed_lowest_first_and_the_last_block_may_be_short(count):
    values = [100 + at for at in range(count)]
    packed = phe_decrypt(GUEST.pack_rows(phe_encrypt(values), 73, 4))
    blocks = [values[at : at + 4] for at in range(0, count, 4)]
    assert packed == [sum(value << (73 * at) for at, value in enumerate(block)) for block in blocks]


def test_bins_are_summed_by_column():
    bins = np.array([[0, 2], [1, 2], [0, 0]])
    sums = GUEST.bin_sums(phe_encrypt([1, 10, 100]), bins, 3)
    assert phe_decrypt(sums) == [101, 10, 0, 100, 0, 11]
    assert numbers(sums)[2] == 1


def test_the_plan_for_six_terms_of_16_bits_takes_54_products():
    assert straus_plan(6, 16) == (3, 1)
    assert straus_cost(6, 16, 3, 1) == 54


@pytest.mark.parametrize(
    "call",
    [
        lambda v: OWNER.encrypt([N], stream("x")),
        lambda v: GUEST.encrypt([-N], stream("x")),
        lambda v: GUEST.add_plain(v, [1]),
        lambda v: GUEST.add_plain(v, [1, 2, 3, N]),
        lambda v: GUEST.add(v, v[:2]),
        lambda v: GUEST.multiply_all([]),
        lambda v: GUEST.power_rows(v, np.array([[1, 2, 3]])),
        lambda v: GUEST.power_rows(v, np.array([1, 2, 3, 4])),
        lambda v: GUEST.power_rows(v, np.array([[1, 2], [3, -1]])),
        lambda v: GUEST.power_rows(v, np.array([[1, 2], [3, 65536]])),
        lambda v: GUEST.power_rows(v, np.array([[1, 2], [3, 4]]), 63),
        lambda v: GUEST.power_sum(v, [1, 2, 3], 8),
        lambda v: GUEST.power_sum(v, [1, 256], 8),
        lambda v: GUEST.power_sum(v, [1, -1], 8),
        lambda v: GUEST.power_sum(v, [], 8),
        lambda v: GUEST.pack_rows(v, 0, 4),
        lambda v: GUEST.bin_sums(v, np.array([[0], [1], [2], [3]]), 3),
        lambda v: GUEST.bin_sums(v, np.array([[0], [1]]), 3),
    ],
)
def test_operands_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match=r"."):
        call(CipherVector.from_ints(PUBLIC, [1, 2, 3, 4]))


def test_ciphertexts_of_another_key_are_refused():
    other = generate(512, RANDOMNESS.stream("other"), insecure=True).public
    vector = CipherVector.from_ints(other, [1])
    for call in (OWNER.decrypt, lambda v: GUEST.add(v, v), lambda v: GUEST.rerandomise(v, stream("x"))):
        with pytest.raises(ValueError, match="another key"):
            call(vector)


def test_without_a_stream_nothing_is_encrypted_but_all_else_works():
    owner, guest = BACKEND.owner(PRIVATE, None), BACKEND.guest(PUBLIC, None)
    vector = phe_encrypt([4, 5])
    assert owner.decrypt(guest.add(vector, vector)) == [8, 10]
    for call in (owner.encrypt, guest.encrypt):
        with pytest.raises(BackendError, match="without a stream"):
            call([1], stream("x"))
    with pytest.raises(BackendError, match="without a stream"):
        guest.rerandomise(vector, stream("x"))


def test_owners_and_vectors_show_no_secret():
    for shown in (repr(OWNER), repr(GUEST), repr(pickle.loads(pickle.dumps(phe_encrypt([1]))))):
        assert str(PRIVATE.p) not in shown
        assert len(shown) < 200


def test_a_full_size_key_runs_every_operation_as_phe_would():
    private = generate(2048, RANDOMNESS.stream("full"))
    key, n = private.to_phe(), private.public.modulus
    owner, guest = (
        BACKEND.owner(private, stream("full owner")),
        BACKEND.guest(private.public, stream("full guest")),
    )
    values = [-5, n - 1, 2**40, 0, 1, 7]
    vector = owner.encrypt(values, stream("full"))
    vector.check()
    assert phe_decrypt(vector, key) == [value % n for value in values]
    assert owner.decrypt(vector) == [value % n for value in values]
    again = guest.rerandomise(vector, stream("full again"))
    assert phe_decrypt(again[:2], key) == [n - 5, n - 1]
    powers = guest.power_rows(again, np.array([[65535, 3, 1], [0, 2, 65534]]))
    assert phe_decrypt(powers, key) == [(-5 * 65535 - 3 + 2**40) % n, 2 + 7 * 65534]
    sums = guest.power_sum(vector, [2**73 - 1, 5, 0], 73)
    assert phe_decrypt(sums, key) == [(-5 * (2**73 - 1) + 5 * 2**40) % n, -(2**73 - 1) % n]
    assert phe_decrypt(guest.pack_rows(vector[3:], 73, 27), key) == [(1 << 73) + (7 << 146)]


@pytest.mark.parametrize("party", ["owner", "guest"])
@pytest.mark.parametrize(
    ("number", "complaint"),
    [(0, "ciphertext 2"), (SQUARE, "ciphertext 2"), (SQUARE + 1, "ciphertext 2"), (PRIVATE.p, "factor"), (N, "factor")],
)
def test_what_is_no_ciphertext_is_refused_wherever_it_stands(party, number, complaint):
    good = [1, SQUARE - 1, *UNITS]
    party_of(party).check(CipherVector.from_ints(PUBLIC, good))
    for at in (2, len(good) - 1) if "factor" in complaint else (2,):
        with pytest.raises(CiphertextError, match=complaint):
            party_of(party).check(CipherVector.from_ints(PUBLIC, [*good[:at], number, *good[at:]]))


def test_no_ciphertexts_at_all_are_in_order():
    GUEST.check(CipherVector.from_ints(PUBLIC, []))


def test_a_row_takes_one_ciphertext_more_as_it_is():
    bases, more = CipherVector.from_ints(PUBLIC, UNITS[:6]), CipherVector.from_ints(PUBLIC, UNITS[:3])
    rows = np.array([[1, 2], [0, 0], [65535, 3]])
    assert numbers(GUEST.power_rows(bases, rows, plus=more)) == numbers(GUEST.add(GUEST.power_rows(bases, rows), more))
    with pytest.raises(ValueError, match="cannot be added"):
        GUEST.power_rows(bases, rows, plus=more[:2])
