"""How many modular products a job took for each row: counted from the algorithms, so true on every machine."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from messages.streams import rows_per_chunk
from paillier.backend import EXPONENT_BITS
from paillier.blinding import WINDOW_KNOWN, base_count
from paillier.budget import BitBudget, bit_budget
from paillier.plans import Counts, counts
from protocol.facts import BODY_BYTES_MAX

CHUNK_ROWS_MAX: Final = 540
"""Rows in a chunk at most, as contracts have it by default: `power_sum` pays for its buckets once a chunk."""


class Products(NamedTuple):
    """Per row, both parties together. A long product takes about three times as long (docs/paillier.md, time)."""

    short: float
    """Modulo the square of a prime, half as long as N^2: encryption and decryption by a key's owner."""
    long: float
    """Modulo N^2: everything done to ciphertexts under the partner's key."""


def products_per_row(
    terms: Sequence[int],
    *,
    rows: int,
    columns: tuple[int, int],
    key_bits: int,
    residual_bound: float,
    back_end: str = "gmpy2",
) -> Products:
    """Products for one row over a whole job.

    Args:
        terms: link terms of each iteration.
        rows: aligned rows.
        columns: those of the business, its intercept included, and those of the provider.
        key_bits: bits of each party's modulus.
        residual_bound: as `learning.links.family.Family` has it.
        back_end: whose algorithms are counted.

    Left out: checks of ciphertexts, additions of plain numbers, joining by the Chinese
    remainder theorem, and what is done once a job or an iteration (keys, tables, cross terms, alignment).

    Raises:
        BudgetError: no such job fits the key.

    """
    budget = bit_budget(rows, key_bits, residual_bound)
    encrypt = 2 * math.ceil(key_bits / 2 / WINDOW_KNOWN)
    features = sum(math.ceil(count / budget.columns_per_ciphertext) for count in columns)
    short, long = features * float(encrypt), 0.0
    for count in terms:
        taken = counts(
            back_end,
            terms=count,
            term_bits=EXPONENT_BITS,
            rows=_chunk_rows(count, budget),
            share_bits=budget.share_bits,
        )
        short += (count + 1) * encrypt + taken.per_bit * key_bits / budget.rows_per_ciphertext
        long += _evaluate(count, budget, taken) + features * taken.entry
    return Products(short, long)


def _evaluate(terms: int, budget: BitBudget, taken: Counts) -> float:
    """The provider's way from link terms to a packed and re-randomised residual (docs/paillier.md, products)."""
    bases, windows = base_count(budget.key_bits)
    packed = budget.rows_per_ciphertext
    return taken.row + bool(terms) + ((packed - 1) * (budget.row_slot + 1) + bases * windows) / packed


def _chunk_rows(terms: int, budget: BitBudget) -> int:
    """Rows that share buckets: those of one chunk."""
    fits = rows_per_chunk((terms + 1) * budget.key_bits // 4, budget.rows_per_ciphertext, BODY_BYTES_MAX)
    return min(fits, CHUNK_ROWS_MAX, budget.rows)
