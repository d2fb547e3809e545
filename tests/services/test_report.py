"""Reports: every figure, against scikit-learn or arithmetic, and what programs, files and people get of it."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from sklearn import metrics as peer

from learning.columns.preparation import FittedColumn, FittedPreparation, Standardised
from services.results import reference, report, summary
from services.results.product_count import products_per_row
from services.results.report import Finished
from services.tables.table import Table

Vector = NDArray[np.float64]
TASKS = ("logistic", "linear", "poisson")
NAMES = {"logistic": ["auc", "ks", "log_loss", "accuracy"], "linear": ["rmse", "r2"]}
NAMES["poisson"] = ["poisson_deviance", "rmse"]
ROWS, L2, STEP = 300, 1e-3, 1e-6
CENTRES = [0.5, -1.0, 2.0, 0.0, 3.0]
FACTS = [
    {"iteration": 1, "largest_business": 0.5, "largest_provider": 0.3, "terms": 0, "bound": 0.0, "step": 0.7},
    {"iteration": 2, "largest_business": 0.1, "largest_provider": 0.02, "terms": 2, "bound": 3.4, "step": 0.2},
    {"iteration": 3, "largest_business": 1e-5, "largest_provider": 0.0, "terms": 4, "bound": 4.0, "step": 0.1},
]


def joined(task: str) -> tuple[Vector, Vector]:
    """Five columns and labels: two columns are the business's."""
    generator = np.random.default_rng(11)
    values = generator.normal(size=(ROWS, 5)) * [1, 2, 0.5, 1, 3] + CENTRES
    score = (values - CENTRES) @ [0.5, -0.2, 0.8, 0.1, 0.05]
    labels = {
        "logistic": (score + generator.logistic(size=ROWS) > 0) * 1.0,
        "linear": score + generator.normal(size=ROWS),
        "poisson": generator.poisson(np.exp(score / 2)) * 1.0,
    }
    return values, labels[task]


def file(task: str, names: list[str], coefficients: list[float], centres: list[float], **more: float) -> bytes:
    """A parameters.json."""
    content: dict[str, Any] = {"task": task, "rows": ROWS, "l2": L2, "iterations": 3, "converged": True, **more}
    content["coefficients"] = dict(zip(names, coefficients, strict=True))
    content["grid"] = {name: {"centre": c, "step": STEP} for name, c in zip(names, centres, strict=True)}
    return json.dumps(content).encode()


def finished(task: str, *, stretch: float = 1.0) -> Finished:
    """A job that ended at `stretch` times the coefficients of the optimum, with the provider's rows shuffled.

    Each table has a row that the other one lacks.
    """
    values, label = joined(task)
    best = reference.fit(task, values, label, L2)
    own = best.coefficients * stretch
    order = np.random.default_rng(5).permutation(ROWS)
    identifiers = [f"id{row}" for row in range(ROWS)]
    return Finished(
        business=Table(
            identifiers=["alone", *identifiers],
            columns=("income", "age"),
            values=np.vstack([[9.0, 9.0], values[:, :2]]),
            label=np.concatenate([[1.0], label]),
        ),
        provider=Table(
            identifiers=[*(identifiers[row] for row in order), "lonely"],
            columns=("calls", "[red]visits", "spend"),
            values=np.vstack([values[order, 2:], [9.0, 9.0, 9.0]]),
        ),
        parameters_business=file(task, ["income", "age"], own[:2].tolist(), CENTRES[:2], intercept=best.intercept),
        parameters_provider=file(task, ["calls", "[red]visits", "spend"], own[2:].tolist(), CENTRES[2:]),
        history=json.dumps({"iterations": FACTS, "converged": True, "stop_reason": "converged"}).encode(),
        seconds={"total": 10.00049, "align": 1.0, "encrypt_features": 2.0, "train": 7.0},
        core_seconds=15.5,
        bytes_business_to_provider=1_000_000,
        bytes_provider_to_business=20_000,
        key_bits=2048,
        tolerance=7e-4,
        backend="gmpy2",
        transport="embedded",
    )


def edited(data: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(data), **changes}).encode()


@pytest.mark.parametrize("task", TASKS)
def test_the_optimum_s_own_files_have_no_distance_from_it_and_its_metrics(task: str) -> None:
    job = finished(task)
    found = report.compare(job)
    assert found.distance < 1e-12
    assert list(job.metrics) == NAMES[task]
    assert job.metrics == pytest.approx(found.metrics, abs=1e-5)


