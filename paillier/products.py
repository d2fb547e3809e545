"""Products of powers of many ciphertexts, mod N^2: Straus, Pippenger, Horner, batch inversion.

Exponents are secret. No digit is skipped, least of all zero, and the number of products depends on public
sizes only: where an algorithm would multiply by one, it multiplies by modulus + 1, which takes as long as
any other factor. What GMP still shows (a product that is one until its first digit that is not zero, the
cache) is why compute times of chunks are never published (docs/protocol.md, section 7).
"""

from functools import lru_cache

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

GROUP_MAX = 6
TABLE_BITS_MAX = 8


@lru_cache(maxsize=64)
def straus_plan(terms: int, bits: int) -> tuple[int, int]:
    """(bases per table, bits per digit) that take the fewest products for one row."""
    plans = [
        (straus_cost(terms, bits, group, window), group, window)
        for group in range(1, min(terms, GROUP_MAX) + 1)
        for window in range(1, TABLE_BITS_MAX // group + 1)
    ]
    _, group, window = min(plans)
    return group, window


def straus_cost(terms: int, bits: int, group: int, window: int) -> int:
    """Products mod N^2 for one row of `terms` powers with exponents of `bits` bits."""
    sizes = [min(group, terms - first) for first in range(0, terms, group)]
    tables = sum((1 << (size * window)) - 1 - size for size in sizes)
    positions = -(-bits // window)
    return tables + positions * len(sizes) - 1 + (positions - 1) * window


def power_rows(numbers: list[mpz], exponents: NDArray[np.int64], bits: int, modulus: mpz) -> list[mpz]:
    """prod_k c_ik^e_ik for each row i: Straus's joint exponentiation, in which a row shares its squarings.

    `numbers` are n * t, row by row, `exponents` has shape (n, t), entries in [0, 2^bits), bits <= 62.
    """
    terms = exponents.shape[1]
    group, window = straus_plan(terms, bits)
    digits = _straus_digits(exponents, bits, group, window)
    products = []
    for row, positions in enumerate(digits.tolist()):
        bases = numbers[row * terms : (row + 1) * terms]
        tables = [_joint_table(bases[at : at + group], window, modulus) for at in range(0, terms, group)]
        product = mpz(1)
        for number, position in enumerate(positions):
            if number:
                for _ in range(window):
                    product = product * product % modulus
            for table, digit in zip(tables, position, strict=True):
                product = product * table[digit] % modulus
        products.append(product)
    return products


def _straus_digits(exponents: NDArray[np.int64], bits: int, group: int, window: int) -> NDArray[np.int64]:
    """Table indices, shape (n, positions from the highest, groups)."""
    rows, terms = exponents.shape
    shifts = np.arange(-(-bits // window))[::-1] * window
    digits = (exponents[:, None, :] >> shifts[None, :, None]) & ((1 << window) - 1)
    groups = -(-terms // group)
    digits = np.pad(digits, ((0, 0), (0, 0), (0, groups * group - terms)))
    weights = 1 << (np.arange(group) * window)
    indices: NDArray[np.int64] = digits.reshape(rows, len(shifts), groups, group) @ weights
    return indices


def _joint_table(bases: list[mpz], window: int, modulus: mpz) -> list[mpz]:
    """prod_j b_j^d_j at index sum_j d_j 2^(j window), for all digits d_j below 2^window."""
    table = [modulus + 1]
    for base in bases:
        block = table
        power = base
        for digit in range(1, 1 << window):
            if digit > 1:
                power = power * base % modulus
            table = [*table, power, *(entry * power % modulus for entry in block[1:])]
    return table


@lru_cache(maxsize=64)
def bucket_window(count: int, bits: int) -> int:
    """Bits per digit that take the fewest products in `power_sum` over `count` numbers."""
    return min(range(1, 17), key=lambda window: -(-bits // window) * (count + (2 << window)))


def power_sum(numbers: list[mpz], terms: int, exponents: list[int], bits: int, modulus: mpz) -> list[mpz]:
    """prod_i c_ij^e_i for each column j: Pippenger's buckets, about one product per number and digit.

    `numbers` are n * t, row by row, `exponents` n numbers of [0, 2^bits). Zero has a bucket, too, which is
    filled like the others and then left.
    """
    window = bucket_window(len(exponents), bits)
    mask = (1 << window) - 1
    columns = [numbers[column::terms] for column in range(terms)]
    products = [mpz(1)] * terms
    for shift in range(window * (-(-bits // window) - 1), -1, -window):
        digits = [exponent >> shift & mask for exponent in exponents]
        for at, column in enumerate(columns):
            product = gmpy2.powmod(products[at], 1 << window, modulus)
            products[at] = product * _bucket_product(column, digits, window, modulus) % modulus
    return products


def _bucket_product(column: list[mpz], digits: list[int], window: int, modulus: mpz) -> mpz:
    """prod_i c_i^d_i for digits below 2^window."""
    buckets = [modulus + 1] * (1 << window)
    for digit, number in zip(digits, column, strict=True):
        buckets[digit] = buckets[digit] * number % modulus
    running, product = mpz(1), mpz(1)
    for bucket in reversed(buckets[1:]):
        running = running * bucket % modulus
        product = product * running % modulus
    return product


def pack_rows(numbers: list[mpz], slot_bits: int, step: int, modulus: mpz) -> list[mpz]:
    """prod_i c_i^(2^(slot_bits i)) over each `step` numbers, the last block maybe fewer: Horner's rule."""
    shift = mpz(1) << slot_bits
    packed = []
    for first in range(0, len(numbers), step):
        block = numbers[first : first + step]
        product = block[-1]
        for number in block[-2::-1]:
            product = gmpy2.powmod(product, shift, modulus) * number % modulus
        packed.append(product)
    return packed


def bin_products(numbers: list[mpz], bins: NDArray[np.integer], count: int, modulus: mpz) -> list[mpz]:
    """The product of the numbers of each bin: `bins` has shape (n, columns), the result columns * count."""
    products = []
    for column in range(bins.shape[1]):
        buckets = [modulus + 1] * count
        for place, number in zip(bins[:, column].tolist(), numbers, strict=True):
            buckets[place] = buckets[place] * number % modulus
        products += [bucket % modulus for bucket in buckets]
    return products


def invert_all(numbers: list[mpz], modulus: mpz) -> list[mpz]:
    """All inverses for one inversion and three products each (Montgomery's trick).

    Raises ZeroDivisionError where one has no inverse.
    """
    before = [mpz(1)]
    for number in numbers:
        before.append(before[-1] * number % modulus)
    running = gmpy2.invert(before[-1], modulus)
    inverses = []
    for number, product in zip(reversed(numbers), before[-2::-1], strict=True):
        inverses.append(running * product % modulus)
        running = running * number % modulus
    inverses.reverse()
    return inverses
