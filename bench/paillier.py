"""Microseconds per batch operation of every back end, and of others doing the same, in one run on one core.

Every operation is raced (`bench.rounds`): each column has its turn in every round. Batches are as large as the
operation has them in a job; a peer that pays the same for every item has fewer items (`Sizes`). A ratio is peer / own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alignment.curve import Points, map_many, mask_many
from bench.kernels import kernel_state
from bench.paillier_peers import (
    HEU_SCHEMAS,
    LINK_BITS,
    SHARE_BITS,
    Sizes,
    cryptography_column,
    draws,
    exchange,
    heu_calls,
    heu_columns,
    phe_calls,
    phe_column,
)
from bench.rounds import Column, Operation, Report, Row, Timed, machine, one_core, race, version_of, versions
from bench.tables import to_markdown
from paillier.backend import Backend, BackendError, Guest, Owner
from paillier.choice import select
from paillier.keys import KEY_BITS_MIN, PrivateKey, PublicKey, generate
from paillier.proof import prove, verify
from paillier.randomness import Randomness
from paillier.vector import CipherVector
from services import __version__

RANDOMNESS = Randomness(bytes(32))  # fixed: what is measured protects nothing
SCALAR = bytes(range(32))
WANTED_BITS = 2048
LONG = 8
BACKENDS = ("compiled", "gmpy2")


def operations(sizes: Sizes) -> list[Operation]:
    """What is timed, in the order of the table; what is wanted is a ratio to phe (X25519: to `cryptography`)."""
    rows, columns = sizes.rows, sizes.columns
    paillier = [
        Operation("generate_key", "generate a key", "key", median=True),
        Operation("prove", "prove the modulus", "proof"),
        Operation("verify", "verify the modulus", "proof"),
        Operation("owner_tables", "build an owner's tables", "job"),
        Operation("guest_tables", "build a guest's tables", "job"),
        Operation("encrypt", "encrypt (owner, full entropy)", "ciphertext", wanted=180),
        Operation("decrypt", "decrypt", "ciphertext", wanted=5),
        Operation("add", "add", "ciphertext", wanted=15),
        Operation("sum_many", f"sum of {sizes.vectors} vectors", "addition"),
        Operation("add_plain", "add_plain", "ciphertext"),
        Operation("rerandomise", "rerandomise under another's key", "ciphertext", wanted=20),
        Operation("check", "check", "ciphertext"),
        Operation("invert", "invert", "ciphertext"),
        Operation("power_rows", f"power_rows, {sizes.terms} terms of {LINK_BITS} bits", "row"),
        Operation("power_sum_16", f"power_sum, {LINK_BITS} bits, {rows} rows x {columns}", "entry", wanted=40),
        Operation("power_sum_73", f"power_sum, {SHARE_BITS} bits, {rows} rows x {columns}", "entry", wanted=30),
        Operation("pack_rows", f"pack_rows, {sizes.slots} rows of {SHARE_BITS} bits", "row"),
        Operation("bin_sums", f"bin_sums, {sizes.bins} bins", "entry"),
        Operation("product_n", "product mod N^2", "product"),
        Operation("product_p", "product mod p^2", "product"),
    ]
    return [
        *(replace(operation, section="Paillier") for operation in paillier),
        Operation("x25519", "X25519 product", "point", wanted=4, section="X25519"),
    ]


def measure(
    bits: int = WANTED_BITS,
    seconds: float = 0.5,
    sizes: Sizes | None = None,
    say: Callable[[str], None] = lambda title: None,
) -> Report:
    """All operations under keys of `bits` bits, each for about `seconds` by each column.

    Args:
        bits: of the modulus; below 2048 only to try the benchmark out.
        seconds: per operation and column; slow ones take five rounds whatever this is.
        sizes: of the batches, those of `Sizes()` if None.
        say: is told each operation before it is raced.

    Raises:
        InvalidKeyError: a length that no key has.

    """
    sizes = sizes or Sizes()
    private = generate(bits, RANDOMNESS.stream("key"), insecure=bits < KEY_BITS_MIN)
    with one_core() as core:
        say("setting up")
        columns, ways = _contenders(private, sizes)
        rows = list(_races(sizes, columns, ways, seconds, bits, say))
        return Report(
            benchmark="paillier",
            facts={"bits": bits, "seconds": seconds},
            machine=machine(core),
            versions=versions(),
            kernel=kernel_state(),
            columns=columns,
            rows=rows,
        )


def _races(
    sizes: Sizes,
    columns: Sequence[Column],
    ways: dict[str, dict[str, Timed]],
    seconds: float,
    bits: int,
    say: Callable[[str], None],
) -> Iterator[Row]:
    for operation in operations(sizes):
        racing = {key: calls[operation.key] for key, calls in ways.items() if operation.key in calls}
        peer = "cryptography" if operation.key == "x25519" else "phe"
        holds = bits == WANTED_BITS and "compiled" in racing
        say(operation.title)
        yield race(operation, racing, columns, seconds=seconds, wanted_of=("compiled", peer) if holds else None)


def _contenders(private: PrivateKey, sizes: Sizes) -> tuple[list[Column], dict[str, dict[str, Timed]]]:
    """The columns of the table, and by column and operation what is to be run."""
    columns, ways = [], {}
    for column, calls in (*_own(private, sizes), *_peers(private, sizes)):
        columns.append(column)
        if calls:
            ways[column.key] = calls
    return columns, ways


def _own(private: PrivateKey, sizes: Sizes) -> Iterator[tuple[Column, dict[str, Timed]]]:
    path = kernel_state()["path"]
    for name in BACKENDS:
        column = Column(name, name, version_of(name) or f"Warren {__version__}", peer=False)
        try:
            calls = own_calls(select(name), private, sizes)
        except BackendError as error:
            yield replace(column, absent=str(error)), {}
            continue
        if name == "compiled":
            calls["x25519"] = own_exchange(sizes)
            column = replace(column, note=f"path {path}")
        yield column, calls


def _peers(private: PrivateKey, sizes: Sizes) -> Iterator[tuple[Column, dict[str, Timed]]]:
    yield phe_column(), phe_calls(private, sizes)
    for column in heu_columns():
        try:
            yield column, {} if column.absent else heu_calls(HEU_SCHEMAS[column.key][0], private.public.bits, sizes)
        except RuntimeError as error:
            yield replace(column, note="", absent=str(error).splitlines()[-1]), {}
    yield cryptography_column(), {"x25519": exchange(points_of(sizes).tobytes(), SCALAR)}


def own_exchange(sizes: Sizes) -> Timed:
    """X25519 of one scalar and each of the points, by `alignment` on the path that runs."""
    points = points_of(sizes)
    return Timed("mask_many", len(points), lambda: mask_many(points, SCALAR))


def points_of(sizes: Sizes) -> Points:
    """Points to be masked, shape (batch, 32)."""
    return map_many([b"%d" % item for item in range(sizes.batch)])


def own_calls(backend: Backend, private: PrivateKey, sizes: Sizes) -> dict[str, Timed]:
    """A back end's way of each operation under this key, by key of the operation."""
    stream = RANDOMNESS.stream
    owner = backend.owner(private, stream("owner"))
    guest = backend.guest(private.public, stream("guest"))
    values = draws(sizes.batch, 24)
    vector = owner.encrypt(values, stream("values"))
    guest.rerandomise(vector[:1], stream("values"))  # so that nothing below builds tables
    long = CipherVector.concatenate([vector] * LONG)  # what takes under a microsecond wants a batch like a job's chunk
    return {
        **(_without_back_end(private) if backend.name == "gmpy2" else {}),
        **_tables(backend, private),
        "encrypt": Timed("owner.encrypt", sizes.batch, lambda: owner.encrypt(values, stream("e"))),
        "decrypt": Timed("owner.decrypt", sizes.batch, lambda: owner.decrypt(vector)),
        "add": Timed("guest.add", len(long), lambda: guest.add(long, long)),
        "sum_many": Timed(
            "guest.multiply_all",
            sizes.batch * (sizes.vectors - 1),
            lambda: guest.multiply_all([vector] * sizes.vectors),
        ),
        "add_plain": Timed("guest.add_plain", sizes.batch, lambda: guest.add_plain(vector, values)),
        "rerandomise": Timed("guest.rerandomise", sizes.batch, lambda: guest.rerandomise(vector, stream("r"))),
        "check": Timed("guest.check", sizes.batch, lambda: guest.check(vector)),
        "invert": Timed("guest.invert", sizes.batch, lambda: guest.invert(vector)),
        **_sums(owner, guest, sizes),
        **_products(backend, guest, private, vector, sizes),
    }


