"""Preparation at both owners of a whole job, against scikit-learn's pipeline on the joined rows; tables; refusals."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from learning.columns.preparation import FittedPreparation, Step
from learning.columns.preparing import apply
from learning.columns.quantise import ColumnRefused
from protocol.contract import encode_contract, job_id
from services.party.configuration import ConfigError, load_party, steps_from
from services.tables.files import TableError
from services.tables.snapshot import SnapshotDamaged, pack_snapshot, unpack_snapshot
from services.tables.table import Table, data_digest, read_table, schema_digest
from services.tasks.compute import TaskRefused
from services.tasks.preparing import prepare
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, two_sides
from tests.services.test_job_machines import MARKS, parameters

ROWS, ALIGNED = 240, 200
L2 = 1e-2
BUSINESS: dict[str, Any] = {
    "income": [
        {"step": "impute", "by": "median", "indicator": True},
        {"step": "clip", "quantiles": [0.01, 0.99]},
        {"step": "log", "kind": "signed"},
        {"step": "standardise"},
    ],
    "sex": [{"step": "impute", "by": "mode"}, {"step": "one_hot", "drop_first": True}],
}
PROVIDER: dict[str, Any] = {
    "grade": [{"step": "ordinal", "categories": ["C", "B", "A"]}],
    "region": [{"step": "one_hot", "unseen": "other", "rows_min": 15}],
    "debt": [{"step": "impute", "by": "mean"}, {"step": "standardise"}],
}


def steps(table: dict[str, Any]) -> dict[str, tuple[Step, ...]]:
    return steps_from(table, "test")


def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Business and provider, with text and missing cells; each has 40 rows that the other lacks, of extreme values."""
    generator = np.random.default_rng(5)
    everybody = ROWS + ROWS - ALIGNED
    names = [f"person-{number:04d}" for number in range(everybody)]
    sex = generator.choice(["f", "m"], everybody)
    region = generator.choice(["north", "south", "east", "sea", "hills"], everybody, p=[0.4, 0.3, 0.24, 0.03, 0.03])
    grade = generator.choice(["A", "B", "C"], everybody)
    income = generator.lognormal(3, 1, everybody)
    income[:40] = 1e7
    debt = generator.normal(size=everybody)
    debt[ROWS:] = 1e5
    score = (sex == "f") * 1.0 + (region == "north") - (grade == "A") + np.log1p(income) - 3 + 0.5 * debt
    frame = pl.DataFrame(
        {
            "id": names,
            "y": (score + generator.logistic(size=everybody) > 0).astype(int),
            "income": np.where(generator.random(everybody) < 0.1, np.nan, income),
            "age": generator.normal(40, 10, everybody).round(1),
            "sex": pl.Series(
                [None if one < 0.05 else s for s, one in zip(sex, generator.random(everybody), strict=True)]
            ),
            "grade": grade,
            "region": region,
            "debt": np.where(generator.random(everybody) < 0.1, np.nan, debt),
        }
    ).with_columns(pl.col("income", "debt").fill_nan(None))
    business = frame.select("id", "y", "income", "age", "sex").head(ROWS)
    provider = frame.select("id", "grade", "region", "debt").tail(ROWS)
    return business, provider.sample(fraction=1.0, shuffle=True, seed=1)


def stage(directory: Path) -> Pair:
    """A pair on prepared tables; its job is submitted."""
    business, provider = frames()
    business.write_csv(directory / "business.csv")
    provider.write_parquet(directory / "provider.parquet")
    table = read_table(directory / "business.csv", identifier="id", label="y", task="logistic", steps=steps(BUSINESS))
    customers = {"source": str(directory / "provider.parquet"), "id": "id", "steps": steps(PROVIDER)}
    settings = {"policy": {"marks": list(MARKS)}, "datasets": {"customers": customers}, "noise_seed": ""}
    sides = two_sides(directory, settings, "prepared")
    agreed = contract(
        business_key=sides[0].identity.public.digest(),
        provider_key=sides[1].identity.public.digest(),
        business_rows=ROWS,
        business_columns=len(table.prepared_columns),
        l2=L2,
        max_iterations=9,
        tolerance=1e-6,
        key_bits=512,
        marks=MARKS,
        release_noise=0.0,
        chunk_rows_max=30,
    )
    data = encode_contract(agreed)
    pair = Pair(sides[0], sides[1])
    pair.start(job_id(data), data, pack_snapshot(table), ROWS)
    return pair


