"""An estimator in the manner of scikit-learn, which is not needed for it: parameters in, attributes out."""

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.links.family import MULTICLASS
from services.client.business import BusinessClient, Interrupt, Preparations, Progress
from services.client.frames import FrameError, polars_frame
from services.client.results import Scores, TrainedModel

Vector = NDArray[np.float64]


class NotTrained(AttributeError):
    """`fit` comes first."""


class JointEstimator:
    """A joint model with `fit` and `predict`. Rows are frames that have the identifier beside the features.

    After `fit`: `coef_` (own columns, as `feature_names_out_` names them after preparation), `intercept_`, `n_iter_`,
    `converged_`, `feature_names_in_` (the frame's), `model_` (a TrainedModel). The provider keeps its own coefficients.

    `predict` is a scoring job each time the rows differ from the last ones, counted against the partner's quota. Rows
    that the partner does not have are NaN.
    """

    def __init__(
        self,
        client: BusinessClient,
        *,
        provider: str | Sequence[str] = "",
        task: str = "logistic",
        identifier: str = "id",
        label: str = "",
        preparation: Preparations | None = None,
        l2: float = 1e-4,
        max_iterations: int = 30,
        job: dict[str, Any] | None = None,
        progress: Progress = True,
        on_interrupt: Interrupt = "cancel",
    ) -> None:
        """`job`: further keys of job.toml. The others are those of `BusinessClient.submit`."""
        self.client = client
        self.provider = provider
        self.task = task
        self.identifier = identifier
        self.label = label
        self.preparation = preparation
        self.l2 = l2
        self.max_iterations = max_iterations
        self.job = job
        self.progress = progress
        self.on_interrupt = on_interrupt

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def __repr__(self) -> str:
        return f"JointEstimator({self.client!r}, task={self.task!r}, provider={self.provider!r})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor."""
        del deep
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters. Raises ValueError for one that there is not."""
        for name, value in parameters.items():
            if name not in self._names():
                raise ValueError(f"{name!r} is no parameter; there are {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on a frame that has the label, or with labels `y` in the order of its rows. Raises FrameError."""
        frame, label = polars_frame(X, self.identifier), self.label
        names = tuple(name for name in frame.columns if name not in (self.identifier, label))
        if y is not None:
            label = label or "label"
            labels = polars_frame({label: y}, "").get_column(label)
            if len(labels) != frame.height:
                raise FrameError(f"{len(labels)} labels for {frame.height} rows")
            frame = frame.with_columns(labels)
        self.model_: TrainedModel = self.client.fit(
            frame,
            identifier=self.identifier,
            label=label,
            columns=names,
            preparation=self.preparation,
            provider=self.provider,
            task=self.task,
            l2=self.l2,
            max_iterations=self.max_iterations,
            progress=self.progress,
            on_interrupt=self.on_interrupt,
            **(self.job or {}),
        )
        self.feature_names_in_ = np.array(names, dtype=object)
        self.feature_names_out_ = np.array(list(self.model_.coefficients), dtype=object)
        parts = self.model_.parts
        coefficients = np.array([list(part.coefficients.values()) for part in parts])
        intercepts = np.array([part.intercept for part in parts])
        classified = self.task in ("logistic", "multiclass")
        self.coef_ = coefficients if classified else coefficients[0]
        self.intercept_ = intercepts if classified else self.model_.intercept
        self.n_iter_ = self.model_.iterations
        self.converged_ = self.model_.converged
        if classified:
            self.classes_ = np.array(list(self.model_.classes)) if self.model_.classes else np.array([0, 1])
        self._last: tuple[bytes, Scores] | None = None
        return self

    def score_rows(self, X: Any) -> Scores:
        """The scoring job of these rows, or the last one if it was of the same.

        Raises NotTrained, FrameError, JobEnded.
        """
        if not hasattr(self, "model_"):
            raise NotTrained("fit the estimator first")
        needed = [self.identifier, *self.feature_names_in_]
        frame = polars_frame(X, self.identifier)
        lacking = [name for name in needed if name not in frame.columns]
        if lacking:
            raise FrameError(f"column {lacking[0]!r}: there is no such column, and the model was fitted with it")
        frame = frame.select(needed)
        digest = hashlib.sha256(self.model_.model.encode() + _bytes_of(frame)).digest()
        if self._last is None or self._last[0] != digest:
            found = self.client.predict(
                self.model_,
                frame,
                identifier=self.identifier,
                progress=self.progress,
                on_interrupt=self.on_interrupt,
            )
            self._last = (digest, found)
        return self._last[1]

    def _column(self, X: Any, name: str) -> Vector:
        """A column of the scores in the order of the rows given (n,); NaN for rows that the partner does not have."""
        return self._joined(X)[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    def _joined(self, X: Any) -> pl.DataFrame:
        rows = polars_frame(X, self.identifier).select(pl.col(self.identifier).cast(pl.String).alias("id"))
        return rows.join(self.score_rows(X).frame, on="id", how="left", maintain_order="left")

    def decision_function(self, X: Any) -> Vector:
        """Scores of the joint model, before the inverse link: (n,), of several classes (n, classes)."""
        return self._of_classes(X, "score") if self.task == MULTICLASS else self._column(X, "score")

    def _of_classes(self, X: Any, what: str) -> Vector:
        return np.column_stack([self._column(X, f"{what}_{name}") for name in self.model_.classes])

    def predict_proba(self, X: Any) -> Vector:
        """Probabilities (n, 2) of classes 0 and 1, or of all of several. Raises AttributeError for other tasks."""
        if self.task == MULTICLASS:
            return self._of_classes(X, "probability")
        if self.task != "logistic":
            raise AttributeError(f"task {self.task} has no classes")
        positive = self._column(X, "prediction")
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> NDArray[Any]:
        """The expected label (n,), or the likeliest class; NaN for rows that the partner does not have.

        Of several classes their names, and None for those rows.
        """
        if self.task == MULTICLASS:
            return self._joined(X)["prediction"].to_numpy()
        predicted = self._column(X, "prediction")
        if self.task != "logistic":
            return predicted
        return np.where(np.isnan(predicted), np.nan, (predicted > 0.5).astype(np.float64))


def _bytes_of(frame: pl.DataFrame) -> bytes:
    """The same for the same frame in this process."""
    return repr(frame.schema).encode() + frame.hash_rows(seed=1).to_numpy().tobytes()