def test_columns_are_prepared_as_the_parameter_file_says() -> None:
    """Incomes in another unit: the file's coefficients are of what its preparation makes of them."""
    job = finished("linear")
    steps = (Standardised(mean=1.0, deviation=2.0),)
    fitted = FittedPreparation(columns=(FittedColumn(source="income", steps=steps), FittedColumn(source="age")))
    raw = job.business.values * [2.0, 1.0] + [1.0, 0.0]
    prepared = replace(
        job,
        business=replace(job.business, values=raw),
        parameters_business=edited(job.parameters_business, preparation=msgspec.to_builtins(fitted)),
    )
    np.testing.assert_allclose(prepared.joined[0], job.joined[0])
    assert report.compare(prepared).distance < 1e-9


def test_the_distance_is_relative() -> None:
    assert report.compare(finished("linear", stretch=1.02)).distance == pytest.approx(0.02)


def test_the_distance_does_not_depend_on_the_units_of_a_column() -> None:
    """Ten thousandths of an income are ten thousand times as large, their coefficient as much smaller."""
    job = finished("linear")
    moved = json.loads(job.parameters_business)["coefficients"]
    moved["income"] += 0.1
    plain = replace(job, parameters_business=edited(job.parameters_business, coefficients=moved, l2=0.0))
    moved["income"] /= 1e4
    grid = {**json.loads(job.parameters_business)["grid"], "income": {"centre": CENTRES[0] * 1e4, "step": STEP * 1e4}}
    scaled = replace(
        plain,
        business=replace(job.business, values=job.business.values * [1e4, 1.0]),
        parameters_business=edited(job.parameters_business, coefficients=moved, l2=0.0, grid=grid),
    )
    assert report.compare(scaled).distance == pytest.approx(report.compare(plain).distance)
    assert report.compare(plain).distance > 0.05


def test_metrics_are_scikit_learn_s() -> None:
    job = finished("logistic")
    label, chance = job.joined[2], 1 / (1 + np.exp(-job.scores))
    rates = peer.roc_curve(label, job.scores)
    assert job.metrics["auc"] == pytest.approx(peer.roc_auc_score(label, job.scores))
    assert job.metrics["ks"] == pytest.approx((rates[1] - rates[0]).max())
    assert job.metrics["log_loss"] == pytest.approx(peer.log_loss(label, chance))
    assert job.metrics["accuracy"] == pytest.approx(peer.accuracy_score(label, chance > 0.5))
    job = finished("linear")
    assert job.metrics["rmse"] == pytest.approx(peer.root_mean_squared_error(job.joined[2], job.scores))
    assert job.metrics["r2"] == pytest.approx(peer.r2_score(job.joined[2], job.scores))
    job = finished("poisson")
    deviance = peer.mean_poisson_deviance(job.joined[2], np.exp(job.scores))
    assert job.metrics["poisson_deviance"] == pytest.approx(deviance)


def test_rows_are_joined_by_identifier_and_rows_of_one_party_are_left_out() -> None:
    values, label = joined("logistic")
    business, provider, labels = finished("logistic").joined
    assert np.array_equal(np.hstack([business, provider]), values)
    assert np.array_equal(labels, label)


def test_columns_follow_their_names_whatever_the_order_of_table_and_grid() -> None:
    job = finished("linear")
    grid = dict(reversed(json.loads(job.parameters_provider)["grid"].items()))
    turned = replace(
        job,
        provider=replace(job.provider, columns=job.provider.columns[::-1], values=job.provider.values[:, ::-1]),
        parameters_provider=edited(job.parameters_provider, grid=grid),
    )
    assert np.array_equal(turned.scores, job.scores)
    assert report.compare(turned).distance < 1e-12


def test_scores_are_those_of_the_grid_of_training() -> None:
    job = finished("linear")
    grid = {name: {"centre": 0.0, "step": 2.0} for name in job.provider.columns}
    coarse = replace(job, parameters_provider=edited(job.parameters_provider, grid=grid))
    business, provider, _ = coarse.joined
    own, theirs = (np.array([*found["coefficients"].values()]) for found in (job.of_business, job.of_provider))
    expected = job.of_business["intercept"] + business @ own + (np.rint(provider / 2) * 2) @ theirs
    assert np.allclose(coarse.scores, expected, atol=1e-5)