def oracle(frame: pl.DataFrame) -> tuple[NDArray[np.float64], list[str]]:
    """Business's and provider's prepared columns by scikit-learn, fitted on the joined rows."""

    def clipped(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(column, *np.quantile(column, [0.01, 0.99], axis=0))

    def signed(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(column) * np.log1p(np.abs(column))

    income = make_pipeline(
        SimpleImputer(strategy="median"), FunctionTransformer(clipped), FunctionTransformer(signed), StandardScaler()
    )
    sex = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder(drop="first", sparse_output=False)
    )
    rare = OneHotEncoder(categories=[["east", "north", "south"]], handle_unknown="ignore", sparse_output=False)
    debt = make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())
    numbers = {name: frame.select(pl.col(name).fill_null(math.nan)).to_numpy() for name in ("income", "age", "debt")}
    texts = {name: frame.select(name).to_numpy().astype(object) for name in ("sex", "grade", "region")}
    region = rare.fit_transform(texts["region"])
    columns = [
        income.fit_transform(numbers["income"]),
        np.isnan(numbers["income"]),
        numbers["age"],
        sex.fit_transform(texts["sex"]),
        OrdinalEncoder(categories=[["C", "B", "A"]]).fit_transform(texts["grade"]),
        region,
        1.0 - region.sum(axis=1),
        debt.fit_transform(numbers["debt"]),
    ]
    names = ["income", "income=(missing)", "age", "sex=m", "grade", "region=east", "region=north", "region=south"]
    return np.column_stack(columns), [*names, "region=(other)", "debt"]


def test_a_prepared_job_ends_at_the_optimum_of_scikit_learns_pipeline_on_the_joined_rows(tmp_path: Path) -> None:
    pair = stage(tmp_path)
    pair.run()
    documents = [json.loads(data) for data in parameters(pair)]
    business, provider = frames()
    joined = business.join(provider, on="id")
    assert len(joined) == ALIGNED
    matrix, names = oracle(joined)
    assert [name for document in documents for name in document["coefficients"]] == names
    best = LogisticRegression(C=1 / (L2 * ALIGNED), tol=1e-10, max_iter=10_000).fit(matrix, joined["y"])
    found = np.array([value for document in documents for value in document["coefficients"].values()])
    deviations = matrix.std(axis=0)
    distance = np.linalg.norm((found - best.coef_[0]) * deviations) / np.linalg.norm(best.coef_[0] * deviations)
    assert distance < 0.02
    # What the parameter files say of preparation makes the oracle's columns of raw tables, of other rows as well.
    for document, source, first, last in ((documents[0], business, 0, 4), (documents[1], provider, 4, 10)):
        fitted = msgspec.convert(document["preparation"], FittedPreparation)
        assert fitted.names == tuple(document["coefficients"])
        path, labelled = tmp_path / "again.parquet", "y" in source.columns
        joined.select(source.columns).write_parquet(path)
        table = read_table(
            path,
            identifier="id",
            label="y" if labelled else None,
            columns=fitted.sources,
            steps=steps(BUSINESS if labelled else PROVIDER),
        )
        np.testing.assert_allclose(apply(fitted, table.source), matrix[:, first:last], atol=1e-9)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    frames()[0].write_csv(tmp_path / "business.csv")
    return read_table(tmp_path / "business.csv", identifier="id", label="y", steps=steps(BUSINESS))


def test_a_table_is_the_same_from_csv_and_from_parquet_and_differs_with_its_preparation(
    tmp_path: Path, table: Table
) -> None:
    frames()[0].write_parquet(tmp_path / "business.parquet")
    again = read_table(tmp_path / "business.parquet", identifier="id", label="y", steps=steps(BUSINESS))
    assert data_digest(again) == data_digest(table)
    other = {**BUSINESS, "income": [{"step": "impute", "by": "mean"}]}
    changed = read_table(tmp_path / "business.parquet", identifier="id", label="y", steps=steps(other))
    assert schema_digest(changed) != schema_digest(table)
    assert data_digest(changed) != data_digest(table)


def test_a_snapshot_keeps_sources_categories_and_preparation(table: Table) -> None:
    snapshot = unpack_snapshot(pack_snapshot(table))
    assert snapshot.preparation == table.preparation
    assert snapshot.source().categories == table.categories == (None, None, ("f", "m"))
    np.testing.assert_array_equal(snapshot.matrix(), table.values)


def test_a_snapshot_without_preparation_has_the_fields_it_always_had() -> None:
    plain = Table(identifiers=["u", "v"], columns=("a",), values=np.array([[1.0], [2.0]]))
    assert list(msgspec.msgpack.decode(pack_snapshot(plain))) == ["identifiers", "columns", "values", "label"]


def test_a_snapshot_of_places_without_a_category_is_damaged(table: Table) -> None:
    fields = msgspec.msgpack.decode(pack_snapshot(table))
    for categories in ([None, None, ["f"]], [None, None], [None, None, ["f", "m"], None]):
        with pytest.raises(SnapshotDamaged, match="categories"):
            unpack_snapshot(msgspec.msgpack.encode({**fields, "categories": categories}))


