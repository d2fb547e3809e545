"""Reports: what a finished job looks like for programs, in files and for people."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from services import reference, report, summary
from services.report import Finished
from services.tables import read_table

ROWS, L2 = 300, 1e-3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A job whose parameters are the optimum of the joined table; one provider row is nobody else's."""
    directory = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(5)
    values = np.round(generator.normal(size=(ROWS, 5)) * 100) / 100
    label = (values @ [1.0, -0.5, 0.2, 0.7, 0.0] + generator.logistic(size=ROWS) > 0).astype(int)
    names = [f"p{row}" for row in range(ROWS)]
    lines = [f"{who},{y},{a},{b}" for who, y, (a, b) in zip(names, label, values[:, :2], strict=True)]
    (directory / "business.csv").write_text("\n".join(["id,y,a,b", *lines]))
    lines = [f"{who},{c},{d},{e}" for who, (c, d, e) in zip(names, values[:, 2:], strict=True)]
    (directory / "provider.csv").write_text("\n".join(["id,c,d,e", "stranger,9,9,9", *reversed(lines)]))
    best = reference.fit("logistic", values, label.astype(float), L2)
    fine = {"centre": 0.0, "step": 2.0**-20}
    common = {"task": "logistic", "rows": ROWS, "iterations": 2, "converged": True, "l2": L2}
    mine = dict(zip("ab", best.coefficients[:2].tolist(), strict=True))
    theirs = dict(zip("cde", best.coefficients[2:].tolist(), strict=True))
    facts = [
        {"iteration": number, "terms": terms, "largest_business": 0.1 / number, "largest_provider": 0.05}
        for number, terms in ((1, 0), (2, 6))
    ]
    return Finished(
        business=read_table(directory / "business.csv", identifier="id", label="y", task="logistic"),
        provider=read_table(directory / "provider.csv", identifier="id"),
        parameters_business=json.dumps(
            {**common, "intercept": best.intercept, "coefficients": mine, "grid": dict.fromkeys(mine, fine)}
        ).encode(),
        parameters_provider=json.dumps(
            {**common, "coefficients": theirs, "grid": dict.fromkeys(theirs, fine)}
        ).encode(),
        history=json.dumps({"iterations": facts}).encode(),
        seconds={"total": 3.0, "align": 0.5, "encrypt_features": 0.5, "train": 2.0},
        core_seconds=2.5,
        bytes_business_to_provider=1000,
        bytes_provider_to_business=10,
        key_bits=2048,
        tolerance=1e-3,
        backend="gmpy2",
        transport="embedded",
    )


def test_the_json_object_has_every_field_of_the_contract_with_programs(finished: Finished) -> None:
    found = json.loads(json.dumps(report.json_object(finished)))
    assert found["rows"] == ROWS
    assert found["features"] == {"business": 2, "provider": 3}
    assert found["ciphertexts_per_row"] == 1 + 7
    assert found["bytes"] == {"business_to_provider": 1000, "provider_to_business": 10}
    assert set(found["seconds"]) == {"total", "align", "encrypt_features", "train"}
    assert set(found["metrics"]) == {"auc", "ks", "log_loss", "accuracy"}


def test_rows_are_joined_by_identifier_and_not_by_place(finished: Finished) -> None:
    business, provider, label = finished.joined
    assert len(business) == len(provider) == len(label) == ROWS
    assert not (provider == 9).any()


def test_the_optimum_of_the_joined_table_is_at_no_distance_from_itself(finished: Finished) -> None:
    comparison = report.compare(finished)
    assert comparison.distance < 1e-9
    for name, value in finished.metrics.items():
        assert value == pytest.approx(comparison.metrics[name], abs=1e-3)


def test_each_party_gets_its_own_bytes_and_people_get_plots(finished: Finished, tmp_path: Path) -> None:
    report.write_outputs(tmp_path, finished)
    assert (tmp_path / "business" / "parameters.json").read_bytes() == finished.parameters_business
    assert (tmp_path / "provider" / "parameters.json").read_bytes() == finished.parameters_provider
    assert b"intercept" not in (tmp_path / "provider" / "parameters.json").read_bytes()
    for name in ("convergence.png", "roc.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_summary_says_what_each_learned_how_good_it_is_and_what_it_cost(finished: Finished) -> None:
    out = Console(file=io.StringIO(), width=200)
    summary.show(finished, out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    for words in ("business learned", "provider learned", "auc", "joined table", "core-seconds", "products per row"):
        assert words in text
    for name, value in {**finished.of_business["coefficients"], **finished.of_provider["coefficients"]}.items():
        assert f"{name} {value:+.5f}" in text
