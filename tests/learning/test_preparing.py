import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from learning.columns.preparation import (
    Clip,
    FittedPreparation,
    Impute,
    Log,
    OneHot,
    Ordinal,
    PreparationError,
    Standardise,
    declare,
)
from learning.columns.preparing import PreparationRefused, SourceTable, apply, fit, settle

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def numbers(values, name="x"):
    return SourceTable((name,), np.array(values, dtype=float).reshape(-1, 1), (None,))


def texts(cells, name="c"):
    """A column of categories; None is a missing cell."""
    distinct = tuple(sorted({cell for cell in cells if cell is not None}))
    places = [math.nan if cell is None else distinct.index(cell) for cell in cells]
    return SourceTable((name,), np.array(places, dtype=float).reshape(-1, 1), (distinct,))


def prepared(table, *steps):
    preparation = settle(declare({table.columns[0]: steps}, table.columns), table)
    fitted = fit(preparation, table)
    assert fitted.names == preparation.names
    return fitted, apply(fitted, table)


def objects(cells):
    return np.array(cells, dtype=object).reshape(-1, 1)


@pytest.mark.parametrize(("by", "theirs"), [("median", "median"), ("mean", "mean"), ("mode", "most_frequent")])
@given(
    st.lists(st.one_of(NUMBERS, st.just(math.nan)), min_size=1, max_size=40).filter(
        lambda v: not all(map(math.isnan, v))
    )
)
def test_numbers_are_imputed_as_scikit_learn_does(by, theirs, values):
    table = numbers(values)
    fitted, mine = prepared(table, Impute(by=by, indicator=True))
    expected = SimpleImputer(strategy=theirs).fit_transform(table.values)
    np.testing.assert_allclose(mine[:, :1], expected, rtol=1e-12, atol=1e-9)
    indicator = MissingIndicator(features="all").fit_transform(table.values)
    np.testing.assert_array_equal(mine[:, 1:], indicator.astype(float))
    assert fitted.names == ("x", "x=(missing)")


@given(st.lists(st.sampled_from(["red", "green", "blue", None]), min_size=1, max_size=40).filter(any))
def test_categories_are_imputed_and_encoded_as_scikit_learn_does(cells):
    fitted, mine = prepared(texts(cells), Impute(by="mode"), OneHot())
    theirs = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder(sparse_output=False)
    ).fit(objects(cells))
    np.testing.assert_array_equal(mine, theirs.transform(objects(cells)))
    assert fitted.names == tuple(f"c={name}" for name in theirs[-1].categories_[0])


def test_a_constant_becomes_a_category_of_its_own():
    cells = ["a", None, "b", None]
    fitted, mine = prepared(texts(cells), Impute(by="constant", constant="unknown", indicator=True), OneHot())
    theirs = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="unknown", missing_values=None),
        OneHotEncoder(sparse_output=False),
    )
    np.testing.assert_array_equal(mine[:, :3], theirs.fit_transform(objects(cells)))
    assert fitted.names == ("c=a", "c=b", "c=unknown", "c=(missing)")
    assert mine[:, 3].tolist() == [0, 1, 0, 1]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.lists(st.sampled_from("abcdxyz"), max_size=30))
def test_unseen_categories_are_all_zero_where_they_are_ignored(train, later):
    fitted, _ = prepared(texts(train), OneHot(unseen="ignore"))
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(objects(train))
    if later:
        np.testing.assert_array_equal(apply(fitted, texts(later)), theirs.transform(objects(later)))


@given(st.lists(st.sampled_from("abcd"), min_size=4, max_size=30), st.lists(st.sampled_from("abcdxyz"), max_size=30))
def test_ordinal_places_are_those_of_scikit_learn(train, later):
    fitted, mine = prepared(texts(train), Ordinal(unseen="other"))
    theirs = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(objects(train))
    np.testing.assert_array_equal(mine, theirs.transform(objects(train)))
    if later:
        np.testing.assert_array_equal(apply(fitted, texts(later)), theirs.transform(objects(later)))
    assert fitted.names == ("c",)


def test_declared_categories_keep_their_order():
    step = Ordinal(categories=("low", "middle", "high"))
    assert prepared(texts(["high", "low", "middle"]), step)[1][:, 0].tolist() == [2, 0, 1]
    theirs = OneHotEncoder(categories=[["z", "a"]], drop="first", sparse_output=False)
    fitted, mine = prepared(texts(["a", "z", "a"]), OneHot(categories=("z", "a"), drop_first=True))
    np.testing.assert_array_equal(mine, theirs.fit_transform(objects(["a", "z", "a"])))
    assert fitted.names == ("c=a",)


def test_numbers_as_categories_are_learned_in_the_order_of_numbers():
    fitted, _ = prepared(texts(["10", "9", "2"]), OneHot())
    assert fitted.names == ("c=2", "c=9", "c=10")
    assert declare({"c": (OneHot(categories=(1, 2.0, 2.5)),)}, ("c",)).names == ("c=1", "c=2", "c=2.5")


