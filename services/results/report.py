"""What a finished job of all parties on one machine looks like, for programs and in files.

Metrics and the comparison with the joined table need all parties' tables: only a demonstration or a test ever
has them in one place.
"""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.columns.preparation import FittedPreparation
from learning.columns.preparing import apply
from learning.evaluation import metrics, part_figures
from learning.links.family import Family
from learning.links.targets import Targets
from services.models.version import target_of
from services.results import cautions, evaluation_files, inference_files, reference
from services.results.product_count import Products, products_per_row
from services.tables.table import Table

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Finished:
    """Everything a report speaks of. Bytes are those of the parties' result files.

    `further`: table and parameters.json of each provider after the first, by name. `scored`: scores.csv.
    `histories`: history.json of each party, where it is not the same for all. `release_noise` and `unit` (of
    a residual, in units of the labels): of the contract.
    """

    business: Table
    provider: Table
    parameters_business: bytes
    parameters_provider: bytes
    history: bytes
    seconds: dict[str, float]
    core_seconds: float
    bytes_business_to_provider: int
    bytes_provider_to_business: int
    key_bits: int
    tolerance: float
    backend: str
    transport: str
    inference: dict[str, bytes] = field(default_factory=dict)
    further: dict[str, tuple[Table, bytes]] = field(default_factory=dict)
    scored: bytes = b""
    histories: dict[str, bytes] = field(default_factory=dict)
    release_noise: float = 0.0
    unit: float = 1.0

    @cached_property
    def of_business(self) -> dict[str, Any]:
        """The business's parameters.json."""
        found: dict[str, Any] = json.loads(self.parameters_business)
        return found

    @cached_property
    def of_provider(self) -> dict[str, Any]:
        """The provider's parameters.json."""
        found: dict[str, Any] = json.loads(self.parameters_provider)
        return found

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """What both parties know of each iteration."""
        found: list[dict[str, Any]] = json.loads(self.history)["iterations"]
        return found

    @cached_property
    def joined(self) -> tuple[Vector, Vector, Vector]:
        """(business columns, columns of all providers, labels) of the rows that all parties have.

        Columns are in the order of the parameter files. Raises ValueError for one that its table does not have.
        """
        mine, *theirs = self._places
        business = _columns(self.business, self.of_business, mine)
        provided = [
            _columns(table, document, rows) for (table, document), rows in zip(self.providers, theirs, strict=True)
        ]
        return business, np.hstack(provided), self.targets.label

    @cached_property
    def providers(self) -> list[tuple[Table, dict[str, Any]]]:
        """Table and parameters.json of every provider, in their order."""
        further = [(table, json.loads(parameters)) for table, parameters in self.further.values()]
        return [(self.provider, self.of_provider), *further]

    @cached_property
    def _places(self) -> list[NDArray[np.int64]]:
        """The common rows in the business's table and in that of each provider."""
        places = [{name: row for row, name in enumerate(table.identifiers)} for table, _ in self.providers]
        found = [
            (row, *(where[name] for where in places))
            for row, name in enumerate(self.business.identifiers)
            if all(name in where for where in places)
        ]
        return [np.array(rows) for rows in zip(*found, strict=True)]

    @cached_property
    def targets(self) -> Targets:
        """Labels, weights and offsets of the common rows."""
        assert self.business.label is not None
        return Targets(self.business.label, self.business.weight, self.business.offset).rows(self._places[0])

    @cached_property
    def scores(self) -> Vector:
        """The joint model's score of every common row, on the grid of training."""
        business, provided, _ = self.joined
        total = target_of(self.of_business).scores(business) + self.targets.offsets
        first = 0
        for _, document in self.providers:
            target, columns = target_of(document), len(document["coefficients"])
            total = total + target.scores(provided[:, first : first + columns])
            first += columns
        return total

    @property
    def _documents(self) -> list[dict[str, Any]]:
        """parameters.json of all parties, the business's first."""
        return [self.of_business, *(document for _, document in self.providers)]

    @property
    def _coefficients(self) -> Vector:
        return np.array([value for document in self._documents for value in document["coefficients"].values()])

    @cached_property
    def noise(self) -> float:
        """What the release noise of one gradient moves the coefficients by, relative; NaN under an l1 penalty."""
        if self.of_business.get("l1"):
            return math.nan
        business, provided, _ = self.joined
        rows = self.parts[part_figures.TRAINING]
        values = np.hstack([business, provided])[rows]
        deviations = cautions.deviations_of(values, self.unit, self.release_noise)
        if self.further:
            # Providers before the last get the shares of two, each with noise of its own.
            last = len(self.providers[-1][1]["coefficients"])
            deviations[1 + business.shape[1] : len(deviations) - last] *= math.sqrt(2.0)
        return cautions.coefficient_noise(
            self.of_business["task"],
            self.power,
            values,
            self.targets.rows(rows),
            self.scores[rows],
            self._coefficients,
            l2=self.of_business["l2"],
            deviations=deviations,
        )

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What is to be known before the model is believed."""
        rows = self.parts[part_figures.TRAINING]
        business, provided, _ = self.joined
        names = [name for document in self._documents for name in document["coefficients"]]
        return (
            *cautions.of_training(self.of_business, json.loads(self.history)),
            *cautions.of_columns(names, np.hstack([business, provided])[rows]),
            *cautions.of_noise(self.noise),
        )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The task's metrics of the joint model on the training rows."""
        rows = self.parts[part_figures.TRAINING]
        targets = self.targets.rows(rows)
        return metrics.evaluate(self.of_business["task"], targets.label, self.scores[rows], self.power, targets.weight)

    @property
    def power(self) -> float:
        """That of a Tweedie model."""
        return float(self.of_business.get("tweedie_power", 0.0))

    @cached_property
    def evaluations(self) -> dict[str, part_figures.Evaluation]:
        """All figures of the joint model by part of the rows."""
        own = self.of_business["task"]
        return part_figures.by_part(own, self.joined[2], self.scores, self.parts, self.targets.weight, power=self.power)

    @cached_property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The common rows of every part, as `scored` names them; all of them for training where it is empty."""
        if not self.scored:
            return {part_figures.TRAINING: np.arange(len(self.joined[2]))}
        scored = pl.read_csv(self.scored, schema_overrides={"id": pl.String})
        part_of = dict(scored.select("id", "part").iter_rows())
        named = np.array([part_of.get(self.business.identifiers[row], "") for row in self._places[0]])
        found = {part: np.flatnonzero(named == part) for part in (part_figures.TRAINING, "validation", "test")}
        return {part: rows for part, rows in found.items() if len(rows)}

    @property
    def ciphertexts_per_row(self) -> int:
        """Link-term ciphertexts that the business encrypted for every row, over all iterations."""
        return round(math.fsum((fact["terms"] + 1) * self._share(fact) for fact in self.facts))

    def _share(self, fact: dict[str, Any]) -> float:
        """The share of the training rows that an iteration was over."""
        return float(fact.get("rows", 0) or self.of_business["rows"]) / float(self.of_business["rows"])

    @cached_property
    def validation(self) -> dict[str, Any]:
        """What a cross-validation found; empty where there was none."""
        found: dict[str, Any] = json.loads(self.history).get("validation", {})
        return found

    @cached_property
    def stopping(self) -> dict[str, Any]:
        """How the business's metric went in a job that stops early; empty where it does not."""
        found: dict[str, Any] = json.loads(self.history).get("stopping", {})
        return found

    @property
    def products_per_row(self) -> Products:
        """Modular products of both parties for every row, over all iterations."""
        own = self.of_business
        job: dict[str, Any] = {
            "rows": own["rows"],
            "columns": (
                len(own["coefficients"]) + 1,
                sum(len(document["coefficients"]) for _, document in self.providers),
            ),
            "key_bits": self.key_bits,
            "residual_bound": Family(
                task=own["task"], label_bound=float(np.abs(self.joined[2]).max()), power=self.power
            ).residual_bound,
            "back_end": self.backend,
        }
        once = products_per_row([], **job)
        short, long = once
        for fact in self.facts:
            if fact["terms"] >= 0:
                one, share = products_per_row([fact["terms"]], **job), self._share(fact)
                short, long = short + share * (one.short - once.short), long + share * (one.long - once.long)
        return Products(short, long)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Against the optimum on the joined table. `distance`: relative L2 of coefficients, standardised columns."""

    distance: float
    metrics: dict[str, float]
    coefficients: Vector
    intercept: float


def _columns(table: Table, document: dict[str, Any], rows: NDArray[np.int64]) -> Vector:
    """The columns of a parameters.json, in its order, prepared as the model says."""
    if "preparation" in document:
        return apply(msgspec.convert(document["preparation"], FittedPreparation), table.source.take(rows))
    return table.values[:, [table.columns.index(name) for name in document["coefficients"]]][rows]


def compare(finished: Finished) -> Comparison:
    """Fit the joined table and compare."""
    business, provider, _ = finished.joined
    rows = finished.parts[part_figures.TRAINING]
    values = np.hstack([business, provider])[rows]
    task = finished.of_business["task"]
    targets = finished.targets.rows(rows)
    label = targets.label
    best = reference.fit(
        task,
        values,
        label,
        finished.of_business["l2"],
        power=finished.power,
        l1=finished.of_business.get("l1", 0.0),
        weight=targets.weight,
        offset=targets.offset,
    )
    scale = values.std(axis=0)
    documents = [finished.of_business, *(document for _, document in finished.providers)]
    own = np.array([value for document in documents for value in document["coefficients"].values()])
    distance = np.linalg.norm((own - best.coefficients) * scale) / np.linalg.norm(best.coefficients * scale)
    scores = values @ best.coefficients + best.intercept + targets.offsets
    return Comparison(
        distance=float(distance),
        metrics=metrics.evaluate(task, label, scores, finished.power, targets.weight),
        coefficients=best.coefficients,
        intercept=best.intercept,
    )


def json_object(finished: Finished) -> dict[str, Any]:
    """The object of `warren local --json`."""
    own = finished.of_business
    return {
        "task": own["task"],
        "rows": own["rows"],
        "features": {
            "business": len(own["coefficients"]),
            "provider": len(finished.of_provider["coefficients"]),
            **{
                name: len(document["coefficients"])
                for name, (_, document) in zip(finished.further, finished.providers[1:], strict=True)
            },
        },
        "iterations": own["iterations"],
        "converged": own["converged"],
        "seconds": {
            stage: round(finished.seconds[stage], 3) for stage in ("total", "align", "encrypt_features", "train")
        },
        "core_seconds": round(finished.core_seconds, 3),
        "ciphertexts_per_row": finished.ciphertexts_per_row,
        "bytes": {
            "business_to_provider": finished.bytes_business_to_provider,
            "provider_to_business": finished.bytes_provider_to_business,
        },
        # JSON has no NaN, which is the AUC of a single class.
        "metrics": {name: value if math.isfinite(value) else None for name, value in finished.metrics.items()},
        "coefficient_noise": finished.noise if math.isfinite(finished.noise) else None,
        "cautions": list(finished.cautions),
        "key_bits": finished.key_bits,
        "backend": finished.backend,
        "transport": finished.transport,
        **({"validation": finished.validation} if finished.validation else {}),
        **({"stopping": finished.stopping} if finished.stopping else {}),
    }


def write_outputs(directory: Path, finished: Finished) -> None:
    """Per party parameters.json, history.json and, if asked for, its standard errors (`inference_files`).

    For all the evaluation (`evaluation_files`), convergence.png and, of a cross-validation, validation.png; of a job
    that stops early, stopping.png.
    """
    for who, parameters in (
        ("business", finished.parameters_business),
        ("provider", finished.parameters_provider),
        *((name, parameters) for name, (_, parameters) in finished.further.items()),
    ):
        (directory / who).mkdir(parents=True, exist_ok=True)
        (directory / who / "parameters.json").write_bytes(parameters)
        (directory / who / "history.json").write_bytes(finished.histories.get(who, finished.history))
        if who in finished.inference:
            inference_files.write(directory / who, finished.inference[who])
    # matplotlib takes 35 MB and a second: only who draws pays for it.
    from services.results.plots import plot_convergence, plot_stopping, plot_validation

    plot_convergence(directory / "convergence.png", finished.facts, finished.tolerance)
    if finished.validation:
        plot_validation(directory / "validation.png", finished.validation)
    if finished.stopping:
        plot_stopping(directory / "stopping.png", finished.stopping)
    label, scores, weight = finished.joined[2], finished.scores, finished.targets.weight
    curves = {
        part: (label[rows], scores[rows], None if weight is None else weight[rows])
        for part, rows in finished.parts.items()
    }
    evaluation_files.write(directory, finished.evaluations, curves)
