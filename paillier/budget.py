"""How many bits everything takes (docs/protocol.md, section 6), derived in one place.

A residual of at most `residual_bound` is an integer in units of 1 / `unit`: the coefficients of the link
terms have f_u bits after the point, the basis values of each provider are in (2^f_v - 1)ths. Shares of it
live modulo 2^share_bits; packed row by row they are `row_slot` bits apart. A feature column is at most 32767
in size; packed columns are `feature_slot` bits apart, wide enough for a sum over all rows of feature times
share, plus the window that hides the exact sum.
"""

import math
from dataclasses import dataclass

FEATURE_MAX = 32767
FEATURE_BITS = 15
COEFFICIENT_BITS = 24
COEFFICIENT_BITS_MIN = 8
RESIDUAL_BITS_FREE = 1  # |r| <= 2 costs the coefficients nothing
MASK_MARGIN_BITS = 65  # a mask uniform mod N leaves packed residuals hidden but for 2^-64
NOISE_BITS = 11  # the low noise reaches 1/32 of the largest record: 15 feature bits - 5, and one for the sign
DEFAULT_RELEASE_NOISE = 1 / 32


class BudgetError(ValueError):
    """A number does not fit the width it has; the text names the width or the slot, never the number."""


@dataclass(frozen=True, slots=True)
class BitBudget:
    """All widths of a job, in bits. Names in docs/protocol.md: RB, W, S, L, LOW."""

    rows: int
    key_bits: int
    providers: int
    f_u: int
    f_v: int
    unit: int
    residual_bits: int
    share_bits: int
    row_slot: int
    rows_per_ciphertext: int
    feature_slot: int
    columns_per_ciphertext: int
    low_bits: int

    @property
    def high_bits(self) -> int:
        """Length of the part of the window that lies above the shares' modulus."""
        return self.feature_slot - self.share_bits - 2

    @property
    def gradient_bound(self) -> int:
        """Largest size of a sum of feature times residual, in feature units times 1 / `unit`."""
        return self.rows * FEATURE_MAX << self.residual_bits

    def noise_bound(self, release_noise: float) -> int:
        """Largest size of the low noise: 2^(LOW - 1) at the default 1/32.

        Raises BudgetError for a release noise outside [0, 1].
        """
        if not 0 <= release_noise <= 1:
            raise BudgetError("release noise is between 0 and 1")
        return round((1 << (self.low_bits - 1)) * (release_noise * 32))


def bit_budget(rows: int, key_bits: int, residual_bound: float, providers: int = 1, value_bits: int = 15) -> BitBudget:
    """The widths for `rows` rows of a job, residuals of at most `residual_bound` and a chain of `providers`.

    `value_bits` is f_v, the bits of a provider's basis values: 15, or more for a log link of wide range.
    Raises BudgetError naming the width that does not fit `key_bits`.
    """
    if rows < 1 or providers < 1 or value_bits < 1:
        raise BudgetError("rows, providers and value bits are at least 1")
    if not 0 < residual_bound < math.inf:
        raise BudgetError("the residual bound is positive and finite")
    bound_bits = max(0, _ceil_log2(residual_bound))
    row_bits = (rows - 1).bit_length()
    f_u = COEFFICIENT_BITS - max(0, bound_bits - RESIDUAL_BITS_FREE)
    if f_u < COEFFICIENT_BITS_MIN:
        raise BudgetError(f"residuals of {bound_bits} bits leave the coefficients only {f_u} bits (f_u)")
    scale_bits = f_u + providers * value_bits
    residual_bits = scale_bits + bound_bits
    share_bits = residual_bits + FEATURE_BITS + row_bits + 1
    feature_slot = share_bits + FEATURE_BITS + row_bits + 3
    room = key_bits - MASK_MARGIN_BITS - residual_bits
    # A share is reduced modulo 2^W, so the top slot must reach up to W below the modulus.
    if room < 0 or share_bits > residual_bits + MASK_MARGIN_BITS:
        raise BudgetError(f"residuals of {residual_bits} bits (RB) do not fit a key of {key_bits} bits")
    # One bit less than the key: signed slots are read around zero.
    columns = (key_bits - 1) // feature_slot
    if columns < 1:
        raise BudgetError(f"a feature slot of {feature_slot} bits (L) does not fit a key of {key_bits} bits")
    return BitBudget(
        rows=rows,
        key_bits=key_bits,
        providers=providers,
        f_u=f_u,
        f_v=value_bits,
        unit=(1 << f_u) * ((1 << value_bits) - 1) ** providers,
        residual_bits=residual_bits,
        share_bits=share_bits,
        row_slot=share_bits,
        rows_per_ciphertext=room // share_bits + 1,
        feature_slot=feature_slot,
        columns_per_ciphertext=columns,
        low_bits=scale_bits + NOISE_BITS,
    )


def _ceil_log2(number: float) -> int:
    mantissa, exponent = math.frexp(number)
    return exponent - 1 if mantissa == 0.5 else exponent
