"""What the business knows of each row beside its features: label, weight, and a score that the row begins with.

Weights are scaled to mean 1 over the training rows, so that the mean loss, the penalties and the curvature keep
their meaning: the loss is `sum_i w_i loss_i / sum_i w_i`. An exposure e is the offset `log e` of a log link.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.reductions import rounded
from learning.links.family import LOG_LINKS, RATIO_HEADROOM, Family, LinkError

Vector = NDArray[np.float64]

MARGIN: Final = 1.25
"""What is declared leaves so much room for the aligned rows to differ from the table."""

SMALLEST: Final = 2.0**-60


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Vectors (n,); None: all weights 1, all offsets 0."""

    label: Vector
    weight: Vector | None = None
    offset: Vector | None = None

    def rows(self, chosen: slice | NDArray[np.int64]) -> "Targets":
        """Those of some rows."""
        return Targets(
            self.label[chosen],
            None if self.weight is None else self.weight[chosen],
            None if self.offset is None else self.offset[chosen],
        )

    def normalised(self, rows: int) -> "Targets":
        """With weights of mean 1 over the first `rows` rows. Raises LinkError (weight_unfit)."""
        if self.weight is None:
            return self
        total = math.fsum(self.weight[:rows].tolist())
        if not 0.0 < total < math.inf or float(self.weight.min()) < 0.0:
            raise LinkError("weight_unfit", "weights of the training rows are 0 or more, and not all 0")
        return Targets(self.label, self.weight * (rows / total), self.offset)

    @property
    def weights(self) -> Vector:
        """Weights (n,)."""
        return np.ones(len(self.label)) if self.weight is None else self.weight

    @property
    def offsets(self) -> Vector:
        """Offsets (n,)."""
        return np.zeros(len(self.label)) if self.offset is None else self.offset

    def to_bytes(self) -> bytes:
        """Little-endian float64, a row's label, then its weight and offset where there are any."""
        columns = [part for part in (self.label, self.weight, self.offset) if part is not None]
        return np.ascontiguousarray(np.column_stack(columns), dtype="<f8").tobytes()


def targets_of(data: bytes, family: Family) -> Targets:
    """The inverse of `Targets.to_bytes`."""
    table = np.frombuffer(data, dtype="<f8").reshape(-1, 1 + family.weighted + family.shifted)
    return Targets(
        np.ascontiguousarray(table[:, 0]),
        np.ascontiguousarray(table[:, 1]) if family.weighted else None,
        np.ascontiguousarray(table[:, -1]) if family.shifted else None,
    )


def start_score(family: Family, targets: Targets) -> float:
    """The score that every row begins with: 0 unless the family starts at the mean label, as exposures have it.

    A log link starts where its residuals sum to zero. Labels and weights by learning.links.targets: of training rows.
    """
    if not family.starts_at_mean:
        return 0.0
    power, offset = family.variance_power, targets.offsets
    labels = math.fsum((targets.weights * targets.label * np.exp((1.0 - power) * offset)).tolist())
    sizes = math.fsum((targets.weights * np.exp((2.0 - power) * offset)).tolist())
    if not (labels > 0.0 and math.isfinite(labels) and 0.0 < sizes < math.inf):
        raise LinkError("label_unfit", "the mean label is not above 0: a log link has nothing to start from")
    return rounded(math.log(labels / sizes))


def start_records(family: Family, base: float, targets: Targets) -> tuple[Vector, float]:
    """(weighted residuals (n,), mean curvature) of a log link before any step, in true units."""
    power, score = family.variance_power, base + targets.offsets
    up, down = np.exp((2.0 - power) * score), targets.label * np.exp((1.0 - power) * score)
    curvature = targets.weights * ((2.0 - power) * up + (power - 1.0) * down)
    return targets.weights * (up - down), math.fsum(curvature.tolist()) / len(curvature)


def declared_units(task: str, power: float, targets: Targets) -> tuple[float, float]:
    """(residual_unit, curvature) that a contract declares: powers of two; (1, 0) where nothing is to be said."""
    targets = targets.normalised(len(targets.label))
    if task not in LOG_LINKS:
        largest = float(targets.weights.max())
        return (1.0 if targets.weight is None else _above(largest)), 0.0
    family = Family(task=task, power=power, curvature=1.0)
    records, curvature = start_records(family, start_score(family, targets), targets)
    return _above(float(np.abs(records).max(initial=0.0))), 2.0 ** round(math.log2(curvature))


def declared_units_of_counts(targets: Targets, label_bound: float) -> tuple[float, float]:
    """(residual_unit, curvature) of a Poisson model whose rows have neither weights nor exposures.

    The unit is one count, so that the release noise is a share of one; or, for counts beyond 16, that power of two of
    which the largest that the contract allows is 16 times as large. The curvature is twice the mean rate: it grows with
    the rates, and the first step from the mean, where they are all alike, would otherwise go too far.
    """
    _, curvature = declared_units("poisson", 0.0, targets)
    return max(1.0, 2.0 ** math.ceil(math.log2(label_bound / RATIO_HEADROOM))), 2.0 * curvature


def _above(value: float) -> float:
    return 2.0 ** math.ceil(math.log2(MARGIN * max(value, SMALLEST)))


def check_start(family: Family, base: float, targets: Targets) -> None:
    """Raises LinkError (label_unfit, weight_unfit) when a record of the rows is larger than the contract declares."""
    room = 1.0
    if family.starts_at_mean:
        records, _ = start_records(family, base, targets)
        if family.task == "poisson" and not (family.weighted or family.shifted):
            room = RATIO_HEADROOM  # units of counts (`declared_units_of_counts`)
        code, what = "label_unfit", "a label of the aligned rows is farther from their mean"
    elif family.weighted:
        records = targets.weights
        code, what = "weight_unfit", "a weight of the aligned rows is farther above their mean"
    else:
        return
    if float(np.abs(records).max(initial=0.0)) > room * family.residual_unit:
        raise LinkError(
            code,
            f"{what} than residual_unit {family.residual_unit:g} allows: name a larger one in the job (a power of two)",
        )


def told(family: Family, base: float, targets: Targets) -> tuple[Vector, float]:
    """(values (n,), unit) that the partner's first gradient sums over rows: what the release rules for labels judge.

    Without weights and offsets the labels themselves, in units in which a label makes a residual of 1.
    """
    if targets.weight is None and targets.offset is None:
        return targets.label, _label_unit(family, base)
    if family.task in LOG_LINKS:
        return start_records(family, base, targets)[0], family.residual_unit
    if family.task == "linear":
        return targets.weights * (targets.offsets - targets.label), family.residual_unit * family.label_bound
    start = 1.0 / (1.0 + np.exp(-np.clip(targets.offsets, -700.0, 700.0)))
    return targets.weights * (start - targets.label), family.residual_unit


def _label_unit(family: Family, base: float) -> float:
    if family.task == "linear":
        return family.label_bound
    if family.task in LOG_LINKS:
        return family.residual_unit * math.exp((family.variance_power - 1.0) * base)
    return family.residual_unit
