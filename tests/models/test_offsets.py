"""A model of rates: rows are scored with their exposures and offsets, as they were trained."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import onnxruntime
import polars as pl
import pytest
from sklearn_pmml_model.linear_model import PMMLLinearRegression

from services.daemon.control import ControlClient, ControlError
from services.daemon.local import connect, embedded, wait_for
from services.models.export import part_of
from services.models.formats import to_onnx, to_pmml
from services.models.store import ModelStore
from services.models.version import ModelDamaged, ModelVersion, whole_of
from services.party.configuration import load_party
from tests.audit.recorded import BUSINESS, COLUMNS, MARKS, PROVIDER, Recorded, job_of, write_tables
from tests.parties import make_parties

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "model-part.json"
ROUNDED_TWICE = 0.00101
"""The provider's scores are rounded: in training those of centred columns, in scoring those of raw ones."""

BESIDE = {"exposure": "years_qz", "offset": "tariff_qz"}


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A Poisson model with both, whose parts the business has, and its scores of the training rows."""
    directory = tmp_path_factory.mktemp("rates")
    tables = write_tables(directory, 90, "poisson")
    chance = np.random.default_rng(4)
    pl.read_csv(tables.business, schema_overrides={"id": pl.String}).with_columns(
        pl.Series("years_qz", chance.uniform(0.2, 3.0, 90)), pl.Series("tariff_qz", chance.normal(0.0, 0.3, 90))
    ).write_csv(tables.business)
    paths = make_parties(directory, tables, marks=MARKS)
    policy = paths[PROVIDER].parent / "policy.toml"
    policy.write_text("whole_model = true\n" + policy.read_text())
    asks = {"max_iterations": 2, "evaluate": ["training"], "whole_model": True, **BESIDE}
    with embedded(tuple(paths.values())), connect(load_party(paths[BUSINESS])) as business:
        job = business.ask("submit", job=job_of("poisson", **asks))["job"]
        view = wait_for(business, job)
        assert view["outcome"] == "done", view["reason"]
        with connect(load_party(paths[PROVIDER])) as provider:
            wait_for(provider, job)
    return Recorded(job, paths)


@pytest.fixture(scope="module")
def business(rates: Recorded) -> Iterator[ControlClient]:
    """The business's console, with both daemons up."""
    with embedded(tuple(rates.paths.values())), connect(load_party(rates.paths[BUSINESS])) as found:
        yield found


def version(rates: Recorded) -> ModelVersion:
    return ModelStore(rates.party(BUSINESS).data_directory).get(rates.job).version


def table(rates: Recorded) -> pl.DataFrame:
    return pl.read_csv(rates.paths[BUSINESS].parent.parent / "business.csv", schema_overrides={"id": pl.String})


def scores(view: dict[str, str]) -> pl.DataFrame:
    frame = pl.read_csv(Path(view["results"]) / "scores.csv", schema_overrides={"id": pl.String})
    return frame.select("id", "score", "prediction").sort("id")


