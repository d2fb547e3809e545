"""The numbers by which the kernel folds a product mod N = n^2, and the proof that they serve (residues_fold.c)."""

from dataclasses import dataclass
from typing import Final

import gmpy2
from gmpy2 import mpz

DISTANCE: Final = 4
"""Limbs between the column where a product is folded and the one where the quotient begins, at least."""
SPARE_BITS: Final = 4
"""Of a limb with the first bits of a rest: the reciprocal, which is a little too small, is that much more exact."""


@dataclass(frozen=True)
class Fold:
    """The kernel's names: columns `at` and `cut`, the head of a rest, and what `wk_ring_prepare_fold` takes."""

    at: int
    cut: int
    head_shift: int
    head_reciprocal: int
    constants: tuple[mpz, ...]


def fold_of(square: mpz, limbs: int, limb_bits: int) -> Fold | None:
    """How to fold by N = `square`, below 2 `limbs` limbs of `limb_bits` bits; None where they leave too little room.

    Every bound that the kernel relies on is checked here, for this N.
    """
    top = (square.bit_length() - 1) // limb_bits
    for cut in (top, top + 1):
        # The multiple of N by a power of two that is at least B^cut.
        multiple = square << max(0, limb_bits * cut + 1 - square.bit_length())
        for at in range(max(cut + DISTANCE, limbs + limbs // 2), 3 * limbs + 1):
            if _fits(square, at, cut, limbs, limb_bits):
                fold = _checked(square, multiple, at, cut, limbs, limb_bits)
                if fold is not None:
                    return fold
    return None


def _fits(square: mpz, at: int, cut: int, limbs: int, limb_bits: int) -> bool:
    """What is folded, and what the quotient is taken of afterwards, have `limbs` limbs."""
    added = mpz(1) << limb_bits * (at - 2)
    upper = gmpy2.f_div_2exp(square**2 + 2 * added, limb_bits * at) + 1
    folded = (mpz(1) << limb_bits * at) + 2 * added + (upper + 1) * square
    return bool(upper < mpz(1) << limb_bits * limbs and folded < mpz(1) << limb_bits * (cut + limbs))


def _checked(square: mpz, multiple: mpz, at: int, cut: int, limbs: int, limb_bits: int) -> Fold | None:
    # The quotient is too little by less than one for each of the 2 limbs products in a column, for the columns that are
    # left out, and by one each for three numbers that are rounded and for the one that is taken away.
    radix, wide = mpz(1) << limb_bits, mpz(1) << 2 * limbs * limb_bits
    rest = (2 * limbs + 6) * multiple
    shift = max(0, rest.bit_length() - limb_bits + SPARE_BITS)
    head, first = rest >> shift, square >> shift
    reciprocal = radix // (first + 1) - 1
    # The head is right or one too little, for what is not carried into it; its quotient at most one too little.
    exact = first > 0 and (head + 2) * radix <= first * (head * reciprocal + radix)
    if not exact or rest >= wide or shift // limb_bits + 1 >= 2 * limbs:
        return None
    constants = (
        (mpz(1) << limb_bits * at) % square,
        wide - multiple,
        -(mpz(2) << limb_bits * (at - 2)) % square,
        square,
        (mpz(1) << limb_bits * (cut + limbs)) // multiple,
    )
    return Fold(at, cut, int(shift), int(reciprocal), constants)
