"""Products of the compiled back end: counted from how it cuts exponents, an idle lane being a product."""

import msgspec
import pytest

from kernel import library
from paillier.plans import counts, lane_bucket_plan, lane_straus_plan
from services.daemon.estimate import SPEEDS, estimate
from services.daemon.job_file import JobFile
from services.results.product_count import products_per_row


def test_six_terms_of_16_bits_in_lanes_take_54_products() -> None:
    assert lane_straus_plan(6, 16) == (3, 1)
    assert counts("compiled", terms=6, term_bits=16, rows=540, share_bits=73).row == 54


def test_73_bits_of_one_column_fill_sixteen_lanes_with_digits_of_five() -> None:
    assert lane_bucket_plan(540, 1, 73) == (5, 1)
    taken = counts("compiled", terms=6, term_bits=16, rows=540, share_bits=73)
    assert taken.entry == pytest.approx(16 * (540 + 64) / 540)


def test_the_count_of_a_job_follows_its_back_end() -> None:
    job = {"rows": 4000, "columns": (14, 10), "key_bits": 2048, "residual_bound": 2.0}
    reference = products_per_row([6], back_end="gmpy2", **job)  # type: ignore[arg-type]
    compiled = products_per_row([6], back_end="compiled", **job)  # type: ignore[arg-type]
    assert compiled.short - reference.short == pytest.approx(0.05 * 2048 / 29)
    assert compiled.long > reference.long


def test_an_estimate_is_that_of_the_back_end_that_runs() -> None:
    assert set(SPEEDS) == {"gmpy2", *library.PATHS}
    job = JobFile(task="logistic", dataset="labels", partner="provider-a/customers")
    seconds = {}
    for path in (None, *library.paths()):
        with library.using(path):
            seconds[path] = estimate(job, 30_000, 13, 30_000, 10)["seconds"]
    assert all(seconds[path] < seconds[None] for path in library.paths())


def test_standard_errors_cost_a_turn_for_every_column_of_both() -> None:
    """docs/performance.md: 241 ciphertexts a row on default_credit, 28 on dvisits."""
    for task, columns, turns, measured in (("logistic", (13, 10), 25, 241), ("poisson", (3, 9), 14, 28)):
        job = JobFile(task=task, dataset="labels", partner="provider-a/customers")
        asked = msgspec.structs.replace(job, inference=True)
        plain, more = (estimate(one, 30_000, columns[0], 30_000, columns[1]) for one in (job, asked))
        per_row = (more["bytes_to_partner"] - plain["bytes_to_partner"]) / (30_000 * 512)
        assert per_row == pytest.approx(measured, rel=0.1)
        assert per_row % turns == 0


def test_a_cross_validation_costs_its_path_and_a_gradient_for_every_fold_and_penalty() -> None:
    """docs/performance.md: 230 ciphertexts a row on default_credit with 5 folds by 6 penalties, 37 for one training."""
    job = JobFile(task="logistic", dataset="labels", partner="provider-a/customers")
    grid = msgspec.structs.replace(job, folds=5, penalties=(1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5))
    plain, more = (estimate(one, 30_000, 13, 30_000, 10) for one in (job, grid))
    per_row = (more["bytes_to_partner"] - plain["bytes_to_partner"]) / (30_000 * 512)
    assert per_row == pytest.approx(230 - 37, rel=0.1)
    assert more["seconds"] > 5 * plain["seconds"]
