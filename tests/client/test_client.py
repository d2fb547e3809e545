"""The Python interface: real jobs of both parties in this process, small keys, few rows."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from learning.columns.preparation import Impute, OneHot
from services.client import BusinessClient, Detached, JobEnded, JointEstimator, TrainedModel, rehearsal
from services.daemon.control import ControlError, ControlUnreachable
from services.models.export import part_of
from services.models.store import ModelStore
from services.party.configuration import ConfigError

HOUSE = Path(__file__).parents[2]
ROWS, COMMON = 120, 100
L2 = 1e-2
JOB: dict[str, Any] = {
    "l2": L2,
    "max_iterations": 8,
    "tolerance": 1e-6,
    "key_bits": 512,
    "marks": ["small_sample", "insecure"],
    "release_noise": 0.0,
}
BUSINESS = {"sex": [OneHot(drop_first=True)]}
PROVIDER = {"debt": [{"step": "impute", "by": "mean"}]}


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Business and provider; 20 rows of each are unknown to the other."""
    generator = np.random.default_rng(7)
    everybody = 2 * ROWS - COMMON
    sex = generator.choice(["f", "m"], everybody)
    columns = generator.normal(size=(everybody, 5))
    score = columns @ [1.0, -0.5, 0.3, 0.8, -1.0] + (sex == "f")
    frame = pl.DataFrame({"id": [f"p{row:03d}" for row in range(everybody)], "sex": sex})
    frame = frame.with_columns(
        pl.Series("y", (score + generator.logistic(size=everybody) > 0).astype(int)),
        *(pl.Series(name, columns[:, place]) for place, name in enumerate(("age", "income", "rent", "debt", "cards"))),
    ).with_columns(pl.when(pl.int_range(pl.len()) % 11 == 5).then(None).otherwise(pl.col("debt")).alias("debt"))
    business = frame.select("id", "y", "age", "income", "sex").head(ROWS)
    return business, frame.select("id", "rent", "debt", "cards").tail(ROWS)


def pandas_of(frame: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame.to_dict(as_series=False))


@pytest.fixture(scope="module")
def client() -> Iterator[BusinessClient]:
    business, provider = tables()
    with rehearsal(
        business,
        provider,
        label="y",
        marks=("small_sample", "insecure"),
        business_preparation=BUSINESS,
        provider_preparation=PROVIDER,
    ) as found:
        yield found


@pytest.fixture(scope="module")
def model(client: BusinessClient) -> TrainedModel:
    return client.fit(tables()[0], label="y", preparation=BUSINESS, progress=False, **JOB)


@pytest.fixture(scope="module")
def oracle() -> tuple[LogisticRegression, pl.DataFrame]:
    """scikit-learn's model of the joined table, and the joined table."""
    business, provider = tables()
    joined = business.join(provider, on="id")
    columns = ColumnTransformer(
        [
            ("sex", OneHotEncoder(drop="first"), ["sex"]),
            ("debt", SimpleImputer(), ["debt"]),
            ("rest", "passthrough", ["age", "income", "rent", "cards"]),
        ]
    )
    best = make_pipeline(columns, LogisticRegression(C=1 / (L2 * COMMON), tol=1e-10, max_iter=10_000))
    return best.fit(joined.pipe(pandas_of), joined["y"].to_numpy()), joined


def test_a_frame_is_trained_on_to_the_optimum_of_the_joined_table(model: TrainedModel, oracle: Any) -> None:
    best = oracle[0][-1].coef_[0]
    assert list(model.coefficients) == ["age", "income", "sex=m"]
    found = np.array(list(model.coefficients.values()))
    # Of so few rows the link expansion leaves out one in ten: the bound of provider scores.
    np.testing.assert_allclose(found, best[[2, 3, 0]], rtol=0.1, atol=0.01)
    assert (model.task, model.rows, model.l2) == ("logistic", COMMON, L2)
    assert model.iterations == len(model.history) <= 8
    assert model.history[-1].largest_business < model.history[0].largest_business
    assert model.preparation is not None
    assert model.preparation.sources == ("age", "income", "sex")
    assert set(model.seconds) >= {"total", "train"}
    assert model.table()["coefficient"].to_list() == found.tolist()


def test_no_coefficient_is_in_a_repr(model: TrainedModel, client: BusinessClient) -> None:
    shown = repr(model) + repr(client) + repr(JointEstimator(client))
    assert model.model in shown
    for value in (model.intercept, *model.coefficients.values()):
        assert str(value)[:6] not in shown


