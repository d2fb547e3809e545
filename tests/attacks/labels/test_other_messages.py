"""What else the provider sees: sizes, the choice of an expansion, Gram rows; and what the business sees of masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gmpy2 import mpz

from learning.arithmetic import reductions
from learning.columns import quantise
from learning.links import residual_terms
from learning.links.family import Family
from learning.solvers import history as histories
from learning.solvers import loop
from messages import codec, schemas, unsequenced
from paillier.vector import CipherVector
from services.tables.table import Table
from services.tasks import keyring
from tests.attacks.labels.transcript import Recorded, Transcript, example, run_job, table

ROWS, ITERATIONS = 120, 3
Labels = np.ndarray[Any, np.dtype[np.int64]]


def tables(labels: np.ndarray[Any, Any] | None = None) -> tuple[Table, Table]:
    """Rows of default_credit, with other labels where some are given."""
    business, provider = example("default_credit", 0, ROWS, slice(0, 13), slice(13, 23))
    return table(business.identifiers, business.values, business.label if labels is None else labels), provider


def run(directory: Path, labels: np.ndarray[Any, Any] | None = None, iterations: int = ITERATIONS) -> Recorded:
    return run_job(directory, *tables(labels), release_noise=1 / 32, max_iterations=iterations, chunk_rows_max=30)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return run(tmp_path_factory.mktemp("job"))


# -- the provider -----------------------------------------------------------------------------------------------


def test_order_and_interval_of_the_expansion_follow_from_what_the_provider_knows(recorded: Recorded) -> None:
    seen = recorded.provider
    state = loop.begin(seen.facts.get("tolerance", 1e-6))
    announced = {m.iteration: m for m in seen.sent if isinstance(m, schemas.ScoreRange)}
    own = {m.iteration: m for m in seen.sent if isinstance(m, schemas.StepProducts)}
    theirs = {m.iteration: m for m in seen.messages(schemas.StepProducts)}
    for iteration in range(1, ITERATIONS + 1):
        chosen = residual_terms.choose(
            Family(task="logistic"),
            bound=announced[iteration].bound,
            spread=announced[iteration].spread,
            tolerance=state.link_tolerance,
        )
        told = {(m.terms, m.bound, m.stretch) for m in seen.messages(schemas.LinkTerms) if m.iteration == iteration}
        assert told == {(chosen.terms, chosen.bound, chosen.stretch)}
        row = [one + other for one, other in zip(theirs[iteration].products, own[iteration].products, strict=True)]
        state, _ = loop.advance(state, row, max(theirs[iteration].largest, own[iteration].largest))


def test_kinds_numbers_and_sizes_of_messages_are_the_same_whatever_the_labels(
    recorded: Recorded, tmp_path: Path
) -> None:
    def sizes(found: Recorded) -> list[tuple[str, int, int, int]]:
        messages = [
            m
            for m in found.provider.received
            if getattr(m, "iteration", 1) == 1 and not isinstance(m, unsequenced.Receipt | schemas.JobDone)
        ]
        return sorted(
            (codec.kind_of(m), getattr(m, "first_row", 0), getattr(m, "rows", 0), len(getattr(m, "ciphertexts", b"")))
            for m in messages
        )

    flipped = run(tmp_path / "flipped", 1.0 - recorded.labels, iterations=1)
    few = run(tmp_path / "few", (np.arange(ROWS) < 2).astype(float), iterations=1)
    assert sizes(flipped) == sizes(few) == sizes(recorded)


def whitened(seen: Transcript) -> histories.LocalHistory:
    """The business's local history before its first gradient."""
    return histories.decode(seen.of("features.quantise")[0].result.blobs[1][0])