CELLS = "id,n,c\nu,1,red\nv,NA,\nw,-3, red \nx,2,blue\n"


def read(directory: Path, content: str | pl.DataFrame, **declared: Any) -> Table:
    path = directory / ("table.csv" if isinstance(content, str) else "table.parquet")
    if isinstance(content, str):
        path.write_text(content)
    else:
        content.write_parquet(path)
    return read_table(path, identifier="id", steps=steps(declared))


def test_blanks_around_a_category_do_not_count_and_words_for_missing_numbers_are_missing(tmp_path: Path) -> None:
    mode = {"step": "impute", "by": "mode"}
    found = read(tmp_path, CELLS, n=[{"step": "impute", "by": "mean"}], c=[mode, {"step": "one_hot"}])
    assert found.categories == (None, ("blue", "red"))
    assert [math.isnan(value) for value in found.values[:, 0]] == [False, True, False, False]
    assert found.values[:, 1].tolist()[0] == found.values[:, 1].tolist()[2] == 1.0
    assert found.prepared_columns == ("n", "c=blue", "c=red")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pl.Series([3, 1, 2], dtype=pl.Int64), ("1", "2", "3")),
        (pl.Series([1.0, 2.5, None]), ("1", "2.5")),
        (pl.Series([True, False, None]), ("false", "true")),
        (pl.Series(["p", "q", None], dtype=pl.Categorical), ("p", "q")),
        (pl.Series(["p", "q", "p"], dtype=pl.Enum(["q", "p"])), ("p", "q")),
        (pl.Series([float("nan"), 1.0, 2.0]), ("1", "2")),
    ],
)
def test_categories_come_from_every_type_that_has_some(
    tmp_path: Path, values: pl.Series, texts: tuple[str, ...]
) -> None:
    frame = pl.DataFrame({"id": ["u", "v", "w"], "c": values})
    constant = {"step": "impute", "by": "constant", "constant": "none"}
    found = read(tmp_path, frame, c=[constant, {"step": "one_hot", "drop_first": True}])
    assert found.categories == (texts,)


IMPUTED: list[dict[str, Any]] = [{"step": "impute", "by": "mean"}]


@pytest.mark.parametrize(
    ("declared", "code", "said"),
    [
        (
            {"c": [{"step": "one_hot"}], "n": IMPUTED},
            "value_missing",
            ("data row 2 (line 3) has no value", 'by = "mode"'),
        ),
        ({"c": [{"step": "one_hot"}]}, "value_missing", ("column 'n'", "add imputation", 'by = "median"')),
        ({"n": IMPUTED}, "value_not_numeric", ("column 'c'", "add an encoding", "one_hot")),
        ({"n": [*IMPUTED, {"step": "log"}], "c": IMPUTED}, "value_not_numeric", ("column 'c'",)),
        (
            {"n": [*IMPUTED, {"step": "log"}], "c": [{"step": "impute", "by": "mode"}, {"step": "one_hot"}]},
            "log_domain",
            ("column 'n', step 2 (log)", "data row 3 (line 4) has a value of -1 or less", "signed"),
        ),
        (
            {"n": IMPUTED, "c": [{"step": "impute", "by": "mode"}, {"step": "one_hot", "categories": ["red"]}]},
            "category_unseen",
            ("column 'c', step 2 (one_hot)", "data row 4 (line 5)"),
        ),
        (
            {
                "n": IMPUTED,
                "c": [{"step": "impute", "by": "mode"}, {"step": "one_hot", "categories": ["red", "blue", "pink"]}],
            },
            "column_constant",
            ("column 'c', step 2 (one_hot), category 3 of 3", "same value"),
        ),
        ({"gone": IMPUTED}, "preparation_unfit", ("column 'gone'", "correct the name")),
    ],
)
def test_what_a_preparation_cannot_take_is_told_with_column_step_line_and_remedy(
    tmp_path: Path, declared: dict[str, Any], code: str, said: tuple[str, ...]
) -> None:
    with pytest.raises(TableError) as caught:
        read(tmp_path, CELLS, **declared)
    assert caught.value.code == code
    assert str(tmp_path) in str(caught.value)
    for words in said:
        assert words in str(caught.value)
    assert "blue" not in str(caught.value)
    assert "pink" not in str(caught.value)


def test_a_label_in_words_is_not_told_of_an_encoding(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,y,a\nu,yes,1\nv,no,2\n")
    with pytest.raises(TableError, match=r"column 'y'.*save it as numbers") as caught:
        read_table(path, identifier="id", label="y", task="logistic")
    assert "encoding" not in str(caught.value)


def test_a_date_is_no_category(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["u", "v"], "c": pl.Series([1, 2]).cast(pl.Date)})
    with pytest.raises(TableError) as caught:
        read(tmp_path, frame, c=[{"step": "one_hot"}])
    assert caught.value.code == "value_not_categorical"