def theirs(client: BusinessClient, model: TrainedModel) -> dict[str, float]:
    """The provider's coefficients, which nobody but a rehearsal can look at."""
    path = client.data_directory.parent.parent / "provider/data/results" / model.model / "parameters.json"
    found: dict[str, float] = json.loads(path.read_text())["coefficients"]
    return found


def partial(joined: pl.DataFrame, coefficients: dict[str, float]) -> Any:
    """Scores of prepared columns: a dummy of the sex, the mean for a missing debt."""
    columns = joined.with_columns(
        pl.col("debt").fill_null(pl.col("debt").mean()), (pl.col("sex") == "m").cast(pl.Float64).alias("sex=m")
    )
    return columns.select(list(coefficients)).to_numpy() @ list(coefficients.values())


def test_scores_are_those_of_the_joint_model_and_unknown_rows_are_named(
    client: BusinessClient, model: TrainedModel, oracle: Any
) -> None:
    best, joined = oracle
    business = tables()[0].drop("y").reverse()
    found = client.predict(model, business, progress=False)
    assert found.frame["id"].to_list() == joined["id"].reverse().to_list()
    assert set(found.unmatched) == set(business["id"]) - set(joined["id"])
    scores = model.intercept + partial(joined, model.coefficients) + partial(joined, theirs(client, model))
    np.testing.assert_allclose(found.frame["score"].reverse().to_numpy(), scores, atol=2e-3)
    expected = best.predict_proba(joined.reverse().pipe(pandas_of))[:, 1]
    np.testing.assert_allclose(found.frame["prediction"].to_numpy(), expected, atol=0.06)


def test_a_data_set_of_party_toml_is_trained_on_and_scored_as_well(client: BusinessClient, model: TrainedModel) -> None:
    again = client.fit(dataset="labels", progress=False, **JOB)
    np.testing.assert_allclose(list(again.coefficients.values()), list(model.coefficients.values()), atol=1e-3)
    assert client.predict(again, progress=False).frame.height == COMMON
    assert [view["job"] for view in client.jobs()].count(again.model) == 1


def test_an_estimator_takes_pandas_and_has_what_scikit_learn_s_have(client: BusinessClient, oracle: Any) -> None:
    best, joined = oracle
    frame = tables()[0].pipe(pandas_of)
    settings = {key: value for key, value in JOB.items() if key not in ("l2", "max_iterations")}
    estimator = JointEstimator(client, preparation=BUSINESS, l2=0.5, job=settings, progress=False)
    estimator = clone(estimator.set_params(l2=L2, max_iterations=8))
    assert estimator.get_params()["l2"] == L2
    with pytest.raises(ValueError, match="no parameter"):
        estimator.set_params(penalty="l1")
    with pytest.raises(AttributeError, match="fit the estimator first"):
        estimator.predict(frame)
    features = frame.drop(columns="y").set_index("id")
    assert estimator.fit(features, frame["y"]) is estimator
    assert estimator.coef_.shape == (1, 3)
    assert estimator.intercept_.shape == (1,)
    assert estimator.n_iter_ <= 8
    assert list(estimator.feature_names_in_) == ["age", "income", "sex"]
    assert list(estimator.feature_names_out_) == ["age", "income", "sex=m"]
    probabilities = estimator.predict_proba(features)
    predicted = estimator.predict(features)
    assert [view["role"] for view in client.jobs()].count("scoring-business") >= 1
    known = np.isin(frame["id"], joined["id"])
    assert np.isnan(probabilities[~known]).all()
    assert np.isnan(predicted[~known]).all()
    expected = best.predict_proba(joined.pipe(pandas_of))
    np.testing.assert_allclose(probabilities[known], expected, atol=0.06)
    np.testing.assert_array_equal(predicted[known], (probabilities[known][:, 1] > 0.5).astype(float))
    scores = estimator.decision_function(features)[known]
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), probabilities[known][:, 1], atol=1e-3)


def test_the_same_rows_are_scored_once(client: BusinessClient, model: TrainedModel) -> None:
    estimator = JointEstimator(client, preparation=BUSINESS, l2=L2, max_iterations=2, progress=False)
    estimator.set_params(job={key: value for key, value in JOB.items() if key not in ("l2", "max_iterations")})
    rows = tables()[0]
    estimator.set_params(label="y").fit(rows)
    before = len(client.jobs())
    estimator.predict(rows.drop("y"))
    estimator.predict_proba(rows)
    assert len(client.jobs()) == before + 1
    estimator.predict(rows.head(50))
    assert len(client.jobs()) == before + 2