def test_others_and_rare_categories_share_one_column():
    table = texts(["a"] * 5 + ["b"] * 5 + ["rare"] * 2 + ["rarer"])
    fitted, mine = prepared(table, OneHot(unseen="other", rows_min=3))
    theirs = OneHotEncoder(min_frequency=3, sparse_output=False).fit_transform(
        objects(["a"] * 5 + ["b"] * 5 + ["rare"] * 2 + ["rarer"])
    )
    np.testing.assert_array_equal(mine, theirs)
    assert fitted.names == ("c=a", "c=b", "c=(other)")
    np.testing.assert_array_equal(apply(fitted, texts(["never seen"])), [[0, 0, 1]])


@given(st.lists(NUMBERS, min_size=2, max_size=50).filter(lambda v: len(set(v)) > 1))
def test_standardisation_is_that_of_scikit_learn(values):
    table = numbers(values)
    np.testing.assert_allclose(
        prepared(table, Standardise())[1], StandardScaler().fit_transform(table.values), rtol=1e-9, atol=1e-9
    )


@given(st.lists(st.floats(-0.999, 1e9), min_size=1, max_size=50))
def test_logarithms_are_those_of_numpy(values):
    table = numbers(values)
    log = FunctionTransformer(np.log1p).fit_transform(table.values)
    signed = FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x))).fit_transform(table.values)
    np.testing.assert_allclose(prepared(table, Log())[1], log, rtol=1e-12)
    np.testing.assert_allclose(prepared(table, Log(kind="signed"))[1], signed, rtol=1e-12)


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.floats(0, 0.4), st.floats(0.5, 1))
def test_quantiles_of_training_clip_rows_of_scoring(values, low, high):
    table = numbers(values)
    fitted, _ = prepared(table, Clip(quantiles=(low, high)))
    later = numbers([-1e9, 0.0, 1e9])
    bounds = np.quantile(table.values, [low, high])
    np.testing.assert_allclose(apply(fitted, later)[:, 0], np.clip(later.values[:, 0], *bounds))


def test_steps_come_one_after_the_other():
    table = numbers([math.nan, -5.0, 0.0, 10.0, 1e6])
    pipeline = make_pipeline(
        SimpleImputer(strategy="median"),
        FunctionTransformer(lambda x: np.clip(x, 0, 1000)),
        FunctionTransformer(np.log1p),
        StandardScaler(),
    )
    steps = (Impute(by="median"), Clip(low=0, high=1000), Log(), Standardise())
    np.testing.assert_allclose(prepared(table, *steps)[1], pipeline.fit_transform(table.values), rtol=1e-12)


EVERYTHING = {
    "x": (Impute(by="mean", indicator=True), Clip(quantiles=(0.1, 0.9)), Log(kind="signed"), Standardise()),
    "c": (Impute(by="mode"), OneHot(unseen="other")),
    "o": (Impute(by="constant", constant="b"), Ordinal(), Standardise()),
}


def everything(seed, rows=60):
    generator = np.random.default_rng(seed)
    values = np.empty((rows, 4))
    values[:, 0] = np.where(generator.random(rows) < 0.2, math.nan, generator.lognormal(size=rows))
    for place in (1, 2):
        values[:, place] = np.where(generator.random(rows) < 0.2, math.nan, generator.integers(0, 3, rows))
    values[:, 3] = generator.normal(size=rows)
    return SourceTable(("x", "c", "o", "plain"), values, (None, ("a", "b", "c"), ("a", "b", "c"), None))


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_row_order_changes_no_byte_of_a_fitted_preparation(seed):
    table = everything(seed)
    preparation = settle(declare(EVERYTHING, table.columns), table)
    order = np.random.default_rng(seed).permutation(len(table.values))
    one, two = fit(preparation, table), fit(preparation, table.take(order))
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(two)
    assert apply(one, table)[order].tobytes() == apply(two, table.take(order)).tobytes()


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_a_stored_preparation_gives_each_row_alone_what_it_gave_among_others(seed):
    table = everything(seed)
    fitted = fit(settle(declare(EVERYTHING, table.columns), table), table)
    stored = msgspec.json.decode(msgspec.json.encode(fitted), type=FittedPreparation)
    assert stored == fitted
    whole = apply(fitted, table)
    for row in range(5):
        assert apply(stored, table.take(np.array([row]))).tobytes() == whole[row].tobytes()


def test_what_is_learned_from_numbers_is_learned_from_the_training_rows():
    table = numbers([1.0, 2.0, 3.0, math.nan, 1e9])
    preparation = settle(declare({"x": (Impute(by="median"),)}, ("x",)), table)
    fitted = fit(preparation, table.take(np.array([0, 1, 2, 3])))
    assert apply(fitted, numbers([math.nan])).tolist() == [[2.0]]


def refusal(table, *steps, later=None):
    with pytest.raises(PreparationRefused) as caught:
        fitted, _ = prepared(table, *steps)
        apply(fitted, later)
    return caught.value