def _without_back_end(private: PrivateKey) -> dict[str, Timed]:
    """What every back end leaves to the same code on gmpy2."""
    public, bits = private.public, private.public.bits
    insecure = bits < KEY_BITS_MIN
    proof = prove(private, b"")
    # A key follows from its stream: with one stream for all rounds one search would be timed again and again.
    keys = iter(range(2**62))
    return {
        "generate_key": Timed(
            "generate", 1, lambda: generate(bits, RANDOMNESS.stream("bench", str(next(keys))), insecure=insecure)
        ),
        "prove": Timed("prove", 1, lambda: prove(private, b"")),
        "verify": Timed("verify", 1, lambda: verify(public, proof, b"", bits, insecure=insecure)),
    }


def _tables(backend: Backend, private: PrivateKey) -> dict[str, Timed]:
    """Tables are built at the first encryption; one is part of the time."""
    stream = RANDOMNESS.stream
    return {
        "owner_tables": Timed(
            "backend.owner and one encryption",
            1,
            lambda: backend.owner(private, stream("owner")).encrypt([0], stream("first")),
        ),
        "guest_tables": Timed(
            "backend.guest and one encryption",
            1,
            lambda: backend.guest(private.public, stream("guest")).encrypt([0], stream("first")),
        ),
    }