def test_the_json_object_has_exactly_the_documented_fields() -> None:
    found = report.json_object(finished("logistic"))
    metrics = found.pop("metrics")
    assert list(metrics) == NAMES["logistic"]
    (few_rows,) = found.pop("cautions")
    assert few_rows.startswith(f"of {ROWS} rows the 10 with the largest scores")
    assert found == {
        "task": "logistic",
        "rows": ROWS,
        "features": {"business": 2, "provider": 3},
        "iterations": 3,
        "converged": True,
        "seconds": {"total": 10.0, "align": 1.0, "encrypt_features": 2.0, "train": 7.0},
        "core_seconds": 15.5,
        "ciphertexts_per_row": 1 + 3 + 5,
        "bytes": {"business_to_provider": 1_000_000, "provider_to_business": 20_000},
        "coefficient_noise": 0.0,
        "key_bits": 2048,
        "backend": "gmpy2",
        "transport": "embedded",
    }


def test_the_report_says_what_the_release_noise_does_to_the_coefficients() -> None:
    job = replace(finished("logistic"), release_noise=1 / 32)
    assert report.json_object(job)["coefficient_noise"] == pytest.approx(job.noise)
    assert job.noise == pytest.approx(32 * replace(finished("logistic"), release_noise=1 / 1024).noise)
    text = io.StringIO()
    summary.show(job, Console(file=text, width=200))
    assert f"{job.noise:.2%}" in text.getvalue()
    assert "Note: of 300 rows the 10 with the largest scores" in text.getvalue()


def test_the_json_object_stays_json_where_a_metric_is_not_defined() -> None:
    job = finished("logistic")
    assert job.business.label is not None
    single = replace(job, business=replace(job.business, label=np.ones_like(job.business.label)))
    assert math.isnan(single.metrics["auc"])
    found = json.loads(json.dumps(report.json_object(single), allow_nan=False))
    assert found["metrics"]["auc"] is None
    assert found["metrics"]["accuracy"] > 0


