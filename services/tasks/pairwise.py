"""Masks that two parties share and that cancel in a sum over all parties (`learning.arithmetic.masked`).

Each party has an X25519 key of the job alone, expanded from its job secret; the public halves travel in `mask.key`.
Both ends of a pair derive the same seed, bound to the job and to both names, and from it a fresh stream for every
purpose and iteration. Nothing of it is stored.
"""

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from learning.arithmetic import masked
from paillier.randomness import Randomness, RandomStream
from services.tasks import keyring
from services.tasks.compute import TaskContext, TaskRefused


def _private(context: TaskContext) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(keyring.stream(context, "mask-key").bytes(32))


def public_key(context: TaskContext) -> bytes:
    """This party's public key of the job, 32 bytes."""
    return _private(context).public_key().public_bytes_raw()


def shared(context: TaskContext, partner: str, public: bytes, purpose: str, *parts: int | str | bytes) -> RandomStream:
    """The stream that this party and `partner` share for one purpose. Raises TaskRefused for a key of low order."""
    try:
        secret = _private(context).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise TaskRefused("mask_key_wrong", f"the mask key of {partner} is no point of the curve's group") from None
    names = "\0".join(sorted((context.party, partner)))
    seed = hashlib.sha256(b"warren pairwise mask\0" + secret + f"{context.job}\0{names}".encode()).digest()
    return Randomness(seed).stream(purpose, *parts)


def masks(
    context: TaskContext, arguments: dict[str, Any], count: int, purpose: str, *parts: int | str | bytes
) -> list[list[int]]:
    """What this party adds to `count` numbers: one list for each other party in `keys`, modulo 2^256.

    `arguments`: `order` (all parties, the contract's order) and `keys` (name -> public key). The earlier of two
    parties adds their mask, the later one subtracts it.
    """
    order: list[str] = arguments["order"]
    found = []
    for name, public in arguments["keys"].items():
        stream = shared(context, name, public, purpose, *parts)
        sign = 1 if order.index(context.party) < order.index(name) else -1
        found.append([sign * value for value in stream.many_below(masked.PERIOD, count)])
    return found