def test_an_exported_part_says_how_its_columns_are_prepared(client: BusinessClient, model: TrainedModel) -> None:
    part = json.loads(part_of(ModelStore(client.data_directory).get(model.model).version))
    jsonschema.validate(part, json.loads((HOUSE / "docs/schemas/model-part.json").read_text()))
    assert [column["source"] for column in part["preparation"]["columns"]] == ["age", "income", "sex"]
    assert [column["name"] for column in part["columns"]] == list(model.coefficients)


def test_a_model_knows_the_figures_that_the_job_was_to_find(client: BusinessClient) -> None:
    found = client.fit(dataset="labels", progress=False, **{**JOB, "evaluate": ["training"], "max_iterations": 3})
    auc = next(value for name, value in found.metrics.items() if "auc" in name)
    scores = client.predict(found, progress=False)
    joined = tables()[0].join(scores.frame, on="id")
    assert abs(auc - roc_auc_score(joined["y"], joined["score"])) < 0.01


def test_a_model_that_stopped_early_knows_its_metric_by_iteration(client: BusinessClient) -> None:
    stops = {"validation": 0.3, "stop_metric": "auc", "patience": 1, "stop_evaluations_max": 2, "max_iterations": 6}
    found = client.fit(dataset="labels", progress=False, **{**JOB, **stops, "evaluate": ["validation"]})
    assert found.stopping is not None
    figures = {one.iteration: one.figure for one in found.stopping.evaluations}
    assert list(figures) == [1, 2]
    assert found.stop_reason in ("patience", "evaluations")
    assert found.stopping.best == max(figures, key=figures.__getitem__)
    shown = json.dumps([client.ask("job", id=found.model), client.ask("logs", id=found.model)], default=str)
    assert "results written" in shown
    assert not any(f"{figure:.6f}" in shown or repr(figure) in shown for figure in figures.values())
    # The model that is kept is the one whose figures the job ends with.
    assert found.metrics["validation.auc"] == figures[found.stopping.best]


def test_two_providers_each_prepare_their_own_columns() -> None:
    business, provider = tables()
    first, second = provider.select("id", "debt"), provider.select("id", "rent", "cards")
    wanted = [PROVIDER, {"rent": [{"step": "standardise"}]}]
    marks = [*JOB["marks"], "few_columns"]
    with rehearsal(business, first, second, label="y", marks=tuple(marks), provider_preparation=wanted) as client:
        job = {**JOB, "max_iterations": 3, "marks": marks}
        model = client.fit(business, label="y", preparation=BUSINESS, progress=False, **job)
        found = client.predict(model, business.drop("y"), progress=False)
        home = client.data_directory.parent.parent
        parts = [
            json.loads((home / who / "data/results" / model.model / "parameters.json").read_text())
            for who in ("provider", "provider-b")
        ]
    joined = business.join(provider, on="id")
    steps = [part["preparation"]["columns"][0]["steps"][0]["step"] for part in parts]
    assert steps == ["filled", "standardised"]
    rent = pl.col("rent")
    prepared = joined.with_columns((rent - rent.mean()) / rent.std(ddof=0))
    scores = model.intercept + partial(prepared, model.coefficients)
    scores = scores + sum(partial(prepared, part["coefficients"]) for part in parts)
    order = found.frame.join(joined.select("id").with_row_index(), on="id")["index"].to_numpy()
    np.testing.assert_allclose(found.frame["score"].to_numpy(), scores[order], atol=3e-3)


def test_a_model_of_several_classes_has_coefficients_of_each(client: BusinessClient) -> None:
    age = pl.col("age")
    words = pl.when(age < -0.5).then(pl.lit("young")).when(age < 0.5).then(pl.lit("middle")).otherwise(pl.lit("old"))
    rows = tables()[0].with_columns(words.alias("y"))
    job = {key: value for key, value in {**JOB, "max_iterations": 2}.items() if key not in ("l2", "max_iterations")}
    estimator = JointEstimator(client, task="multiclass", label="y", l2=L2, max_iterations=2, job=job, progress=False)
    estimator.set_params(preparation=BUSINESS).fit(rows)
    model = estimator.model_
    assert list(model.classes) == list(estimator.classes_) == ["middle", "old", "young"]
    assert estimator.coef_.shape == (3, 3)
    assert model.classes["old"].coefficients["age"] > 0.3 > -0.3 > model.classes["young"].coefficients["age"]
    assert model.table().columns == ["column", "middle", "old", "young"]


