"""What others need for the operations of `bench.paillier`: each through its public interface, as its users call it.

phe takes one number at a time, so its users write the loop, and so does this. HEU (SecretFlow; the distribution is
sf-heu) has arrays. It is timed where somebody has installed it and is no dependency of Warren.
"""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import phe
import phe.util
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bench.rounds import Column, Timed, Work, cores_allowed, output_aside, version_of
from paillier.keys import PrivateKey

HEU_SCHEMAS = {
    "heu": ("z-paillier", "HEU's own scheme; the randomness has exponents of half length, one more assumption"),
    "heu_ipcl": ("ipcl", "Intel's library, 8 lanes of AVX-512 IFMA where the processor has it"),
}
"""By key of the column: HEU's name of the scheme, and what is to be known of it."""

HEU_LACKS = {"ipcl": {"invert"}}


@dataclass(frozen=True)
class Sizes:
    """How many items an operation is run on.

    Compiled code works in 8 lanes, so its batches have at least 64 items. A peer that pays the same for every item
    gets `slow` or `quick` items, enough to be measured and few enough to be measured often.

    Attributes:
        batch: ciphertexts of one element-wise operation.
        vectors: terms of a sum of many.
        terms: link terms of a row.
        rows: rows of a power sum.
        columns: ciphertexts of a row of a power sum.
        slots: rows packed into one ciphertext.
        packs: packed ciphertexts of one call.
        bin_rows: rows that are put into bins.
        bin_columns: columns with bins.
        bins: bins of a column.
        slow: items for a peer of an operation that takes it a millisecond or more.
        quick: items for a peer of any other.

    """

    batch: int = 64
    vectors: int = 16
    terms: int = 6
    rows: int = 1024
    columns: int = 8
    slots: int = 27
    packs: int = 64
    bin_rows: int = 256
    bin_columns: int = 4
    bins: int = 8
    slow: int = 4
    quick: int = 64


LINK_BITS = 16
SHARE_BITS = 73


def draws(count: int, bits: int) -> list[int]:
    """Numbers of exactly `bits` bits, the same in every run."""
    chance = random.Random(f"{count} {bits}")
    return [chance.randrange(1 << (bits - 1), 1 << bits) for _ in range(count)]


def phe_column() -> Column:
    """phe, and whether it computes with gmpy2."""
    return Column(
        "phe",
        "phe",
        version_of("phe") or "unknown",
        peer=True,
        note="on gmpy2" if phe.util.HAVE_GMP else "in pure Python: gmpy2 was not found",
    )


def phe_calls(private: PrivateKey, sizes: Sizes) -> dict[str, Timed]:
    """phe's way of each operation under this key, by key of the operation; it has none of `check` and of tables."""
    key = private.to_phe()
    public: Any = key.public_key
    bits = private.public.bits
    values = draws(sizes.quick, 24)
    numbers = [public.encrypt(value) for value in values]
    some, slow = numbers[: sizes.slow], values[: sizes.slow]

    def dot(factors: list[int]) -> Work:
        def work() -> object:
            total = numbers[0]
            for number, factor in zip(numbers, factors, strict=True):
                total = number * factor + total
            return total

        return work

    def rows() -> object:
        return [sum((number * factor for factor in links[1:]), number * links[0]) for number in some]

    def pack() -> object:
        total = numbers[0]
        for number in numbers[1:]:
            total = total * (1 << SHARE_BITS) + number
        return total

    def bins() -> object:
        totals = [numbers[0]] * sizes.bins
        for at, number in enumerate(numbers):
            totals[at % sizes.bins] = totals[at % sizes.bins] + number
        return totals

    links = draws(sizes.terms, LINK_BITS)
    short, long = draws(sizes.quick, LINK_BITS), draws(sizes.quick, SHARE_BITS)
    return {
        "generate_key": Timed(
            "phe.generate_paillier_keypair(n_length=bits)", 1, lambda: phe.generate_paillier_keypair(n_length=bits)
        ),
        "encrypt": Timed("public_key.encrypt(int)", sizes.slow, lambda: [public.encrypt(value) for value in slow]),
        "decrypt": Timed("private_key.decrypt(a)", sizes.slow, lambda: [key.decrypt(number) for number in some]),
        "add": Timed("a + b", sizes.quick, lambda: [number + numbers[0] for number in numbers]),
        "sum_many": Timed("a + b", sizes.quick, lambda: sum(numbers, numbers[0])),
        "add_plain": Timed("a + int", sizes.quick, lambda: [number + 12345 for number in numbers]),
        "rerandomise": Timed("a.obfuscate()", sizes.slow, lambda: [number.obfuscate() for number in some]),
        "invert": Timed("a * -1", sizes.quick, lambda: [number * -1 for number in numbers]),
        "power_rows": Timed("a * int + b, for each term", sizes.slow, rows),
        "power_sum_16": Timed("a * int + b", sizes.quick, dot(short)),
        "power_sum_73": Timed("a * int + b", sizes.quick, dot(long)),
        "pack_rows": Timed("a * 2**73 + b", sizes.quick, pack),
        "bin_sums": Timed("a + b", sizes.quick, bins),
    }


