"""A modulus is accepted with its proof, and refused for each reason there is."""

import gmpy2
import pytest

from paillier import proof
from paillier.keys import PublicKey, generate
from paillier.primes import draw_prime
from paillier.proof import FACTOR_MIN, ROOTS, ProofError, prove, verify
from paillier.randomness import Randomness

RANDOMNESS = Randomness(b"p" * 32)
PRIVATE = generate(512, RANDOMNESS.stream("key"), insecure=True)
PUBLIC = PRIVATE.public
CONTEXT = b"job 7, party a"
PROOF = prove(PRIVATE, CONTEXT)


def check(public=PUBLIC, roots=PROOF, context=CONTEXT, bits=512):
    verify(public, roots, context, bits, insecure=True)


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
    changed = bytearray(PROOF)
    changed[64 * position + 63] ^= 1
    with pytest.raises(ProofError, match=f"root {position + 1} of 11"):
        check(roots=bytes(changed))


@pytest.mark.parametrize("roots", [b"", PROOF[:-1], PROOF + b"\x00"])
def test_a_proof_of_another_length_is_refused(roots):
    with pytest.raises(ProofError, match="bytes, not 704"):
        check(roots=roots)


@pytest.mark.parametrize("number", [0, PUBLIC.modulus])
def test_a_root_outside_the_modulus_is_refused(number):
    with pytest.raises(ProofError, match="root 1"):
        check(roots=number.to_bytes(64, "big") + PROOF[64:])


def test_a_modulus_with_a_small_factor_is_refused():
    cofactor = int(gmpy2.next_prime((1 << 511) // 6367))
    with pytest.raises(ProofError, match="factor below 6370"):
        check(public=PublicKey(6367 * cofactor), bits=512)


def test_a_prime_modulus_is_refused():
    with pytest.raises(ProofError, match="is prime"):
        check(public=PublicKey(int(gmpy2.next_prime(1 << 511))))


def test_a_modulus_that_lets_plaintexts_leak_is_refused_whatever_the_prover_tries():
    # p divides q - 1: N-th powers are then p-th powers mod q, and re-randomisation hides only so much.
    p = draw_prime(3 << 198, 1 << 200, RANDOMNESS.stream("p"))
    first = (3 << 310) // (2 * p)
    q = next(c for k in range(first, 2 * first) if gmpy2.is_prime(c := 2 * k * p + 1))
    public = PublicKey(p * q)
    assert public.bits == 512
    # The best a prover can do: right mod p, and mod q a root of the part of the challenge that has one.
    root_p, root_q = gmpy2.invert(q, p - 1), gmpy2.invert(p * q, (q - 1) // p)
    roots = []
    for challenge in proof._challenges(public, CONTEXT):
        at_p, at_q = pow(int(challenge), int(root_p), p), pow(int(challenge), int(root_q), q)
        root = at_p + p * ((at_q - at_p) * pow(p, -1, q) % q)
        assert pow(root, p * q, p) == challenge % p
        roots.append(root.to_bytes(64, "big"))
    with pytest.raises(ProofError, match="root 1"):
        check(public=public, roots=b"".join(roots))
