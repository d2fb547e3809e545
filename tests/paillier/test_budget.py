"""The widths of docs/protocol.md, section 6, and that everything fits them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paillier.budget import BudgetError, bit_budget


@pytest.mark.parametrize(("providers", "share_bits"), [(1, 73), (2, 88), (3, 103), (5, 133)])
def test_the_numbers_of_the_protocol_are_reproduced(providers, share_bits):
    budget = bit_budget(2**17, 2048, 2, providers)
    assert budget.share_bits == budget.row_slot == share_bits
    assert budget.f_u == 24
    assert budget.f_v == 15
    assert budget.unit == 2**24 * 32767**providers
    assert budget.residual_bits == 24 + 15 * providers + 1
    assert budget.low_bits == 24 + 15 * providers + 11


def test_one_provider_gets_27_rows_and_18_columns_into_a_ciphertext():
    budget = bit_budget(2**17, 2048, 2)
    assert (budget.rows_per_ciphertext, budget.columns_per_ciphertext) == (27, 18)
    assert (budget.residual_bits, budget.feature_slot, budget.high_bits) == (40, 108, 33)


@pytest.mark.parametrize(
    ("bound", "f_u", "residual_bits"),
    [(0.5, 24, 39), (1, 24, 39), (2, 24, 40), (2.1, 23, 40), (4, 23, 40), (1000, 15, 40)],
)
def test_wider_residuals_take_their_bits_from_the_coefficients(bound, f_u, residual_bits):
    budget = bit_budget(2**17, 2048, bound)
    assert (budget.f_u, budget.residual_bits) == (f_u, residual_bits)
    assert bound * budget.unit <= 1 << budget.residual_bits


def test_basis_values_of_more_bits_widen_the_slots():
    assert bit_budget(2**17, 2048, 2, value_bits=24).share_bits == 73 + 9


BUDGETS = st.tuples(
    st.integers(1, 2**40), st.sampled_from([512, 1024, 2048, 3072]), st.floats(0.01, 1e4), st.integers(1, 5)
)


@given(BUDGETS)
def test_a_budget_that_is_given_fits_and_another_is_refused(arguments):
    rows, key_bits, bound, providers = arguments
    try:
        budget = bit_budget(rows, key_bits, bound, providers)
    except BudgetError:
        return
    largest_residual = 1 << budget.residual_bits
    top = (budget.rows_per_ciphertext - 1) * budget.row_slot
    assert bound * budget.unit <= largest_residual
    # A mask hides what it is added to, and the top row still has all bits of its share.
    assert top + budget.residual_bits <= key_bits - 65 < top + budget.row_slot + budget.residual_bits
    assert top + budget.share_bits <= key_bits
    # A gradient is told apart modulo 2^W.
    assert budget.gradient_bound < 1 << (budget.share_bits - 1)
    # A slot holds the sum over all rows, noise and window, in the bounds that are checked.
    largest_sum = rows * 32767 * ((1 << budget.share_bits) - 1) + budget.noise_bound(1.0)
    window = ((1 << budget.high_bits) - 1) << budget.share_bits
    assert largest_sum <= 1 << (budget.feature_slot - 3)
    assert largest_sum + window <= (1 << (budget.feature_slot - 2)) + (1 << (budget.feature_slot - 3))
    # All slots together are told apart mod N around zero.
    assert budget.columns_per_ciphertext * budget.feature_slot <= key_bits - 1


@pytest.mark.parametrize(
    ("arguments", "width"),
    [
        ((2**17, 64, 2), "RB"),
        ((2**17, 104, 2), "RB"),
        ((2**17, 106, 2), "L"),
        ((2**17, 2048, 2, 200), "RB"),
        ((2**17, 2048, 2**20), "f_u"),
        ((2**60, 2048, 2), "RB"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, width):
    with pytest.raises(BudgetError, match=rf"\({width}\)"):
        bit_budget(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 2048, 2),
        (1, 2048, 0),
        (1, 2048, -1),
        (1, 2048, float("inf")),
        (1, 2048, float("nan")),
        (1, 2048, 2, 0),
    ],
)
def test_senseless_jobs_are_refused(arguments):
    with pytest.raises(BudgetError):
        bit_budget(*arguments)


@pytest.mark.parametrize("rows", [1000, 5000, 2**17])
@pytest.mark.parametrize("providers", [1, 3])
def test_a_gradient_with_the_noise_of_two_replies_is_told_apart(rows, providers):
    budget = bit_budget(rows, 2048, 2, providers)
    assert budget.gradient_bound + 2 * budget.noise_bound(1 / 32) < 1 << (budget.share_bits - 1)


def test_noise_is_scaled_by_its_share_of_the_largest_record():
    budget = bit_budget(2**17, 2048, 2)
    assert budget.noise_bound(1 / 32) == 2 ** (budget.low_bits - 1)
    assert budget.noise_bound(1 / 16) == 2**budget.low_bits
    assert budget.noise_bound(0) == 0
    # 1/32 of a record with the column's largest value and a residual of one.
    assert budget.noise_bound(1 / 32) == 2**15 * 2 ** (budget.f_u + budget.f_v) // 32
    for release_noise in (-0.1, 1.1, float("nan")):
        with pytest.raises(BudgetError):
            budget.noise_bound(release_noise)