def _sums(owner: Owner, guest: Guest, sizes: Sizes) -> dict[str, Timed]:
    """Sums with factors: many ciphertexts, so a few are taken again and again."""
    few = owner.encrypt(draws(64, 24), RANDOMNESS.stream("few"))

    def many(count: int) -> CipherVector:
        return CipherVector.concatenate([few] * -(-count // len(few)))[:count]

    def power_sum(bits: int) -> Timed:
        factors = draws(sizes.rows, bits)
        return Timed("guest.power_sum", len(matrix), lambda: guest.power_sum(matrix, factors, bits))

    matrix, to_pack, to_bin = many(sizes.rows * sizes.columns), many(sizes.slots * sizes.packs), many(sizes.bin_rows)
    links = many(sizes.batch * sizes.terms)
    exponents = np.array(draws(sizes.batch * sizes.terms, LINK_BITS)).reshape(-1, sizes.terms)
    bins = np.random.default_rng(1).integers(0, sizes.bins, (sizes.bin_rows, sizes.bin_columns))
    return {
        "power_rows": Timed("guest.power_rows", sizes.batch, lambda: guest.power_rows(links, exponents)),
        "power_sum_16": power_sum(LINK_BITS),
        "power_sum_73": power_sum(SHARE_BITS),
        "pack_rows": Timed("guest.pack_rows", len(to_pack), lambda: guest.pack_rows(to_pack, SHARE_BITS, sizes.slots)),
        "bin_sums": Timed("guest.bin_sums", bins.size, lambda: guest.bin_sums(to_bin, bins, sizes.bins)),
    }


def _products(
    backend: Backend, guest: Guest, private: PrivateKey, vector: CipherVector, sizes: Sizes
) -> dict[str, Timed]:
    """One modular product, without reading and writing numbers: vectors so many that these no longer count.

    A guest of the "key" p computes mod p^2. It adds and nothing else, so that p need not be a modulus of Paillier's.
    """
    public = PublicKey(private.p)
    at_p = backend.guest(public, None)
    residues = CipherVector.from_ints(public, [int(number % public.square) for number in vector.to_ints()])
    times = 16 * sizes.vectors

    def product(party: Any, numbers: CipherVector) -> Timed:
        return Timed("guest.multiply_all", (times - 1) * len(numbers), lambda: party.multiply_all([numbers] * times))

    return {"product_n": product(guest, vector), "product_p": product(at_p, residues)}


if __name__ == "__main__":
    print(to_markdown(measure()))