def test_the_owners_rules_hold_for_prepared_columns_and_name_source_and_step(tmp_path: Path) -> None:
    rows = [f"p{number},{number % 7},{'rare' if number < 49 else 'common'}" for number in range(500)]
    found = read(tmp_path, "\n".join(["id,n,c", *rows]) + "\n", c=[{"step": "one_hot", "drop_first": True}])
    snapshot = unpack_snapshot(pack_snapshot(found))
    columns = prepare(snapshot, np.arange(500), 500)
    with pytest.raises(
        ColumnRefused, match=r"column 'c', step 1 \(one_hot\), category 2 of 2: differs .* in 49 rows"
    ) as caught:
        columns.quantise((500,), intercept=False, small_sample=False)
    assert caught.value.code == "column_support"
    assert "rare" not in str(caught.value)
    columns.quantise((500,), intercept=False, small_sample=True)


def test_what_only_the_aligned_rows_cannot_do_is_refused_with_the_rows_of_the_file(tmp_path: Path) -> None:
    """Standardised by all rows no value is below -1, by the aligned ones one is."""
    cells = [*range(-40, 1), *([-1] * 40), 3, 2]
    rows = [f"p{number},{value}" for number, value in enumerate(cells)]
    declared = [{"step": "standardise"}, {"step": "clip", "low": -5}, {"step": "log"}]
    text = "\n".join(["id,n", *rows]) + "\n"
    with pytest.raises(TableError, match="step 3"):
        read(tmp_path, text, n=declared)
    found = read(tmp_path, text, n=[{"step": "standardise"}])
    preparation = found.preparation
    assert preparation is not None
    wished = msgspec.structs.replace(preparation.columns[0], steps=steps({"n": declared})["n"])
    changed = msgspec.structs.replace(unpack_snapshot(pack_snapshot(found)), preparation=type(preparation)((wished,)))
    with pytest.raises(TaskRefused, match=r"column 'n', step 3 \(log\): 1 row has .*\(data row 1\)") as caught:
        prepare(changed, np.array([40, 0, 81, 82]), 4)
    assert caught.value.code == "log_domain"


def test_held_out_rows_are_prepared_by_what_the_training_rows_say(table: Table) -> None:
    snapshot = unpack_snapshot(pack_snapshot(table))
    rows = np.arange(ROWS)[::-1]
    columns = prepare(snapshot, rows, 150)
    alone = prepare(snapshot, rows[:150], 150)
    assert columns.fitted == alone.fitted
    assert columns.fitted != prepare(snapshot, rows, ROWS).fitted
    assert columns.matrix.shape == (ROWS, 4)
    np.testing.assert_array_equal(columns.matrix[:150], alone.matrix)


def test_party_toml_takes_a_preparation_in_place_or_from_a_file(tmp_path: Path, party_toml: Path) -> None:
    text = party_toml.read_text()
    inline = '\n[dataset.preparation]\na = [{ step = "impute", by = "median" }]\n'
    party_toml.write_text(text + inline)
    one = load_party(party_toml).datasets["labels"]["steps"]
    (party_toml.parent / "prepared.toml").write_text('a = [{ step = "impute", by = "median" }]\n')
    party_toml.write_text(text + 'preparation = "prepared.toml"\n')
    assert load_party(party_toml).datasets["labels"]["steps"] == one != {}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('[{ step = "imputed" }]', "column 'a'.*imputed"),
        ('[{ step = "impute" }]', "column 'a'.*by"),
        ('[{ step = "clip", quantile = [0, 1] }]', "column 'a'.*quantile"),
        ('[{ step = "clip", quantiles = [0.5, 1.5] }]', "column 'a'.*<= 1.0"),
        ('"impute"', "column 'a'.*array"),
        ('[{ step = "one_hot" }, { step = "log" }]', r"column 'a', step 1 \(one_hot\)"),
    ],
)
def test_a_mistake_in_a_preparation_names_data_set_and_column(party_toml: Path, written: str, named: str) -> None:
    party_toml.write_text(f"{party_toml.read_text()}\n[dataset.preparation]\na = {written}\n")
    with pytest.raises(ConfigError, match=named):
        load_party(party_toml)


@pytest.fixture
def party_toml(tmp_path: Path) -> Path:
    """party.toml of a business whose data set comes last."""
    from services.daemon.local import BUSINESS as ROLE
    from services.daemon.local import LocalTables, make_party

    tables = LocalTables(business=tmp_path / "b.csv", provider=tmp_path / "p.csv", identifier="id", label="y")
    return make_party(
        tmp_path / "a",
        ROLE,
        "business-a",
        tables,
        broker="amqp://localhost/warren",
        marks=(),
        declare=False,
        noise_seed="",
    )