def test_a_number_of_a_gram_row_tells_a_dishonest_provider_at_most_24_labels(recorded: Recorded) -> None:
    # A provider that leaves residuals out of its masks knows the business's shares, cancels the business's own part
    # homomorphically, and so sets the business's gradient: to a constant, then to a sum that it chose over labels.
    # The business answers with products of the two. Only gradients pass here; the arithmetic is the business's own.
    history, f_u = whitened(recorded.business), recorded.business.budget.f_u
    unit, zeros = recorded.business.budget.unit, [0] * (len(history.scales) - 1)
    constant = 2**24
    history, (alone, _), _ = histories.append_gradient(history, [constant * unit, *zeros], ROWS, f_u)
    for count, readable in ((22, True), (60, False)):
        labels = recorded.labels[:count]
        planted = sum(int(label) << at for at, label in enumerate(labels.tolist()))
        _, (mixed, _, _), _ = histories.append_gradient(history, [planted * unit, *zeros], ROWS, f_u)
        number = round(mixed / alone * constant)
        right = np.array([number >> at & 1 for at in range(count)]) == labels
        assert right.all() == readable
        if not readable:
            assert right[: count - 26].mean() < 0.9


def test_products_are_rounded_to_24_bits_and_a_job_sends_as_many_as_were_granted(recorded: Recorded) -> None:
    for message in recorded.provider.messages(schemas.StepProducts):
        assert len(message.products) == message.iteration + 1
        for value in (*message.products, message.largest):
            assert reductions.rounded(value) == value


# -- the business -----------------------------------------------------------------------------------------------


def decrypted_shares(seen: Transcript) -> dict[int, list[int]]:
    """Iteration -> masked plaintexts as the business decrypts them."""
    owner = keyring.owner(seen.tasks[-1].context, seen.facts)
    found: dict[int, list[int]] = {}
    for message in seen.messages(schemas.ResidualShare):
        vector = CipherVector.from_bytes(seen.key.public, message.ciphertexts)
        found.setdefault(message.iteration, []).extend(owner.decrypt(vector))
    return found


def small_digits(numbers: list[int], seen: Transcript) -> int:
    """How many digits are small enough to be differences of two residuals."""
    budget = seen.budget
    period, limit = 1 << budget.share_bits, 1 << (budget.residual_bits + 1)
    found = 0
    for number in numbers:
        for at in range(budget.rows_per_ciphertext):
            digit = (number >> (at * budget.row_slot)) % period
            found += min(digit, period - digit) <= limit
    return found


def test_masks_of_two_iterations_do_not_cancel(recorded: Recorded) -> None:
    # One mask used twice leaves the difference of two residuals: of the provider's scores, to the business.
    seen, modulus = recorded.business, recorded.business.key.public.modulus
    shares = decrypted_shares(seen)
    assert sorted(shares) == [1, 2, 3]
    for one, other in ((1, 2), (2, 3), (1, 3)):
        pairs = zip(shares[one], shares[other], strict=True)
        assert small_digits([(left - right) % modulus for left, right in pairs], seen) == 0
    # The same counter sees all of them where masks are repeated.
    again = [(number + residual) % modulus for number, residual in zip(shares[1], range(1, 99), strict=False)]
    differences = [(left - right) % modulus for left, right in zip(again, shares[1], strict=True)]
    assert small_digits(differences, seen) == len(differences) * seen.budget.rows_per_ciphertext


def test_masked_residuals_are_uniform_to_the_business(recorded: Recorded) -> None:
    modulus = recorded.business.key.public.modulus
    numbers = [number for found in decrypted_shares(recorded.business).values() for number in found]
    assert len(numbers) > 45
    for bit in range(mpz(modulus).bit_length() - 3):
        share = sum(number >> bit & 1 for number in numbers) / len(numbers)
        assert abs(share - 0.5) < 5 * 0.5 / len(numbers) ** 0.5
    assert max(numbers) > 0.8 * modulus


def test_the_number_that_the_provider_says_at_the_end_is_the_mean_of_its_scores(recorded: Recorded) -> None:
    (done,) = recorded.business.messages(schemas.JobDone)
    seen = recorded.provider
    task = seen.of("results")[0]
    history = histories.take_step(histories.decode(task.inputs[1]), tuple(task.arguments["combination"]))
    _, provider = tables()
    grid = quantise.quantise(provider.values, provider.columns, intercept=False, small_sample=True)
    raw = histories.target(history)
    assert done.constant == raw.constant
    mean = float((provider.values @ np.array(raw.coefficients)).mean())
    assert abs(mean + raw.constant) < 1e-6 * max(1.0, float(np.abs(grid.centres).max()))
