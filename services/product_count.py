"""How many modular products a job took for each row: counted from the algorithms, so true on every machine."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from messages.streams import rows_per_chunk
from paillier.backend import EXPONENT_BITS
from paillier.blinding import WINDOW_KNOWN, base_count
from paillier.budget import BitBudget, bit_budget
from paillier.products import bucket_window, straus_cost, straus_plan
from protocol.facts import BODY_BYTES_MAX

CHUNK_ROWS_MAX: Final = 540
"""Rows in a chunk at most, as contracts have it by default: `power_sum` pays for its buckets once a chunk."""

POWER_PRODUCTS_PER_BIT: Final = 1.2
"""An estimate of GMP's sliding windows: a squaring for each bit of the exponent, a product for about every fifth."""


class Products(NamedTuple):
    """Per row, both parties together. A long product takes about three times as long (docs/paillier.md, time)."""

    short: float
    """Modulo the square of a prime, half as long as N^2: encryption and decryption by a key's owner."""
    long: float
    """Modulo N^2: everything done to ciphertexts under the partner's key."""


def products_per_row(
    terms: Sequence[int], *, rows: int, columns: tuple[int, int], key_bits: int, residual_bound: float
) -> Products:
    """Products for one row over a whole job.

    Args:
        terms: link terms of each iteration.
        rows: aligned rows.
        columns: those of the business, its intercept included, and those of the provider.
        key_bits: bits of each party's modulus.
        residual_bound: as `learning.links.residual_bound` has it.

    Left out: checks of ciphertexts, additions of plain numbers, joining by the Chinese
    remainder theorem, and what is done once a job or an iteration (keys, tables, cross terms, alignment).

    Raises:
        BudgetError: no such job fits the key.

    """
    budget = bit_budget(rows, key_bits, residual_bound)
    encrypt = 2 * math.ceil(key_bits / 2 / WINDOW_KNOWN)
    decrypt = POWER_PRODUCTS_PER_BIT * key_bits / budget.rows_per_ciphertext
    features = sum(math.ceil(count / budget.columns_per_ciphertext) for count in columns)
    return Products(
        short=features * encrypt + sum((count + 1) * encrypt + decrypt for count in terms),
        long=sum(_evaluate(count, budget) + features * _power_sum(count, budget) for count in terms),
    )


def _evaluate(terms: int, budget: BitBudget) -> float:
    """The provider's way from link terms to a packed and re-randomised residual (docs/paillier.md, products)."""
    raised = straus_cost(terms, EXPONENT_BITS, *straus_plan(terms, EXPONENT_BITS)) + 1 if terms else 0
    bases, windows = base_count(budget.key_bits)
    packed = budget.rows_per_ciphertext
    return raised + ((packed - 1) * (budget.row_slot + 1) + bases * windows) / packed


def _power_sum(terms: int, budget: BitBudget) -> float:
    """One feature ciphertext raised to a share, its part of a chunk's buckets included."""
    fits = rows_per_chunk((terms + 1) * budget.key_bits // 4, budget.rows_per_ciphertext, BODY_BYTES_MAX)
    chunk = min(fits, CHUNK_ROWS_MAX, budget.rows)
    window = bucket_window(chunk, budget.share_bits)
    return math.ceil(budget.share_bits / window) * (1 + ((2 << window) + window) / chunk)