def heu_columns() -> list[Column]:
    """HEU, one column for each of its schemes, or why it was not measured."""
    version, reason = version_of("sf-heu"), ""
    try:
        with output_aside():
            importlib.import_module("heu.numpy")
    except ImportError as error:
        reason = "sf-heu is not installed" if version is None else f"sf-heu {version} does not load: {error}"
    return [
        Column(
            key,
            f"HEU {schema}",
            version or "unknown",
            peer=True,
            threads=cores_allowed(),
            note="" if reason else note,
            absent=reason,
        )
        for key, (schema, note) in HEU_SCHEMAS.items()
    ]


def heu_calls(schema: str, bits: int, sizes: Sizes) -> dict[str, Timed]:
    """HEU's way of each operation under a key of its own of this length, by key of the operation.

    Only to be called where `heu_columns` found it. Its threads stay on the cores that this thread is bound to.
    """
    with output_aside():  # it announces its thread pool at the first array
        numpy: Any = importlib.import_module("heu.numpy")
        kit: Any = numpy.setup(schema, bits)
        encryptor, decryptor, evaluator = kit.encryptor(), kit.decryptor(), kit.evaluator()
        encoder = kit.bigint_encoder()

        def plain(values: Any) -> Any:
            return kit.array(values, encoder)

        values = np.array(draws(sizes.batch, 24))
        vector = encryptor.encrypt(plain(values))
    zeros, negatives, shift = (np.full(sizes.batch, one, dtype=object) for one in (0, -1, 1 << SHARE_BITS))

    def repeated(times: int, step: Callable[[Any], Any]) -> Work:
        def work() -> object:
            total = vector
            for _ in range(times):
                total = step(total)
            return total

        return work

    links = plain(np.array(draws(sizes.batch, LINK_BITS)))
    calls = {
        "generate_key": Timed("heu.numpy.setup(schema, bits)", 1, lambda: numpy.setup(schema, bits)),
        "encrypt": Timed("encryptor.encrypt(array)", sizes.batch, lambda: encryptor.encrypt(plain(values))),
        "decrypt": Timed(
            "decryptor.decrypt(array).to_numpy()", sizes.batch, lambda: decryptor.decrypt(vector).to_numpy(encoder)
        ),
        "add": Timed("evaluator.add(a, b)", sizes.batch, lambda: evaluator.add(vector, vector)),
        "sum_many": Timed(
            "evaluator.add(a, b)",
            sizes.batch * (sizes.vectors - 1),
            repeated(sizes.vectors - 1, lambda total: evaluator.add(total, vector)),
        ),
        "add_plain": Timed("evaluator.add(a, array)", sizes.batch, lambda: evaluator.add(vector, plain(values))),
        "rerandomise": Timed(
            "evaluator.add(a, encryptor.encrypt(zeros))",
            sizes.batch,
            lambda: evaluator.add(vector, encryptor.encrypt(plain(zeros))),
        ),
        "invert": Timed("evaluator.mul(a, -1)", sizes.batch, lambda: evaluator.mul(vector, plain(negatives))),
        "power_rows": Timed(
            "evaluator.mul(a, array), then add, for each term",
            sizes.batch,
            repeated(
                sizes.terms,
                lambda total: evaluator.add(evaluator.mul(vector, links), total),
            ),
        ),
        **_heu_products(sizes, encryptor, evaluator, plain, vector),
        "pack_rows": Timed(
            "evaluator.mul(a, 2**73), then add",
            sizes.batch * 4,
            repeated(4, lambda total: evaluator.add(evaluator.mul(total, plain(shift)), vector)),
        ),
    }
    return {key: call for key, call in calls.items() if key not in HEU_LACKS.get(schema, ())}


def _heu_products(
    sizes: Sizes, encryptor: Any, evaluator: Any, plain: Callable[[Any], Any], vector: Any
) -> dict[str, Timed]:
    """Matrix products and bins: HEU pays for every entry, so that few rows stand for many."""
    rows, columns = min(sizes.rows, 64), sizes.columns
    matrix = encryptor.encrypt(plain(np.array(draws(rows * columns, 24)).reshape(rows, columns)))
    entries = rows * columns
    chance = np.random.default_rng(2)
    bins = chance.integers(0, sizes.bins, (sizes.batch, sizes.bin_columns)).astype(np.int8)
    everyone = np.ones(sizes.batch, dtype=np.int8)

    def product(bits: int) -> Timed:
        factors = plain(np.array([draws(rows, bits)], dtype=object))
        return Timed("evaluator.matmul(array, a)", entries, lambda: evaluator.matmul(factors, matrix))

    return {
        "power_sum_16": product(LINK_BITS),
        "power_sum_73": product(SHARE_BITS),
        "bin_sums": Timed(
            "evaluator.feature_wise_bucket_sum(a, rows, bins, count)",
            sizes.batch * sizes.bin_columns,
            lambda: evaluator.feature_wise_bucket_sum(vector, everyone, bins, sizes.bins, False),
        ),
    }


def cryptography_column() -> Column:
    """The library that the X25519 product goes through where there is no kernel."""
    return Column("cryptography", "cryptography", version_of("cryptography") or "unknown", peer=True)


def exchange(points: bytes, scalar: bytes) -> Timed:
    """X25519 of one scalar and each of the points, 32 bytes each, by `cryptography`."""
    key, load = X25519PrivateKey.from_private_bytes(scalar), X25519PublicKey.from_public_bytes
    each = [points[at : at + 32] for at in range(0, len(points), 32)]
    return Timed(
        "key.exchange(X25519PublicKey.from_public_bytes(point))",
        len(each),
        lambda: [key.exchange(load(point)) for point in each],
    )