@pytest.mark.parametrize("task", TASKS)
def test_files_are_the_parties_own_bytes_and_plots_fit_the_task(task: str, tmp_path: Path) -> None:
    job = finished(task)
    report.write_outputs(tmp_path / "new" / "out", job)
    out = tmp_path / "new" / "out"
    assert (out / "business" / "parameters.json").read_bytes() == job.parameters_business
    assert (out / "provider" / "parameters.json").read_bytes() == job.parameters_provider
    for who in ("business", "provider"):
        assert (out / who / "history.json").read_bytes() == job.history
    plots = {path.name for path in out.glob("*.png") if path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")}
    both = {"convergence.png", "lift.png", "calibration.png"}
    assert plots == (both | {"roc.png", "ks.png"} if task == "logistic" else both)


@pytest.mark.parametrize("entries", [(0.0, 0.0), (0.0, 1e-3)])
def test_convergence_is_drawn_where_release_noise_explains_a_gradient_from_the_start(
    entries: tuple[float, float], tmp_path: Path
) -> None:
    only = {**FACTS[0], "largest_business": entries[0], "largest_provider": entries[1]}
    history = json.dumps({"iterations": [only], "converged": True, "stop_reason": "converged"}).encode()
    report.write_outputs(tmp_path, replace(finished("linear"), history=history))
    assert (tmp_path / "convergence.png").stat().st_size > 1000


def test_the_summary_shows_each_party_its_own_coefficients_as_they_are_named() -> None:
    text, job = io.StringIO(), finished("logistic")
    returned = summary.show(job, Console(file=text, width=120))
    shown = text.getvalue()
    business, provider = shown.split("The provider learned")
    provider, rest = provider.split("Joint model:")
    assert "intercept" in business
    for part, learned in ((business, job.of_business), (provider, job.of_provider)):
        assert all(f"{name} {value:+.5f}" in part for name, value in learned["coefficients"].items())
    assert not any(name in provider for name in ("intercept", "income", "age"))
    spoken_of = ("auc", "ks", "joined table", "core-seconds", "ciphertexts per row", "products per row", "converged")
    for wanted in (*spoken_of, "1,000,000"):
        assert wanted in rest
    assert returned.distance < 1e-12


def test_products_of_an_iteration_are_those_of_the_algorithms() -> None:
    """docs/paillier.md: 206 for an encryption, 272 to re-randomise. 4 000 rows: 29 in one ciphertext, 68 bits."""
    job: dict[str, Any] = {"rows": 4000, "columns": (14, 10), "key_bits": 2048, "residual_bound": 2.0}
    nothing = products_per_row([], **job)
    assert nothing == (2 * 206, 0)
    one = products_per_row([6], **job)
    assert one.short - nothing.short == pytest.approx(7 * 206 + 1.2 * 2048 / 29)
    evaluated = 54 + 1 + (28 * (68 + 1) + 272) / 29
    chunk = 290  # of the 292 rows that fit 1 MiB: whole packed ciphertexts
    raised = 2 * 14 * (1 + (64 + 5) / chunk)  # 14 digits of 5 bits
    assert one.long == pytest.approx(evaluated + raised)


def test_products_grow_with_terms_columns_and_iterations() -> None:
    job: dict[str, Any] = {"rows": 4000, "key_bits": 2048, "residual_bound": 2.0}
    small = products_per_row([2], columns=(5, 5), **job)
    for more in (
        products_per_row([4], columns=(5, 5), **job),
        products_per_row([2], columns=(5, 40), **job),
        products_per_row([2, 2], columns=(5, 5), **job),
    ):
        assert more.short > small.short
        assert more.long > small.long


VALIDATION: dict[str, Any] = {
    "penalties": [0.1, 0.01, 0.0],
    "rows": [100, 200],
    "deviances": [[0.0, -0.02, -0.01], [0.0, -0.05, -0.06]],
    "means": [0.0, -0.04, -0.0433],
    "chosen": 0.0,
    "turns": 9,
    "loose": 0,
}


def validated() -> Finished:
    """A job whose iterations were over all rows, over two thirds of them, and over none at all."""
    facts = [FACTS[0], {**FACTS[1], "rows": 200}, {**FACTS[2], "terms": -1}]
    history = {"iterations": facts, "converged": True, "stop_reason": "converged", "validation": VALIDATION}
    return replace(finished("logistic"), history=json.dumps(history).encode())


def test_an_iteration_over_some_rows_costs_its_share_and_one_without_link_terms_nothing() -> None:
    job, whole = validated(), finished("logistic")
    assert job.ciphertexts_per_row == 3  # 1 and two thirds of 3
    nothing, first = replace(job, history=_history([])), replace(job, history=_history(FACTS[:1]))
    second = replace(job, history=_history(FACTS[:2]))
    for which in ("short", "long"):
        cost = {
            name: getattr(one.products_per_row, which) for name, one in (("0", nothing), ("1", first), ("2", second))
        }
        expected = cost["1"] + (cost["2"] - cost["1"]) * 2 / 3
        assert getattr(job.products_per_row, which) == pytest.approx(expected)
    assert whole.ciphertexts_per_row == 1 + 3 + 5


def _history(facts: list[dict[str, Any]]) -> bytes:
    return json.dumps({"iterations": facts, "converged": True, "stop_reason": "converged"}).encode()


def test_early_stopping_is_shown_drawn_and_in_the_json_and_its_figures_in_the_business_s_file_alone(
    tmp_path: Path,
) -> None:
    stopping = {"metric": "auc", "patience": 1, "every": 1, "best": 1}
    figures = [{"iteration": 1, "figure": 0.75}, {"iteration": 2, "figure": 0.71875}]
    told, known = ({**stopping, "evaluations": seen} for seen in (figures, [{"iteration": 1}, {"iteration": 2}]))
    end = {"iterations": FACTS[:2], "converged": False, "stop_reason": "patience"}
    histories = {
        "business": json.dumps({**end, "stopping": told}).encode(),
        "provider": json.dumps({**end, "stopping": known}).encode(),
    }
    job, text = replace(finished("logistic"), history=histories["business"], histories=histories), io.StringIO()
    summary.show(job, Console(file=text, width=120))
    assert "its model is kept" in next(line for line in text.getvalue().splitlines() if "0.75000" in line)
    assert report.json_object(job)["stopping"] == told
    assert "stopping" not in report.json_object(finished("logistic"))
    report.write_outputs(tmp_path, job)
    assert (tmp_path / "stopping.png").read_bytes().startswith(b"\x89PNG")
    assert "0.71875" in (tmp_path / "business/history.json").read_text()
    assert "figure" not in (tmp_path / "provider/history.json").read_text()


def test_a_cross_validation_is_shown_drawn_and_in_the_json(tmp_path: Path) -> None:
    job, text = validated(), io.StringIO()
    summary.show(job, Console(file=text, width=120))
    assert "Cross-validation chose l2 0" in text.getvalue()
    assert "-0.06000" in text.getvalue()
    assert report.json_object(job)["validation"] == VALIDATION
    assert "validation" not in report.json_object(finished("logistic"))
    report.write_outputs(tmp_path, job)
    assert (tmp_path / "validation.png").read_bytes().startswith(b"\x89PNG")
