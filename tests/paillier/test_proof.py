"""A modulus is accepted with its proof, and refused for each reason there is."""

import gmpy2
import pytest

from paillier.keys import PublicKey, generate
from paillier.primes import draw_prime
from paillier.proof import FACTOR_MIN, ROOTS, ProofError, prove, verify
from paillier.randomness import Randomness

RANDOMNESS = Randomness(b"p" * 32)
PRIVATE = generate(512, RANDOMNESS.stream("key"), insecure=True)
PUBLIC = PRIVATE.public
CONTEXT = b"job 7, party a"
PROOF = prove(PRIVATE, CONTEXT)


def check(public=PUBLIC, proof=PROOF, context=CONTEXT, bits=512):
    verify(public, proof, context, bits, insecure=True)


def test_an_honest_proof_is_accepted_and_made_again_the_same():
    check()
    assert prove(PRIVATE, CONTEXT) == PROOF
    assert len(PROOF) == ROOTS * 64


def test_eleven_roots_leave_a_cheat_less_than_two_to_the_minus_128():
    assert FACTOR_MIN**ROOTS > 2**128


def test_a_full_size_modulus_is_accepted_without_being_called_insecure():
    private = generate(2048, RANDOMNESS.stream("full"))
    verify(private.public, prove(private, CONTEXT), CONTEXT, 2048)


def test_a_small_modulus_is_refused_unless_it_is_called_insecure():
    with pytest.raises(ProofError, match="at least 2048"):
        verify(PUBLIC, PROOF, CONTEXT, 512)


def test_a_proof_for_another_job_or_party_is_refused():
    with pytest.raises(ProofError, match="root 1"):
        check(context=b"job 8, party a")


def test_a_modulus_of_another_length_is_refused():
    with pytest.raises(ProofError, match="512 bits, not 514"):
        check(bits=514)


@pytest.mark.parametrize("position", range(ROOTS))
def test_a_change_in_any_root_is_refused(position):
    proof = bytearray(PROOF)
    proof[64 * position + 63] ^= 1
    with pytest.raises(ProofError, match=f"root {position + 1} of 11"):
        check(proof=bytes(proof))


@pytest.mark.parametrize("proof", [b"", PROOF[:-1], PROOF + b"\x00"])
def test_a_proof_of_another_length_is_refused(proof):
    with pytest.raises(ProofError, match="bytes, not 704"):
        check(proof=proof)


@pytest.mark.parametrize("number", [0, PUBLIC.modulus])
def test_a_root_outside_the_modulus_is_refused(number):
    with pytest.raises(ProofError, match="root 1"):
        check(proof=number.to_bytes(64, "big") + PROOF[64:])


def test_a_modulus_with_a_small_factor_is_refused():
    cofactor = int(gmpy2.next_prime((1 << 511) // 6367))
    with pytest.raises(ProofError, match="factor below 6370"):
        check(public=PublicKey(6367 * cofactor), bits=512)


def test_a_prime_modulus_is_refused():
    with pytest.raises(ProofError, match="is prime"):
        check(public=PublicKey(int(gmpy2.next_prime(1 << 511))))


def test_a_modulus_whose_factors_let_plaintexts_leak_is_refused_whatever_the_prover_tries():
    # p divides q - 1: an N-th power is then a p-th power mod q, and re-randomisation hides only so much.
    p = draw_prime(1 << 199, 1 << 200, RANDOMNESS.stream("p"))
    low = (1 << 311) // (2 * p)
    q = next(c for k in range(low, 2 * low) if gmpy2.is_prime(c := 2 * k * p + 1))
    n = p * q
    public = PublicKey(n)
    forged = type("Forged", (), {"public": public, "p": p, "q": q})()
    with pytest.raises(ZeroDivisionError):
        prove(forged, CONTEXT)
    # The best a prover can do: roots in the part of the group where they exist.
    part = (q - 1) // p
    exponent = gmpy2.invert(n, (p - 1) * part // gmpy2.gcd(p - 1, part))
    width = (n.bit_length() + 7) // 8
    root = int(gmpy2.powmod(5, exponent, n)).to_bytes(width, "big")
    with pytest.raises(ProofError, match="root 1"):
        check(public=public, proof=root * ROOTS, bits=n.bit_length() + n.bit_length() % 2)
