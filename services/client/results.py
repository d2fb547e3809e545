"""What a job gives, typed. Own coefficients are in it and in no repr."""

from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from learning.columns.preparation import FittedPreparation
from services.models.store import ModelStore, ModelUnknown
from services.models.version import ModelDamaged
from services.results.cautions import of_training


class Iteration(msgspec.Struct, frozen=True, kw_only=True):
    """What both parties know of an iteration.

    Attributes:
        iteration: counted from 1.
        largest_business, largest_provider: largest entry of each party's whitened gradient, beyond release noise.
        terms: characters of the link expansion.
        bound: the interval of provider scores that it covers.
        step: length of the step.

    """

    iteration: int
    largest_business: float = 0.0
    largest_provider: float = 0.0
    terms: int = 0
    bound: float = 0.0
    step: float = 0.0


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """The metric of the validation rows by the model of an iteration."""

    iteration: int
    figure: float


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stopped early: `best` is the iteration whose model is kept. The figures are this party's alone."""

    metric: str
    patience: int
    every: int
    best: int
    evaluations: tuple[Evaluated, ...]


class OfClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class against the rest, in a model of several classes."""

    intercept: float
    coefficients: dict[str, float]


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The business's part of a joint model, and how its training went.

    Attributes:
        model: its identifier, which is the training job's, the same at every party.
        task, rows, l2: of the contract; `rows` are the aligned training rows.
        intercept, coefficients: of the own (prepared) columns on their original scale; of several classes those of
            the first.
        classes: these of every class by its name, for a model of several classes.
        preparation: what is done with raw columns first; None: nothing.
        iterations, converged, stop_reason, history: of the loop.
        validation: what a cross-validation found, as in `history.json`.
        stopping: the metric by iteration, of a job with a `stop_metric`.
        metrics: of the joint model, where this party knows any.
        seconds: of each stage.
        directory: where `parameters.json` and `history.json` are.
        cautions: what is to be known before the model is believed: not converged, score range reached, few rows.

    """

    model: str
    task: str
    rows: int
    l2: float
    intercept: float
    coefficients: dict[str, float]
    preparation: FittedPreparation | None
    iterations: int
    converged: bool
    stop_reason: str
    history: tuple[Iteration, ...]
    metrics: dict[str, float]
    seconds: dict[str, float]
    directory: Path
    classes: dict[str, OfClass] = {}
    validation: dict[str, Any] = {}
    stopping: Stopping | None = None
    cautions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        ended = "converged" if self.converged else "not converged"
        noted = f", {len(self.cautions)} cautions" if self.cautions else ""
        return (
            f"TrainedModel({self.model!r}, {self.task}, {self.rows} rows, {len(self.coefficients)} own columns, "
            f"{self.iterations} iterations, {ended}{noted})"
        )

    @property
    def parts(self) -> tuple[OfClass, ...]:
        """What there is for each class; one where there are no classes."""
        return tuple(self.classes.values()) or (OfClass(intercept=self.intercept, coefficients=self.coefficients),)

    def table(self) -> pl.DataFrame:
        """Own columns with their coefficients, a column for each class."""
        of = {name: one.coefficients for name, one in self.classes.items()} or {"coefficient": self.coefficients}
        found = pl.DataFrame({"column": list(self.coefficients)})
        return found.hstack([pl.Series(name, list(values.values())) for name, values in of.items()])


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What a scoring job gives.

    Attributes:
        frame: `id`, `score`, `prediction` of every row that the partner has, too, in the order of the rows given; of a
            model of several classes `prediction` (the likeliest), `probability_NAME` and `score_NAME` of each class.
        unmatched: identifiers that the partner does not have.
        job: the scoring job's identifier.

    """

    frame: pl.DataFrame
    unmatched: tuple[str, ...]
    job: str

    def __repr__(self) -> str:
        return f"Scores({self.job!r}, {self.frame.height} rows scored, {len(self.unmatched)} unmatched)"


def read_model(view: dict[str, Any], data_directory: Path) -> TrainedModel:
    """The model of a job that is done, from its view and result files."""
    directory = Path(view["results"])
    document: dict[str, Any] = msgspec.json.decode((directory / "parameters.json").read_bytes())
    history: dict[str, Any] = msgspec.json.decode((directory / "history.json").read_bytes())
    preparation = document.get("preparation")
    # The business's part has an intercept.
    classes = msgspec.convert(document.get("classes", {}), dict[str, OfClass])
    first = next(iter(classes.values())) if classes else msgspec.convert(document, OfClass)
    return TrainedModel(
        model=view["job"],
        task=document["task"],
        rows=document["rows"],
        l2=document["l2"],
        intercept=first.intercept,
        coefficients=first.coefficients,
        preparation=None if preparation is None else msgspec.convert(preparation, FittedPreparation),
        iterations=document["iterations"],
        converged=document["converged"],
        stop_reason=history["stop_reason"],
        history=tuple(msgspec.convert(fact, Iteration, strict=False) for fact in history["iterations"]),
        metrics=_metrics(data_directory, view["job"]),
        seconds=view["seconds"],
        directory=directory,
        classes=classes,
        validation=history.get("validation", {}),
        stopping=msgspec.convert(history.get("stopping"), Stopping | None),
        cautions=of_training(document, history),
    )


def _metrics(data_directory: Path, model: str) -> dict[str, float]:
    """Those that the model version has; none where it is not kept."""
    try:
        return ModelStore(data_directory).get(model).version.metrics
    except (ModelUnknown, ModelDamaged):
        return {}


def read_scores(view: dict[str, Any]) -> Scores:
    """The scores of a job that is done."""
    directory = Path(view["results"])
    frames = [
        pl.read_csv(directory / name, schema_overrides={"id": pl.String}) for name in ("scores.csv", "unmatched.csv")
    ]
    return Scores(frame=frames[0], unmatched=tuple(frames[1]["id"].to_list()), job=view["job"])
