"""Evaluations of a model as files: JSON for programs, CSV for tables, PNG for people."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.table import Table

from learning.evaluation.part_figures import Evaluation, as_builtins, by_part

if TYPE_CHECKING:
    from services.results.plots import Part

Vector = NDArray[np.float64]
PARTS = ("training", "validation", "test")


@dataclass(frozen=True, slots=True)
class Scored:
    """`scores.csv` of a job: rows by part, labels, scores and weights (n,)."""

    parts: dict[str, NDArray[np.int64]]
    label: Vector
    score: Vector
    weight: Vector | None

    @property
    def curves(self) -> "dict[str, Part]":
        """Labels, scores and weights of every part."""
        return {
            part: (self.label[rows], self.score[rows], None if self.weight is None else self.weight[rows])
            for part, rows in self.parts.items()
        }

    def evaluations(
        self, task: str, *, rate: float | None = None, given: float | None = None, power: float = 0.0
    ) -> dict[str, Evaluation]:
        """All figures of every part. Raises ValueError for a rate or threshold that is none."""
        return by_part(task, self.label, self.score, self.parts, self.weight, rate=rate, given=given, power=power)


def read_scores(path: Path) -> Scored:
    """Read scores.csv. Raises FileNotFoundError, and ValueError for another file."""
    try:
        table = pl.read_csv(path)
        if lacking := [name for name in ("label", "score", "part") if name not in table.columns]:
            raise ValueError(f"this is no scores.csv: there is no column {', '.join(lacking)}")
        label, score = (table[name].cast(pl.Float64).to_numpy() for name in ("label", "score"))
        weight = table["weight"].cast(pl.Float64).to_numpy() if "weight" in table.columns else None
        named = table["part"].to_numpy()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"this is no scores.csv: {type(error).__name__}") from None
    parts = {part: np.flatnonzero(named == part) for part in PARTS if (named == part).any()}
    if not parts or not np.isfinite(score).all() or not np.isfinite(label).all():
        raise ValueError("this is no scores.csv: no rows of a part, or scores and labels that are not finite")
    return Scored(parts, label, score, weight)


def tables(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """For people: the figures of all parts beside each other, and the confusion at every threshold."""
    figures = Table(title="Figures", title_justify="left", box=None)
    figures.add_column("")
    for part, evaluation in evaluations.items():
        figures.add_column(f"{part} ({evaluation.rows:,} rows)", justify="right")
    for name in next(iter(evaluations.values())).metrics:
        figures.add_row(name, *(f"{evaluation.metrics[name]:.5f}" for evaluation in evaluations.values()))
    tests = [evaluation.hosmer_lemeshow for evaluation in evaluations.values()]
    if all(test is not None for test in tests):
        figures.add_row("Hosmer-Lemeshow p", *(f"{test.p:.4f}" for test in tests if test is not None))
    confusion = Table(title="Predicted at thresholds", title_justify="left", box=None)
    for name in ("part", "choice", "threshold", "precision", "recall", "specificity", "predicted"):
        confusion.add_column(name, justify="left" if name in ("part", "choice") else "right")
    for part, evaluation in evaluations.items():
        for one in evaluation.confusion:
            shares = (one.threshold, one.precision, one.recall, one.specificity, one.predicted_rate)
            confusion.add_row(part, one.choice, *(f"{value:.4f}" for value in shares))
    return [figures, confusion] if confusion.rows else [figures]


def write(directory: Path, evaluations: Mapping[str, Evaluation], parts: "Mapping[str, Part]") -> None:
    """Write metrics.json, the CSV files and the plots of all parts into `directory`, which is made if need be.

    metrics.csv has one figure a line; lift.csv, calibration.csv and, for a logistic model, confusion.csv a line
    for each bin or threshold. `parts`: labels, scores and weights, for the curves.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = as_builtins(evaluations)
    (directory / "metrics.json").write_bytes(msgspec.json.format(msgspec.json.encode({"parts": found}), indent=2))
    figures = (
        {"part": part, "metric": name, "value": value}
        for part, content in found.items()
        for name, value in {"rows": content["rows"], **content["metrics"], **_tests(content)}.items()
    )
    _write_csv(directory / "metrics.csv", figures)
    for name in ("lift", "calibration", "confusion"):
        lines = [{"part": part, **line} for part, content in found.items() for line in content[name]]
        if lines:
            _write_csv(directory / f"{name}.csv", lines)
    # matplotlib takes 35 MB and a second: only who draws pays for it.
    from services.results.plots import plot_calibration, plot_ks, plot_lift, plot_roc

    plot_lift(directory / "lift.png", evaluations)
    plot_calibration(directory / "calibration.png", evaluations)
    if any(evaluation.confusion for evaluation in evaluations.values()):
        plot_roc(directory / "roc.png", parts)
        plot_ks(directory / "ks.png", parts)


def _tests(content: dict[str, Any]) -> dict[str, Any]:
    test = content["hosmer_lemeshow"]
    return {} if test is None else {f"hosmer_lemeshow_{name}": value for name, value in test.items()}


def _write_csv(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] | None = None
        for line in lines:
            if writer is None:
                writer = csv.DictWriter(file, list(line))
                writer.writeheader()
            writer.writerow(line)