def test_an_estimator_scores_several_classes_as_scikit_learn_s_one_against_the_rest(client: BusinessClient) -> None:
    rent = pl.col("income")
    words = pl.when(rent < -0.5).then(pl.lit("low")).when(rent < 0.5).then(pl.lit("middle")).otherwise(pl.lit("high"))
    rows = tables()[0].with_columns(words.alias("y"))
    joint = JointEstimator(
        client,
        task="multiclass",
        label="y",
        preparation=BUSINESS,
        l2=0.05,
        max_iterations=2,
        progress=False,
        job={name: value for name, value in JOB.items() if name not in ("l2", "max_iterations")},
    ).fit(rows)
    scores, chances, likeliest = (
        getattr(joint, name)(rows) for name in ("decision_function", "predict_proba", "predict")
    )
    known = ~np.isnan(scores).any(axis=1)
    assert known.sum() == COMMON
    own = 1.0 / (1.0 + np.exp(-scores[known]))
    assert np.allclose(chances[known], own / own.sum(axis=1, keepdims=True))
    assert list(likeliest[known]) == list(joint.classes_[scores[known].argmax(axis=1)])
    assert set(likeliest[~known]) == {None}


def interrupting(view: dict[str, Any]) -> None:
    """The stop button, pressed when the job has come to the alignment."""
    if view["progress"].get("stage") not in (None, "propose"):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that was started in the background ignores interrupts, and what it starts does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_cancels_the_job(client: BusinessClient) -> None:
    training = client.submit(tables()[0], label="y", preparation=BUSINESS, **JOB)
    with pytest.raises(KeyboardInterrupt) as caught:
        training.wait(progress=interrupting)
    assert not isinstance(caught.value, Detached)
    with pytest.raises(JobEnded, match="interrupted") as ended:
        training.wait(progress=False)
    assert (ended.value.outcome, ended.value.job) == ("cancelled", training.job)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_may_leave_the_job_to_itself(client: BusinessClient, model: TrainedModel) -> None:
    training = client.submit(tables()[0], label="y", preparation=BUSINESS, **JOB)
    with pytest.raises(Detached) as caught:
        training.wait(progress=interrupting, on_interrupt="detach")
    found = client.attach(caught.value.job).wait(progress=False)
    np.testing.assert_allclose(list(found.coefficients.values()), list(model.coefficients.values()), atol=1e-3)


def test_progress_is_shown_as_on_the_command_line(client: BusinessClient, capfd: pytest.CaptureFixture[str]) -> None:
    client.fit(dataset="labels", **{**JOB, "max_iterations": 1})
    assert "training, iteration 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"label": "gone"}, "gone"),
        ({"label": "y"}, "add an encoding"),
        ({"label": "y", "preparation": {"sex": [{"step": "one_hot", "colour": 1}]}}, "column 'sex'.*colour"),
        ({"label": "y", "preparation": {"gone": [Impute(by="mean")]}}, "column 'gone'"),
        ({"label": "y", "columns": ["age"], "provider": "nobody/x"}, "nobody"),
        ({"label": "y", "columns": ["age"], "colour": "red"}, "colour"),
        ({"label": "y", "identifier": "uid"}, "uid"),
    ],
)
def test_what_the_daemon_refuses_says_why(client: BusinessClient, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(ControlError, match=named):
        client.submit(tables()[0], **{**JOB, **asked})


def test_a_partner_s_refusal_ends_the_job_with_its_reason(client: BusinessClient) -> None:
    with pytest.raises(JobEnded, match="reproducible") as caught:
        client.fit(dataset="labels", progress=False, **{**JOB, "marks": [*JOB["marks"], "reproducible"]})
    assert (caught.value.outcome, caught.value.code) == ("declined", "mark_refused")


def test_frames_do_not_stay_in_the_data_directory(client: BusinessClient, model: TrainedModel) -> None:
    assert model.model
    assert list((client.data_directory / "frames").iterdir()) == []


def test_a_data_set_may_not_come_in_the_name_of_one_of_party_toml(client: BusinessClient) -> None:
    given = {"name": "labels", "source": "x.csv", "id": "id"}
    job = {"task": "logistic", "partners": client.provider, "dataset": "labels"}
    with pytest.raises(ControlError, match=r"no data set of party\.toml has"):
        client.ask("submit", job=job, table=given)


def test_a_client_without_a_daemon_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(ControlUnreachable, match="warren serve"):
        BusinessClient(tmp_path).fit(dataset="labels")
    with pytest.raises(ConfigError, match="no such file"):
        BusinessClient(tmp_path / "party.toml")
    with pytest.raises(ValueError, match="a frame, or the name"):
        BusinessClient(tmp_path).submit()
