"""How each back end cuts its exponents, and how many products that takes: the same numbers on every machine."""

import math
from functools import lru_cache
from typing import Final, NamedTuple

from paillier.products import bucket_window, straus_cost, straus_plan

LANES: Final = 8
LANE_TABLE_BITS: Final = 4
"""Tables of at most 16 entries for rows in lanes: all of a table is read for every digit."""
LANE_POWER_WINDOW: Final = 4


@lru_cache(maxsize=64)
def lane_straus_plan(terms: int, bits: int) -> tuple[int, int]:
    """(bases per table, bits per digit) with the fewest products, rows being lanes."""
    plans = [
        (straus_cost(terms, bits, group, window), group, window)
        for group in range(1, min(terms, LANE_TABLE_BITS) + 1)
        for window in range(1, LANE_TABLE_BITS // group + 1)
    ]
    _, group, window = min(plans)
    return group, window


def lane_bucket_cost(rows: int, columns: int, bits: int, window: int, segments: int) -> int:
    """Products in lanes, eight at a time: digits, columns and ranges of the rows share the lanes."""
    tasks = columns * -(-bits // window) * segments
    return -(-tasks // LANES) * (-(-rows // segments) + (2 << window))


@lru_cache(maxsize=64)
def lane_bucket_plan(rows: int, columns: int, bits: int) -> tuple[int, int]:
    """(bits per digit, ranges of the rows) that fill the lanes with the fewest products."""
    plans = [
        (lane_bucket_cost(rows, columns, bits, window, segments), window, segments)
        for window in range(1, 13)
        for segments in (1, 2, 4, 8)
    ]
    _, window, segments = min(plans)
    return window, segments


class Counts(NamedTuple):
    """Products of a back end. `per_bit`: of one exponentiation, for each bit of a long exponent."""

    per_bit: float
    row: int
    """Of a row of `power_rows`."""
    entry: float
    """Of `power_sum`, for each row, the part of the buckets included."""


def counts(back_end: str, *, terms: int, term_bits: int, rows: int, share_bits: int) -> Counts:
    """For rows of `terms` exponents of `term_bits`, and sums over `rows` rows with exponents of `share_bits`.

    An idle lane counts as a product: it takes as long.
    """
    if back_end == "compiled":
        group, window = lane_straus_plan(max(terms, 1), term_bits)
        digit, segments = lane_bucket_plan(rows, 1, share_bits)
        entry = LANES * lane_bucket_cost(rows, 1, share_bits, digit, segments) / rows
        per_bit = 1 + 1 / LANE_POWER_WINDOW
    else:
        group, window = straus_plan(max(terms, 1), term_bits)
        digit = bucket_window(rows, share_bits)
        entry = math.ceil(share_bits / digit) * (1 + ((2 << digit) + digit) / rows)
        per_bit = 1.2  # an estimate of GMP's sliding windows: a squaring for each bit, a product for every fifth
    return Counts(per_bit, straus_cost(terms, term_bits, group, window) if terms else 0, entry)
