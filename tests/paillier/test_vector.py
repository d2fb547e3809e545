"""Ciphertexts as bytes: the same on both sides, and nothing that is none gets through."""

import pickle

import numpy as np
import pytest

from paillier.keys import generate
from paillier.randomness import Randomness
from paillier.vector import CiphertextError, CipherVector

PRIVATE = generate(512, Randomness(b"v" * 32).stream("key"), insecure=True)
PUBLIC = PRIVATE.public
N = PUBLIC.modulus
NUMBERS = [1, 2, N - 1, N + 1, N**2 - 1, (1 << 1020) + 1]


def test_numbers_and_bytes_come_back():
    vector = CipherVector.from_ints(PUBLIC, NUMBERS)
    assert [int(number) for number in vector.to_ints()] == NUMBERS
    data = vector.to_bytes()
    assert data == b"".join(number.to_bytes(128, "little") for number in NUMBERS)
    assert CipherVector.from_bytes(PUBLIC, data).to_bytes() == data
    assert pickle.loads(pickle.dumps(vector)).to_bytes() == data


def test_an_empty_vector_is_a_vector():
    empty = CipherVector.from_bytes(PUBLIC, b"")
    empty.check()
    assert (len(empty), empty.to_ints(), empty.to_bytes()) == (0, [], b"")


def test_slices_and_joins_keep_the_order():
    vector = CipherVector.from_ints(PUBLIC, NUMBERS)
    joined = CipherVector.concatenate([vector[:2], vector[2:]])
    assert joined.to_bytes() == vector.to_bytes()
    assert vector[np.array([5, 0])].to_ints() == [NUMBERS[5], 1]
    assert len(vector[1:4]) == 3


def test_ciphertexts_of_two_keys_cannot_be_joined():
    other = generate(512, Randomness(b"w" * 32).stream("key"), insecure=True).public
    with pytest.raises(CiphertextError, match="under one key"):
        CipherVector.concatenate([CipherVector.from_ints(PUBLIC, [1]), CipherVector.from_ints(other, [1])])
    with pytest.raises(CiphertextError, match="under one key"):
        CipherVector.concatenate([])


def test_good_ciphertexts_pass_the_check():
    CipherVector.from_ints(PUBLIC, NUMBERS).check()


@pytest.mark.parametrize("number", [0, N**2, N**2 + 1, (1 << 1024) - 1])
def test_numbers_outside_the_range_are_refused_by_place(number):
    with pytest.raises(CiphertextError, match="ciphertext 2 "):
        CipherVector.from_ints(PUBLIC, [1, 2, number]).check()


@pytest.mark.parametrize("number", [PRIVATE.p, PRIVATE.q, N, N * (N - 1), PRIVATE.p**3])
def test_numbers_with_a_factor_of_the_modulus_are_refused(number):
    with pytest.raises(CiphertextError, match="in common"):
        CipherVector.from_ints(PUBLIC, [1, number, 2]).check()


def test_factors_that_multiply_to_the_modulus_are_still_found():
    with pytest.raises(CiphertextError, match="in common"):
        CipherVector.from_ints(PUBLIC, [PRIVATE.p, PRIVATE.q]).check()


def test_bytes_of_the_wrong_length_and_words_of_the_wrong_kind_are_refused():
    with pytest.raises(CiphertextError, match="127 bytes"):
        CipherVector.from_bytes(PUBLIC, bytes(127))
    with pytest.raises(CiphertextError, match="16 words"):
        CipherVector(PUBLIC, np.zeros((2, 15), dtype=np.uint64))
    with pytest.raises(CiphertextError, match="little-endian"):
        CipherVector(PUBLIC, np.zeros((2, 16), dtype=">u8"))
