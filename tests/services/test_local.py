"""Both parties on one machine: the whole way from two files to two parameter files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from services import reference
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, FAILED, guarded
from services.local import BUSINESS, NAMES, PROVIDER, LocalTables, embedded, introduce, make_party, processes, run_job
from tests.rabbitmq import running_broker

EXAMPLES = Path(__file__).parents[2] / "examples"
MARKS = ("small_sample", "reproducible")
JOB = {
    "task": "logistic",
    "dataset": "labels",
    "l2": 1e-2,
    "max_iterations": 2,
    "marks": list(MARKS),
    "release_noise": 0.03125,
}


def tables(directory: Path, rows: int = 200) -> LocalTables:
    """The first rows of the breast example as files."""
    for who in ("business", "provider"):
        pl.read_parquet(EXAMPLES / "breast" / f"{who}.parquet").head(rows).write_csv(directory / f"{who}.csv")
    return LocalTables(
        business=directory / "business.csv", provider=directory / "provider.csv", identifier="id", label="y"
    )


def parties(directory: Path, broker: dict[str, str], names: dict[str, str]) -> tuple[Path, Path]:
    """Two fresh parties with fresh identities and the same noise seeds."""
    directory.mkdir()
    found = tables(directory)
    first, second = (
        make_party(
            directory / role,
            role,
            names[role],
            found,
            broker=broker[role],
            marks=MARKS,
            declare=False,
            noise_seed=f"seed/{role}",
        )
        for role in NAMES
    )
    introduce(first, second)
    return first, second


def test_two_processes_over_a_broker_end_at_the_bytes_of_the_embedded_run(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(NAMES, "amqp://localhost/warren")
    inside = parties(tmp_path / "embedded", nowhere, NAMES)
    with embedded(inside):
        expected = run_job(inside, {**JOB, "partner": f"{NAMES[PROVIDER]}/features"})
    broker = running_broker()
    broker.add_parties(list(NAMES.values()))
    outside = parties(tmp_path / "amqp", {role: broker.amqp_url(name) for role, name in NAMES.items()}, NAMES)
    with processes(outside):
        found = run_job(outside, {**JOB, "partner": f"{NAMES[PROVIDER]}/features"})
    assert found.parameters == expected.parameters
    assert found.job != expected.job
    publics = [next(path.parent.glob("*.public.json")).read_bytes() for path in (inside[0], outside[0])]
    assert publics[0] != publics[1]
    assert json.loads(found.parameters[BUSINESS])["intercept"]
    assert "intercept" not in json.loads(found.parameters[PROVIDER])


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command line's exit code."""
    monkeypatch.setattr("sys.argv", ["warren", *arguments])
    return guarded(app)


def local_arguments(found: LocalTables, *more: str) -> list[str]:
    """`warren local` on two files."""
    return [
        "local", "--task", "logistic", "--business", str(found.business), "--provider", str(found.provider),
        "--id", found.identifier, "--label", found.label, "--max-iterations", "2", *more,
    ]  # fmt: skip


def test_local_prints_one_json_object_and_writes_results_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = tables(tmp_path)
    more = ("--small-sample", "--release-noise", "0", "--l2", "1e-2", "--json", "--out", str(out))
    assert run(local_arguments(found, *more), monkeypatch) == DONE
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [
        "task", "rows", "features", "iterations", "converged", "seconds", "core_seconds", "ciphertexts_per_row",
        "bytes", "metrics", "key_bits", "backend", "transport",
    ]  # fmt: skip
    assert printed["rows"] == 200
    assert printed["features"] == {"business": 10, "provider": 20}
    assert 0.9 < printed["metrics"]["auc"] <= 1
    for path in ("business/parameters.json", "provider/parameters.json", "convergence.png", "roc.png"):
        assert (out / path).stat().st_size > 100
    assert set(json.loads((out / "provider/parameters.json").read_text())["coefficients"]) == {
        f"x{j}" for j in range(20)
    }


@pytest.mark.parametrize(
    ("edit", "options", "code", "named"),
    [
        (("y", 7.0), (), BAD_INPUT, "y"),
        (("x3", 1.0), ("--small-sample", "--release-noise", "0"), BAD_INPUT, "x3"),
        ((None, None), (), FAILED, "small_sample"),
        ((None, None), ("--key-bits", "1024"), BAD_INPUT, "2048"),
        ((None, None), ("--id", "nowhere"), BAD_INPUT, "nowhere"),
    ],
)
def test_bad_input_is_refused_by_name_and_with_what_to_do(
    edit: tuple[str | None, float | None],
    options: tuple[str, ...],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = tables(tmp_path)
    column, value = edit
    if column is not None:
        table = pl.read_csv(found.business)
        table.with_columns(pl.lit(value).alias(column)).write_csv(found.business)
    assert run(local_arguments(found, *options), monkeypatch) == code
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


@pytest.mark.parametrize("task", ["logistic", "linear", "poisson"])
def test_the_reference_is_scikit_learn_s_optimum(task: str) -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(400, 5)) * [1, 2, 0.5, 1, 3] + [0, 5, 0, -2, 1]
    score = values @ [0.5, -0.2, 0.8, 0.1, 0.05]
    label, l2 = (
        {
            "logistic": (score + generator.logistic(size=400) > 0) * 1.0,
            "linear": score + generator.normal(size=400),
            "poisson": generator.poisson(np.exp(score / 2)) * 1.0,
        }[task],
        1e-2,
    )
    peer = {
        "logistic": LogisticRegression(C=1 / (l2 * 400), tol=1e-10, max_iter=10_000),
        "linear": Ridge(alpha=l2 * 400),
        "poisson": PoissonRegressor(alpha=l2, tol=1e-10, max_iter=10_000),
    }[task].fit(values, label)
    found = reference.fit(task, values, label, l2)
    assert found.converged
    assert np.allclose(found.coefficients, np.ravel(peer.coef_), atol=1e-5)
    assert found.intercept == pytest.approx(float(np.ravel(peer.intercept_)[0]), abs=1e-4)


def test_tables_without_a_common_identifier_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tables(tmp_path)
    table = pl.read_csv(found.provider, schema_overrides={"id": pl.String})
    table.with_columns(("other-" + pl.col("id")).alias("id")).write_csv(found.provider)
    assert run(local_arguments(found, "--small-sample", "--release-noise", "0"), monkeypatch) == FAILED
    assert "0 identifiers in common" in capsys.readouterr().err
