"""What a finished job of several classes looks like, for programs and people: all parts are on one machine."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Shown

from learning.columns.preparation import FittedPreparation
from learning.columns.preparing import apply
from learning.evaluation import multiclass, part_figures
from learning.evaluation.metrics import log_loss, weighted_mean
from learning.links.targets import Targets
from services.daemon.local import BUSINESS
from services.daemon.local_job import LocalResult
from services.models.version import columns_of, targets_of
from services.party.plain_text import plain
from services.results import reference
from services.results.summary import stopping_table
from services.tables.table import Table

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class against the rest. `distance`: of coefficients from the joined table's optimum, relative L2."""

    name: str
    rows: int
    log_loss: float
    log_loss_optimum: float
    distance: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The figures of a job. `accuracy`: share of the weight whose class has the largest score.

    `log_loss`, `macro_auc`, `confusion`: see `learning.evaluation.multiclass`. All of training rows; `parts`: figures
    of every part, where the rows were divided. `stopping`: the metric by iteration, of a job that stops early.
    """

    rows: int
    iterations: int
    converged: bool
    accuracy: float
    accuracy_optimum: float
    log_loss: float
    macro_auc: float
    confusion: tuple[tuple[float, ...], ...]
    classes: tuple[ClassFigures, ...]
    ciphertexts_per_row: int
    parts: dict[str, Any]
    stopping: dict[str, Any]

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": "multiclass",
            "rows": self.rows,
            "iterations": self.iterations,
            "converged": self.converged,
            "accuracy": self.accuracy,
            "accuracy_optimum": self.accuracy_optimum,
            "log_loss": self.log_loss,
            "macro_auc": self.macro_auc if math.isfinite(self.macro_auc) else None,
            "confusion": self.confusion,
            "ciphertexts_per_row": self.ciphertexts_per_row,
            **({"parts": self.parts} if self.parts else {}),
            **({"stopping": self.stopping} if self.stopping else {}),
            "classes": {
                one.name: {
                    "rows": one.rows,
                    "log_loss": one.log_loss,
                    "log_loss_optimum": one.log_loss_optimum,
                    "distance": one.distance,
                }
                for one in self.classes
            },
        }


def finish(result: LocalResult, tables: Mapping[str, Table]) -> Finished:
    """Score the training rows with all parties' parts, and with the optimum of the joined table.

    `tables`: of all parties, by role, the business's first.
    """
    business = tables[BUSINESS]
    assert business.label is not None
    documents = {role: json.loads(result.parameters[role]) for role in tables}
    own, rows = documents[BUSINESS], _training_rows(result, tables)
    blocks = [_columns(table, documents[role], rows[role]) for role, table in tables.items()]
    targets = Targets(business.label, business.weight).rows(rows[BUSINESS])
    values = np.hstack(blocks)
    scale = values.std(axis=0)
    scores, best_scores, figures = [], [], []
    for place, name in enumerate(business.classes):
        parts = [targets_of(document)[place] for document in documents.values()]
        label = (targets.label == place).astype(np.float64)
        best = reference.fit("logistic", values, label, own["l2"], weight=targets.weight)
        joint = np.array([value for part in parts for value in part.coefficients])
        scores.append(np.sum([part.scores(block) for part, block in zip(parts, blocks, strict=True)], axis=0))
        best_scores.append(values @ best.coefficients + best.intercept)
        off = np.linalg.norm((joint - best.coefficients) * scale) / np.linalg.norm(best.coefficients * scale)
        figures.append(
            ClassFigures(
                name=name,
                rows=int(label.sum()),
                log_loss=log_loss(label, scores[-1], targets.weight),
                log_loss_optimum=log_loss(label, best_scores[-1], targets.weight),
                distance=float(off),
            )
        )
    history = json.loads(result.history)
    found = multiclass.evaluate(targets.label.astype(np.int64), np.array(scores).T, targets.weight)
    return Finished(
        rows=own["rows"],
        iterations=own["iterations"],
        converged=own["converged"],
        accuracy=found.accuracy,
        accuracy_optimum=_accuracy(best_scores, targets),
        log_loss=found.log_loss,
        macro_auc=found.macro_auc,
        confusion=found.confusion,
        classes=tuple(figures),
        # Classes whose loop has ended send none, so it may be fewer.
        ciphertexts_per_row=len(business.classes) * sum(fact["terms"] + 1 for fact in history["iterations"]),
        parts=json.loads(result.metrics)["parts"] if result.metrics else {},
        stopping=history.get("stopping", {}),
    )


def _training_rows(result: LocalResult, tables: Mapping[str, Table]) -> dict[str, NDArray[np.int64]]:
    """Of each party's table, the rows that all parties have and that were trained on, in the business's order."""
    places = {role: {name: row for row, name in enumerate(table.identifiers)} for role, table in tables.items()}
    names = [name for name in tables[BUSINESS].identifiers if all(name in known for known in places.values())]
    if result.scored:
        frame = pl.read_csv(result.scored, schema_overrides={"id": pl.String})
        training = set(frame.filter(pl.col("part") == part_figures.TRAINING)["id"])
        names = [name for name in names if name in training]
    return {role: np.array([known[name] for name in names]) for role, known in places.items()}


def _columns(table: Table, document: dict[str, Any], rows: NDArray[np.int64]) -> Vector:
    if "preparation" in document:
        return apply(msgspec.convert(document["preparation"], FittedPreparation), table.source.take(rows))
    return table.values[:, [table.columns.index(name) for name in columns_of(document)]][rows]


def _accuracy(scores: Sequence[Vector], targets: Targets) -> float:
    hits = (np.argmax(np.array(scores), axis=0) == targets.label).astype(np.float64)
    return weighted_mean(hits, targets.weight)


def show(finished: Finished, out: Console) -> None:
    """Print them."""
    ended = "converged" if finished.converged else "not converged"
    title = f"{len(finished.classes)} classes: {finished.rows:,} rows, {finished.iterations} iterations, {ended}"
    table = Shown("class", "rows", "log loss", "joined table", "coefficients off", title=title, box=None)
    for one in finished.classes:
        away = f"{one.distance:.2%}" if math.isfinite(one.distance) else ""
        table.add_row(plain(one.name), str(one.rows), f"{one.log_loss:.5f}", f"{one.log_loss_optimum:.5f}", away)
    out.print(table)
    confusion = Shown("class / likeliest", box=None)
    for one in finished.classes:
        confusion.add_column(plain(one.name), justify="right")
    for one, row in zip(finished.classes, finished.confusion, strict=True):
        confusion.add_row(plain(one.name), *(f"{weight:g}" for weight in row))
    out.print(confusion)
    if finished.parts:
        figures = Shown("figures", *finished.parts, box=None)
        for name in next(iter(finished.parts.values()))["metrics"]:
            values = [content["metrics"][name] for content in finished.parts.values()]
            figures.add_row(name, *("" if value is None else f"{value:.5f}" for value in values))
        out.print(figures)
    if finished.stopping:
        out.print(stopping_table(finished.stopping))
    out.print(f"log loss {finished.log_loss:.5f}, macro AUC {finished.macro_auc:.5f}")
    out.print(f"accuracy {finished.accuracy:.5f}, of the joined table's optimum {finished.accuracy_optimum:.5f}")


def write(directory: Path, result: LocalResult) -> None:
    """Per party parameters.json and history.json; metrics.json where parts were evaluated."""
    for role in result.parameters:
        (directory / role).mkdir(parents=True, exist_ok=True)
        (directory / role / "parameters.json").write_bytes(result.parameters[role])
        (directory / role / "history.json").write_bytes(result.histories.get(role, result.history))
    if result.metrics:
        (directory / "metrics.json").write_bytes(result.metrics)