def predict(business: ControlClient, rates: Recorded, frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The scores of a file of rows."""
    frame.write_csv(path)
    view = wait_for(business, business.ask("predict", model=rates.job, business=str(path))["job"])
    assert view["outcome"] == "done", view["reason"]
    return scores(view)


def test_scores_are_those_that_the_job_found_of_its_own_rows(
    rates: Recorded, business: ControlClient, tmp_path: Path
) -> None:
    trained = scores(business.ask("job", id=rates.job))
    found = predict(business, rates, table(rates).drop("label_qz"), tmp_path / "rows.csv")
    assert found["id"].to_list() == trained["id"].to_list()
    assert np.allclose(found["score"], trained["score"], rtol=0, atol=ROUNDED_TWICE)
    assert np.allclose(found["prediction"], np.exp(found["score"].to_numpy()))


def test_twice_the_exposure_is_twice_the_prediction_and_an_offset_is_added(
    rates: Recorded, business: ControlClient, tmp_path: Path
) -> None:
    rows = table(rates).drop("label_qz").head(30)
    before = predict(business, rates, rows, tmp_path / "before.csv")
    changed = rows.with_columns(pl.col("years_qz") * 2.0, pl.col("tariff_qz") + 0.25)
    after = predict(business, rates, changed, tmp_path / "after.csv")
    assert np.allclose(after["score"] - before["score"], math.log(2.0) + 0.25, rtol=0, atol=1e-9)


def test_a_row_is_looked_up_with_its_exposure(rates: Recorded, business: ControlClient) -> None:
    name = table(rates)["id"][7]
    expected = scores(business.ask("job", id=rates.job)).filter(pl.col("id") == name)["score"][0]
    job = business.ask("predict", model=rates.job, mode="lookup")["job"]
    wait_for(business, job, until_stage="serve")
    assert business.ask("lookup", model=rates.job, id=name)["score"] == pytest.approx(expected, abs=ROUNDED_TWICE)
    business.ask("cancel", id=job, reason="enough")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (lambda rows: rows.drop("years_qz"), ["row_column_missing", "years_qz"]),
        (lambda rows: rows.drop("tariff_qz"), ["tariff_qz"]),
        (lambda rows: rows.with_columns(pl.col("years_qz") - 5.0), ["years_qz", "not above 0"]),
    ],
)
def test_a_file_without_them_is_refused_by_column(
    changed: object, named: list[str], rates: Recorded, business: ControlClient, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    changed(table(rates)).write_csv(path)  # type: ignore[operator]
    with pytest.raises(ControlError) as refused:
        business.ask("predict", model=rates.job, business=str(path))
    assert all(word in str(refused.value) for word in [*named[-1:], str(path)])


def test_the_exported_part_names_them_by_the_published_schema(rates: Recorded) -> None:
    part = json.loads(part_of(version(rates)))
    jsonschema.validate(part, json.loads(SCHEMA.read_text()))
    assert {name: part[name] for name in BESIDE} == BESIDE
    theirs = ModelStore(rates.party(PROVIDER).data_directory).get(rates.job).version
    assert not set(BESIDE) & set(json.loads(part_of(theirs)))


def test_other_programs_take_the_offset_as_one_input_more(
    rates: Recorded, business: ControlClient, tmp_path: Path
) -> None:
    rows = table(rates)
    theirs = pl.read_csv(rates.paths[PROVIDER].parent.parent / "provider.csv", schema_overrides={"id": pl.String})
    joined = rows.join(theirs, on="id").sort("id")
    columns = joined.select(*COLUMNS[BUSINESS], *COLUMNS[PROVIDER]).to_numpy()
    offset = np.log(joined["years_qz"].to_numpy()) + joined["tariff_qz"].to_numpy()
    expected = scores(business.ask("job", id=rates.job))["score"].to_numpy()
    whole = whole_of(version(rates))
    session = onnxruntime.InferenceSession(to_onnx(whole))
    score, prediction = session.run(["score", "prediction"], {"columns": columns, "offset": offset})
    assert np.abs(score - expected).max() < 0.00051  # what the provider sent is rounded to 3 decimals
    assert np.allclose(prediction, np.exp(score))
    file = tmp_path / "model.pmml"
    file.write_bytes(to_pmml(whole, "1.0"))
    linear = PMMLLinearRegression(str(file))
    assert linear.predict(np.column_stack([columns, offset])) == pytest.approx(score, abs=0.01)


def test_a_model_that_does_not_name_its_columns_scores_nothing(rates: Recorded) -> None:
    found = version(rates)
    document = {name: value for name, value in found.document.items() if name not in BESIDE}
    former = msgspec.structs.replace(found, parameters=msgspec.json.encode(document))
    with pytest.raises(ModelDamaged, match="train it again"):
        _ = former.beside
