"""Both parties on one machine: the whole way from two files to two parameter files."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, FAILED, guarded
from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, embedded, processes
from services.daemon.local_job import run_job
from tests.parties import EXAMPLES, NOWHERE, make_parties
from tests.rabbitmq import running_broker

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


def parties(directory: Path, urls: Mapping[str, str] = NOWHERE, names: Mapping[str, str] = NAMES) -> tuple[Path, Path]:
    """Two fresh parties with fresh identities and the same noise seeds."""
    directory.mkdir()
    paths = make_parties(directory, tables(directory), marks=MARKS, names=names, urls=urls, noise_seed="seed")
    return paths[BUSINESS], paths[PROVIDER]


def test_two_processes_over_a_broker_end_at_the_bytes_of_the_embedded_run(tmp_path: Path) -> None:
    inside = parties(tmp_path / "embedded")
    with embedded(inside):
        expected = run_job(inside, {**JOB, "partner": f"{NAMES[PROVIDER]}/features"})
    broker = running_broker()
    broker.add_parties(list(NAMES.values()))
    outside = parties(tmp_path / "amqp", {role: broker.amqp_url(name) for role, name in NAMES.items()})
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
        "bytes", "metrics", "coefficient_noise", "cautions", "key_bits", "backend", "transport",
    ]  # fmt: skip
    assert printed["rows"] == 200
    assert printed["features"] == {"business": 10, "provider": 20}
    assert 0.9 < printed["metrics"]["auc"] <= 1
    for path in ("business/parameters.json", "provider/parameters.json", "convergence.png", "roc.png"):
        assert (out / path).stat().st_size > 100
    assert set(json.loads((out / "provider/parameters.json").read_text())["coefficients"]) == {
        f"x{j}" for j in range(20)
    }


def test_local_stops_early_by_as_many_evaluations_as_the_provider_s_columns_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tables(tmp_path, 100)
    pl.read_csv(found.provider).select("id", "x0", "x1", "x2").write_csv(found.provider)
    more = (
        "--small-sample",
        "--l2",
        "1e-2",
        "--max-iterations",
        "9",
        "--validation",
        "0.3",
        "--stop-metric",
        "log_loss",
    )
    assert run(local_arguments(found, *more, "--json"), monkeypatch) == DONE
    stopping = json.loads(capsys.readouterr().out)["stopping"]
    assert [one["iteration"] for one in stopping["evaluations"]] == [1, 2]
    assert run(local_arguments(found, *more, "--stop-evaluations", "3"), monkeypatch) == FAILED
    assert "fewer evaluations than columns" in capsys.readouterr().err


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


def test_tables_without_a_common_identifier_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tables(tmp_path)
    table = pl.read_csv(found.provider, schema_overrides={"id": pl.String})
    table.with_columns(("other-" + pl.col("id")).alias("id")).write_csv(found.provider)
    assert run(local_arguments(found, "--small-sample", "--release-noise", "0"), monkeypatch) == FAILED
    assert "0 identifiers in common" in capsys.readouterr().err


def test_a_directory_with_something_in_it_is_not_kept_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert run(["demo", "--keep", str(tmp_path)], monkeypatch) == BAD_INPUT
    assert "name a new directory" in capsys.readouterr().err
