"""Several numbers in one plaintext, and how they are read again (docs/protocol.md, sections 3, 4 and 6).

Masked residuals are read UNSIGNED: the sum with a mask uniform mod N is a number of [0, N). Cross terms are
read SIGNED: sums of positive and negative features around zero. Two functions, never one with a switch.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from paillier.budget import DEFAULT_RELEASE_NOISE, FEATURE_MAX, BitBudget, BudgetError
from paillier.keys import PublicKey
from paillier.randomness import RandomStream


def plaintexts_per_row(columns: int, budget: BitBudget) -> int:
    """How many plaintexts the columns of one row take."""
    return -(-columns // budget.columns_per_ciphertext)


def pack_columns(features: NDArray[np.integer], budget: BitBudget) -> list[int]:
    """Quantised features, shape (rows, columns), as plaintexts: row by row, `plaintexts_per_row` for each.

    A plaintext is sum_j x_j 2^(L j), a signed number. Raises BudgetError for an entry beyond +-32767.
    """
    if features.size and int(np.abs(features.astype(np.int64)).max()) > FEATURE_MAX:
        raise BudgetError(f"a feature is at most {FEATURE_MAX} in size")
    width, step = budget.feature_slot, budget.columns_per_ciphertext
    plaintexts = []
    for row in features.tolist():
        for first in range(0, len(row), step):
            plaintext = 0
            for entry in reversed(row[first : first + step]):
                plaintext = (plaintext << width) + entry
            plaintexts.append(plaintext)
    return plaintexts


def unpack_unsigned(plaintext: int, slot_bits: int, count: int) -> list[int]:
    """The lowest `count` digits of a number of [0, N) in base 2^slot_bits. What lies above is ignored."""
    if plaintext < 0:
        raise BudgetError("an unsigned plaintext is not negative")
    mask = (1 << slot_bits) - 1
    return [(plaintext >> (slot_bits * at)) & mask for at in range(count)]


def unpack_signed(plaintext: int, budget: BitBudget, modulus: int, count: int) -> list[int]:
    """The lowest `count` slots, as signed numbers, from a plaintext given mod `modulus`.

    What lies above them is the sender's mask (`window_values`) and is ignored. Raises BudgetError, naming the
    slot, for one outside [-2^(L-3), 2^(L-2) + 2^(L-3)].
    """
    width = budget.feature_slot
    low, high = -(1 << (width - 3)), (1 << (width - 2)) + (1 << (width - 3))
    # With 2^(L-2) added, every slot that keeps to its bounds is a plain digit of [0, 2^L).
    shifted = (plaintext + sum(1 << (width * at + width - 2) for at in range(count))) % modulus
    slots = [digit - (1 << (width - 2)) for digit in unpack_unsigned(shifted, width, count)]
    for at, slot in enumerate(slots):
        if not low <= slot <= high:
            raise BudgetError(f"slot {at} is outside its bounds")
    return slots


def masks(count: int, public: PublicKey, stream: RandomStream) -> list[int]:
    """Numbers uniform in [0, N), one for each plaintext of masked residuals."""
    return stream.many_below(public.modulus, count)


def share_digits(plaintexts: Sequence[int], rows: int, budget: BitBudget) -> list[int]:
    """One residual share modulo 2^W per row, from decrypted sums D or from masks R (numbers of [0, N)).

    The shares of the two holders differ by the residual, or by it and one unit through a carry. Raises
    BudgetError where the plaintexts are not as many as the rows take.
    """
    step = budget.rows_per_ciphertext
    if len(plaintexts) != -(-rows // step):
        raise BudgetError(f"{rows} rows take {-(-rows // step)} plaintexts, not {len(plaintexts)}")
    mask = (1 << budget.share_bits) - 1
    shares: list[int] = []
    for plaintext in plaintexts:
        count = min(step, rows - len(shares))
        shares += [digit & mask for digit in unpack_unsigned(plaintext, budget.row_slot, count)]
    return shares


def window_values(
    columns: int,
    budget: BitBudget,
    modulus: int,
    stream: RandomStream,
    noise_stream: RandomStream,
    release_noise: float,
    hidden: Collection[int] = (),
) -> list[int]:
    """What is added to the plaintexts of a cross term so that the reply tells the gradient and no more.

    One number for each plaintext that `columns` columns take. In every slot of a column: e_low + 2^W e_high, e_low
    (from `noise_stream`) uniform in +-2^(LOW-1) scaled by 32 `release_noise`, so 1/32 is the default and 0 none,
    e_high (from `stream`) uniform in [0, 2^(L-W-2)). Above the last column: a number that is uniform up to
    `modulus`, because a receiver who cheats has no reason to leave empty what should be. Raises BudgetError for a
    release noise outside [0, 1].

    `hidden`: columns whose sums the reply must not tell: a number that is uniform in [0, 2^W) more.
    """
    slots, width = budget.columns_per_ciphertext, budget.feature_slot
    noise = budget.noise_bound(release_noise)
    lows = noise_stream.many_below(2 * noise + 1, columns)
    highs = stream.many_below(1 << budget.high_bits, columns)
    for at in sorted(hidden):
        lows[at] += stream.below(1 << budget.share_bits)
    windows = []
    for first in range(0, columns, slots):
        used = range(first, min(first + slots, columns))
        # One unit is left at either end: neither a negative sum below nor a large one goes around the modulus.
        room = (modulus >> (width * len(used))) - 2
        window = 1 + stream.below(room) if room > 0 else 0
        for at in reversed(used):
            window = (window << width) + lows[at] - noise + (highs[at] << budget.share_bits)
        windows.append(window)
    return windows


def read_slots(plaintexts: Sequence[int], columns: int, budget: BitBudget, modulus: int) -> list[int]:
    """The windowed sums of a cross term, one per column, signed. Raises BudgetError naming the slot."""
    if len(plaintexts) != plaintexts_per_row(columns, budget):
        raise BudgetError(f"{columns} columns take {plaintexts_per_row(columns, budget)} plaintexts")
    slots: list[int] = []
    for at, plaintext in enumerate(plaintexts):
        count = min(budget.columns_per_ciphertext, columns - len(slots))
        try:
            slots += unpack_signed(plaintext, budget, modulus, count)
        except BudgetError as error:
            raise BudgetError(f"plaintext {at}: {error}") from None
    return slots


def read_gradient(
    plaintexts: Sequence[int],
    columns: int,
    budget: BitBudget,
    modulus: int,
    own: Sequence[int],
    *,
    release_noise: float = DEFAULT_RELEASE_NOISE,
    hidden: Collection[int] = (),
) -> list[int]:
    """X^T r + noise, one number per column, from a decrypted cross term and one's own part of the sum.

    `own` is X^T (own share), or the `read_slots` of a second reply where this party holds no share. The sum
    is reduced modulo 2^W around zero. Raises BudgetError, naming the slot, for one beyond its bounds or a
    gradient beyond rows * 32767 * 2^RB plus noise. `hidden` columns, of which the reply tells nothing, become 0.
    """
    slots = read_slots(plaintexts, columns, budget, modulus)
    if len(own) != columns:
        raise BudgetError(f"the own part has {len(own)} entries, not {columns}")
    period, half = 1 << budget.share_bits, 1 << (budget.share_bits - 1)
    bound = budget.gradient_bound + 2 * budget.noise_bound(release_noise)
    gradient = []
    for at, (slot, part) in enumerate(zip(slots, own, strict=True)):
        entry = 0 if at in hidden else (slot + part + half) % period - half
        if abs(entry) > bound:
            raise BudgetError(f"slot {at}: the gradient is beyond its bound")
        gradient.append(entry)
    return gradient
