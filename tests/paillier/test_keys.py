"""Keys: reproducible, of exact length, the same in phe."""

import pickle
from math import gcd

import gmpy2
import phe
import pytest

from paillier.keys import InvalidKeyError, PrivateKey, PublicKey, generate
from paillier.primes import draw_prime, factors_of_order, is_generator, small_primes
from paillier.randomness import Randomness

RANDOMNESS = Randomness(b"k" * 32)


def key(bits, *parts):
    return generate(bits, RANDOMNESS.stream("key", *parts), insecure=bits < 2048)


@pytest.mark.parametrize("bits", [256, 258, 512, 1024, 2048])
def test_a_key_has_exactly_the_bits_asked_for_and_sound_primes(bits):
    private = key(bits)
    p, q = private.p, private.q
    assert private.public.modulus == p * q
    assert private.public.bits == bits
    assert p.bit_length() == q.bit_length() == bits // 2
    assert gmpy2.is_prime(p, 50) and gmpy2.is_prime(q, 50)
    assert gcd(p * q, (p - 1) * (q - 1)) == 1


def test_a_key_generated_again_from_its_stream_is_the_same_key():
    assert key(512, 1) == key(512, 1)
    assert key(512, 1) != key(512, 2)


def test_the_order_of_a_generated_prime_is_factored_completely():
    for prime in (key(512).p, key(512).q):
        factors = factors_of_order(prime)
        rest = prime - 1
        for factor in factors:
            assert gmpy2.is_prime(factor)
            while rest % factor == 0:
                rest //= factor
        assert rest == 1


def test_the_order_of_other_primes_is_not_claimed_to_be_factored():
    assert factors_of_order(draw_prime(1 << 255, 1 << 256, RANDOMNESS.stream("plain"))) is None
    assert factors_of_order(23) == (2, 11)


@pytest.mark.parametrize("prime", [23, 31, 101])
def test_generators_are_those_elements_whose_powers_are_everything(prime):
    for element in range(1, prime):
        powers = {pow(element, exponent, prime) for exponent in range(prime - 1)}
        assert is_generator(element, prime, factors_of_order(prime)) == (len(powers) == prime - 1)


def test_the_sieve_finds_the_primes():
    assert small_primes(30) == (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    assert len(small_primes(6370)) == sum(gmpy2.is_prime(number) for number in range(6370))


def test_lengths_that_are_too_short_are_refused():
    with pytest.raises(InvalidKeyError, match="at least 2048, not 2046"):
        generate(2046, RANDOMNESS.stream("key"))
    with pytest.raises(InvalidKeyError, match="at least 256, not 254"):
        generate(254, RANDOMNESS.stream("key"), insecure=True)
    with pytest.raises(InvalidKeyError, match="even"):
        generate(2049, RANDOMNESS.stream("key"))


@pytest.mark.parametrize(
    ("p", "q"), [(13, 13), (13, 15), (2, 13), (7, 29)], ids=["equal", "composite", "even", "7 divides 29 - 1"]
)
def test_numbers_that_make_no_key_are_refused(p, q):
    with pytest.raises(InvalidKeyError):
        PrivateKey(p, q)


@pytest.mark.parametrize("modulus", [0, -15, 1, 1 << 512])
def test_numbers_that_are_no_modulus_are_refused(modulus):
    with pytest.raises(InvalidKeyError):
        PublicKey(modulus)


def test_keys_go_to_phe_and_come_back():
    private = key(512)
    there = private.to_phe()
    assert there.decrypt(there.public_key.encrypt(-12345)) == -12345
    assert PublicKey.from_phe(there.public_key) == private.public
    back = PrivateKey.from_phe(there)
    assert {back.p, back.q} == {private.p, private.q}
    public, made_by_phe = phe.generate_paillier_keypair(n_length=512)
    assert PrivateKey.from_phe(made_by_phe).public.to_phe() == public


def test_keys_survive_bytes_and_pickle():
    private = key(512)
    assert PrivateKey.from_bytes(private.to_bytes()) == private
    assert PublicKey.from_bytes(private.public.to_bytes()) == private.public
    assert pickle.loads(pickle.dumps(private)) == private
    assert pickle.loads(pickle.dumps(private.public)).square == private.public.modulus**2
    with pytest.raises(InvalidKeyError, match="leading zeros"):
        PublicKey.from_bytes(b"\x00" + private.public.to_bytes())


def test_a_private_key_does_not_show_its_primes():
    private = key(512)
    for shown in (repr(private), str(private), f"{private}"):
        assert str(private.p) not in shown
        assert str(private.q) not in shown
        assert "512 bits" in shown
