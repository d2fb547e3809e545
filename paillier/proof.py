"""Proof that a modulus N makes raising to the N-th power a bijection: gcd(N, phi(N)) = 1.

Goldberg, Reyzin, Sagga, Baldimtsi, "Efficient Noninteractive Certification of RSA Moduli and Beyond",
ASIACRYPT 2019: if N has no prime factor below 6370 and gcd(N, phi(N)) > 1, then at most one in 6370 numbers
mod N has an N-th root, so eleven numbers that nobody chose have them all with probability 6370^-11 < 2^-138.
Without it, re-randomisation hides nothing (docs/protocol.md, section 2).
"""

import hashlib

import gmpy2
from gmpy2 import mpz

from paillier.keys import InvalidKeyError, PrivateKey, PublicKey, require_key_bits
from paillier.primes import PRIME_ROUNDS, small_primes
from paillier.randomness import encode_parts

ROOTS = 11
FACTOR_MIN = 6370
DOMAIN = "warren.paillier.modulus.v1"
_EXCESS_BYTES = 16  # drawn beyond the modulus, so that the remainder is uniform to within 2^-128


class ProofError(ValueError):
    """The modulus is refused; the text says which condition it fails."""


def prove(private: PrivateKey, context: bytes) -> bytes:
    """N-th roots of 11 numbers expanded from domain, `context` (job and party) and N.

    Returns 11 numbers below N, big-endian, each as long as N.
    """
    public = private.public
    p, q = mpz(private.p), mpz(private.q)
    root_p = gmpy2.invert(public.n, p - 1)
    root_q = gmpy2.invert(public.n, q - 1)
    inverse = gmpy2.invert(p, q)
    roots = []
    for challenge in _challenges(public, context):
        at_p = gmpy2.powmod(challenge, root_p, p)
        at_q = gmpy2.powmod(challenge, root_q, q)
        root = at_p + p * ((at_q - at_p) * inverse % q)
        roots.append(int(root).to_bytes(_width(public), "big"))
    return b"".join(roots)


def verify(public: PublicKey, proof: bytes, context: bytes, bits: int, *, insecure: bool = False) -> None:
    """Accepts the modulus of somebody else, or raises ProofError.

    `bits` is the length the contract names; under 2048 it is refused unless `insecure`.
    """
    try:
        require_key_bits(bits, insecure=insecure)
    except InvalidKeyError as error:
        raise ProofError(str(error)) from error
    if public.bits != bits:
        raise ProofError(f"the modulus has {public.bits} bits, not {bits}")
    if any(public.n % small == 0 for small in small_primes(FACTOR_MIN)):
        raise ProofError(f"the modulus has a prime factor below {FACTOR_MIN}")
    if gmpy2.is_prime(public.n, PRIME_ROUNDS):
        raise ProofError("the modulus is prime")
    width = _width(public)
    if len(proof) != ROOTS * width:
        raise ProofError(f"the proof has {len(proof)} bytes, not {ROOTS * width}")
    for at, challenge in enumerate(_challenges(public, context)):
        root = mpz(int.from_bytes(proof[at * width : (at + 1) * width], "big"))
        if not 0 < root < public.n or gmpy2.powmod(root, public.n, public.n) != challenge:
            raise ProofError(f"root {at + 1} of {ROOTS} is wrong")


def _width(public: PublicKey) -> int:
    return (public.bits + 7) // 8


def _challenges(public: PublicKey, context: bytes) -> list[mpz]:
    width = _width(public) + _EXCESS_BYTES
    seed = encode_parts(DOMAIN, context, public.to_bytes())
    data = hashlib.shake_256(seed).digest(ROOTS * width)
    return [mpz(int.from_bytes(data[at * width : (at + 1) * width], "big")) % public.n for at in range(ROOTS)]
