"""Microseconds per batch operation on this machine, next to phe doing the same.

One core, one process. Every operation is run on a batch, again and again until its time is up; the fastest
run counts, since whatever else the machine does only ever adds.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import phe

from paillier.backend import select
from paillier.keys import KEY_BITS_MIN, PrivateKey, generate
from paillier.proof import prove, verify
from paillier.randomness import Randomness
from paillier.vector import CipherVector

BATCH = 54
TERMS = 6
SUM_ROWS = 2048
SHARE_BITS = 73
SLOT_ROWS = 27
RANDOMNESS = Randomness(bytes(32))  # fixed: what is measured protects nothing

Work = Callable[[], object]


class Row(NamedTuple):
    """One operation: microseconds per item, phe's for the same item, and how many times faster.

    The last two are None for what phe has no counterpart of.
    """

    operation: str
    microseconds: float
    phe_microseconds: float | None
    ratio: float | None


def measure(bits: int = 2048, seconds: float = 0.5) -> list[Row]:
    """All operations of the gmpy2 back end under a key of `bits` bits, for `seconds` each (and phe's too).

    Raises InvalidKeyError for a length that no key has.
    """
    private = generate(bits, RANDOMNESS.stream("key"), insecure=bits < KEY_BITS_MIN)
    rows = []
    for name, items, work, phe_work in (*_once(private), *_operations(private)):
        own = _fastest(work, seconds) / items * 1e6
        other = None if phe_work is None else _fastest(phe_work, seconds) * 1e6
        rows.append(Row(name, own, other, None if other is None else other / own))
    return rows


def _fastest(work: Work, seconds: float) -> float:
    best, started = float("inf"), time.perf_counter()
    while True:
        before = time.perf_counter()
        work()
        after = time.perf_counter()
        best = min(best, after - before)
        if after - started >= seconds:
            return best


def _once(private: PrivateKey) -> Iterator[tuple[str, int, Work, Work | None]]:
    """What happens once per job or once per worker process."""
    bits, public, backend = private.public.bits, private.public, select()
    insecure = bits < KEY_BITS_MIN
    stream, proof = RANDOMNESS.stream, prove(private, b"")
    yield (
        "generate a key",
        1,
        lambda: generate(bits, stream("key"), insecure=insecure),
        lambda: phe.generate_paillier_keypair(n_length=bits),
    )
    yield "prove the modulus", 1, lambda: prove(private, b""), None
    yield "verify the modulus", 1, lambda: verify(public, proof, b"", bits, insecure=insecure), None
    yield (
        "build an owner's tables",
        1,
        lambda: backend.owner(private, stream("owner")).encrypt([0], stream("first")),
        None,
    )
    yield (
        "build a guest's tables",
        1,
        lambda: backend.guest(public, stream("guest")).encrypt([0], stream("first")),
        None,
    )


def _operations(private: PrivateKey) -> Iterator[tuple[str, int, Work, Work | None]]:
    """What happens per ciphertext or per row; phe does one item at a time."""
    stream, chance = RANDOMNESS.stream, random.Random(1)
    owner = select().owner(private, stream("owner"))
    guest = select().guest(private.public, stream("guest"))
    values = [chance.randrange(-(2**24), 2**24) for _ in range(BATCH)]
    vector = owner.encrypt(values, stream("values"))
    guest.rerandomise(vector[:1], stream("values"))
    exponents = np.array([chance.randrange(2**16) for _ in range(BATCH)]).reshape(-1, TERMS)
    shares = [chance.randrange(2**SHARE_BITS) for _ in range(SUM_ROWS)]
    rows = CipherVector.concatenate([vector] * -(-SUM_ROWS // BATCH))[:SUM_ROWS]

    key, public = private.to_phe(), private.public.to_phe()
    number = int(vector.to_ints()[0])
    boxed = phe.EncryptedNumber(public, number, 0)
    value = values[0] % public.n

    def phe_multiply_add(factor: int, terms: int = 1) -> None:
        for _ in range(terms):
            boxed._raw_add(number, boxed._raw_mul(factor))

    yield "encrypt", BATCH, lambda: owner.encrypt(values, stream("e")), lambda: public.raw_encrypt(value)
    yield "decrypt", BATCH, lambda: owner.decrypt(vector), lambda: key.raw_decrypt(number)
    yield "rerandomise", BATCH, lambda: guest.rerandomise(vector, stream("r")), boxed.obfuscate
    yield "check", BATCH, vector.check, None
    yield "add", BATCH, lambda: guest.add(vector, vector), lambda: boxed._raw_add(number, number)
    yield "add_plain", BATCH, lambda: guest.add_plain(vector, values), lambda: boxed + 12345
    yield "invert", BATCH, lambda: guest.invert(vector), lambda: boxed._raw_mul(public.n - 1)
    yield (
        f"power_rows, row of {TERMS} terms of 16 bits",
        BATCH // TERMS,
        lambda: guest.power_rows(vector, exponents),
        lambda: phe_multiply_add(54321, TERMS),
    )
    yield (
        f"power_sum, row, {SHARE_BITS} bits, {SUM_ROWS} rows",
        SUM_ROWS,
        lambda: guest.power_sum(rows, shares, SHARE_BITS),
        lambda: phe_multiply_add(shares[0]),
    )
    yield (
        f"pack_rows, row, {SHARE_BITS} bits, {SLOT_ROWS} in one",
        BATCH,
        lambda: guest.pack_rows(vector, SHARE_BITS, SLOT_ROWS),
        lambda: phe_multiply_add(1 << SHARE_BITS),
    )


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| operation | microseconds | phe | ratio |", "|---|---:|---:|---:|"]
    for row in rows:
        other = "-" if row.phe_microseconds is None else f"{row.phe_microseconds:,.1f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(f"| {row.operation} | {row.microseconds:,.1f} | {other} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
