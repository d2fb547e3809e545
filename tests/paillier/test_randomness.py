"""One secret, many streams: reproducible, independent, uniform."""

import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from paillier.randomness import Randomness, encode_parts

SECRET = bytes(range(32))
PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=6), st.binary(max_size=6)), max_size=4)


@given(PARTS, PARTS)
def test_different_parts_never_get_the_same_encoding(one, other):
    same = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    assert (encode_parts(*one) == encode_parts(*other)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        ((1, 23), (12, 3)),
        (("1",), (1,)),
        (("a",), (b"a",)),
        ((), ("",)),
        ((-1,), (255,)),
    ],
)
def test_parts_that_look_alike_are_told_apart(one, other):
    randomness = Randomness(SECRET)
    assert randomness.stream("p", *one).bytes(16) != randomness.stream("p", *other).bytes(16)


def test_the_same_arguments_give_the_same_bytes_and_another_secret_does_not():
    assert Randomness(SECRET).stream("p", 1).bytes(99) == Randomness(SECRET).stream("p", 1).bytes(99)
    assert Randomness(SECRET).stream("p", 1).bytes(99) != Randomness(bytes(32)).stream("p", 1).bytes(99)


def test_a_stream_is_aes_256_of_a_counter_under_a_derived_key():
    key = hmac.new(SECRET, encode_parts("masks", 7, b"x"), "sha256").digest()
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    expected = b"".join(block.update(at.to_bytes(16, "big")) for at in range(4))
    assert Randomness(SECRET).stream("masks", 7, b"x").bytes(64) == expected


@given(st.lists(st.integers(0, 40), max_size=6))
def test_reading_in_pieces_equals_reading_at_once(sizes):
    pieces = Randomness(SECRET).stream("pieces")
    assert b"".join(pieces.bytes(size) for size in sizes) == Randomness(SECRET).stream("pieces").bytes(sum(sizes))


@given(st.integers(1, 1 << 70), st.integers(0, 30))
def test_many_draws_equal_single_draws_and_stay_below_the_bound(bound, count):
    many, single = Randomness(SECRET).stream("draws"), Randomness(SECRET).stream("draws")
    drawn = many.many_below(bound, count)
    assert drawn == [single.below(bound) for _ in range(count)]
    assert all(0 <= number < bound for number in drawn)
    assert many.bytes(8) == single.bytes(8)


def test_draws_below_a_bound_are_uniform():
    counts = np.bincount(Randomness(SECRET).stream("uniform").many_below(11, 22_000), minlength=11)
    chi_square = float(((counts - 2000) ** 2 / 2000).sum())
    assert len(counts) == 11
    assert chi_square < 10 + 5 * 20**0.5


def test_bits_cover_their_range():
    stream = Randomness(SECRET).stream("bits")
    assert {stream.bits(2) for _ in range(100)} == {0, 1, 2, 3}
    assert stream.bits(0) == 0


def test_secrets_are_not_shown_and_short_ones_refused():
    secret = b"correct horse battery staple 123"
    randomness = Randomness(secret)
    for shown in (repr(randomness), repr(randomness.stream("p")), str(randomness)):
        assert "horse" not in shown
        assert secret.hex() not in shown
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Randomness(bytes(31))


def test_what_cannot_be_drawn_or_encoded_is_refused():
    stream = Randomness(SECRET).stream("p")
    with pytest.raises(ValueError, match="at least 1"):
        stream.below(0)
    with pytest.raises(TypeError, match="float"):
        Randomness(SECRET).stream("p", 1.5)  # type: ignore[arg-type]