def test_a_missing_value_without_imputation_is_refused_with_what_to_add():
    error = refusal(numbers([1.0, math.nan, 2.0]))
    assert (error.code, error.rows) == ("value_missing", (1,))
    assert str(error) == (
        'column \'x\': 1 row has no value; add imputation as the first step: { step = "impute", by = "median" }'
    )
    error = refusal(texts(["a", None]), OneHot())
    assert "column 'c', step 1 (one_hot)" in str(error)
    assert 'by = "mode"' in str(error)
    error = refusal(numbers([1.0, 2.0]), Standardise(), later=numbers([1.0, math.nan]))
    assert (error.code, error.place) == ("value_missing", "column 'x', step 1 (standardise)")


def test_an_unseen_category_is_refused_without_being_shown():
    error = refusal(texts(["a", "b"]), OneHot(), later=texts(["a", "a secret"]))
    assert (error.code, error.rows) == ("category_unseen", (1,))
    assert "secret" not in str(error)
    assert refusal(texts(["a", "b"]), Ordinal(categories=("a",))).code == "category_unseen"


def test_other_refusals_name_column_and_step():
    cases = [
        (refusal(numbers([0.0, -1.0]), Log()), "log_domain", "step 1 (log)"),
        (refusal(numbers([math.nan] * 2), Impute(by="mean")), "statistic_none", "step 1 (impute)"),
        (refusal(numbers([5.0, 5.0]), Standardise()), "column_constant", "step 1 (standardise)"),
        (refusal(texts([str(number) for number in range(1001)]), OneHot()), "categories_many", "step 1 (one_hot)"),
        (refusal(texts(["a", "b"]), OneHot(unseen="other", rows_min=2)), "statistic_none", "step 1 (one_hot)"),
        (refusal(numbers([1.0]), later=numbers([1.0], name="y")), "column_missing", "column 'x'"),
    ]
    for error, code, place in cases:
        assert error.code == code
        assert place in error.place


def test_two_prepared_columns_of_one_name_are_refused():
    table = SourceTable(("c", "c=a"), np.array([[0.0, 1.0], [0.0, 2.0]]), (("a",), None))
    with pytest.raises(PreparationRefused) as caught:
        settle(declare({"c": (OneHot(),)}, table.columns), table)
    assert caught.value.code == "names_repeated"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((Clip(low=0), Impute(by="mean")), "`impute` comes first"),
        ((Impute(by="constant"),), "a constant is given with"),
        ((Impute(by="mean", constant=1.0),), "a constant is given with"),
        ((Impute(by="median"), OneHot()), "categories have no median"),
        ((Impute(by="constant", constant="a"),), "is a number"),
        ((Impute(by="constant", constant=""), OneHot()), "an empty constant"),
        ((Impute(by="constant", constant="z"), OneHot(categories=("a",))), "none of its categories"),
        ((Log(), OneHot()), "only `impute` may come before it"),
        ((OneHot(), Standardise()), "nothing may come after it"),
        ((Ordinal(), Ordinal()), "only `impute` may come before it|encoded once"),
        ((OneHot(categories=("a", "a")),), "twice"),
        ((OneHot(categories=(1, "1")),), "twice"),
        ((OneHot(categories=("a", "")),), "no category but a missing value"),
        ((OneHot(rows_min=50),), "what is rarer has to go somewhere"),
        ((Clip(),), "give `low`, `high` or both"),
        ((Clip(low=1, quantiles=(0, 1)),), "give `low`, `high` or both"),
        ((Clip(low=1, high=1),), "below the upper"),
        ((Clip(quantiles=(0.9, 0.1)),), "below the upper"),
        ((Clip(low=math.nan),), "NaN or infinite"),
        ((Impute(by="constant", constant=math.inf),), "NaN or infinite"),
        ((Log(),) * 17, "16 at most"),
    ],
)
def test_steps_that_do_not_fit_together_are_refused(steps, said):
    with pytest.raises(PreparationError, match=said) as caught:
        declare({"x": steps}, ("x",))
    assert "column 'x'" in str(caught.value)


def test_steps_for_a_column_that_is_no_feature_are_refused():
    with pytest.raises(PreparationError, match="no feature column"):
        declare({"gone": (Standardise(),)}, ("x",))


def test_origins_name_source_and_step_of_every_prepared_column_and_no_category():
    table = everything(1)
    preparation = settle(declare(EVERYTHING, table.columns), table)
    assert len(preparation.origins) == len(preparation.names)
    assert dict(zip(preparation.names, preparation.origins, strict=True)) == {
        "x": "column 'x', step 4 (standardise)",
        "x=(missing)": "column 'x', step 1 (impute), indicator of missing values",
        "c=a": "column 'c', step 2 (one_hot), category 1 of 3",
        "c=b": "column 'c', step 2 (one_hot), category 2 of 3",
        "c=c": "column 'c', step 2 (one_hot), category 3 of 3",
        "c=(other)": "column 'c', step 2 (one_hot), all other categories",
        "o": "column 'o', step 3 (standardise)",
        "plain": "column 'plain'",
    }
