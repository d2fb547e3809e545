"""Where the scores of a log link begin, and how large the records are there: at the mean label, all weights zero.

The business starts its scores at the log of the mean label, so that residuals sum to zero at the start and no step
is spent on the level. What the contract declares of the records there, their largest size and the mean curvature, is
rounded to powers of two: the provider learns it from the loop anyway, and no more exactly than the loop needs it.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learning.family import LOG_LINKS, Family, LinkError
from learning.history import rounded
from learning.log_links import start_records

Vector = NDArray[np.float64]

SMALLEST: Final = 2.0**-60
MARGIN: Final = 1.25
"""What is declared leaves so much room for the mean of the aligned rows to differ from that of the table."""


def start_score(family: Family, labels: Vector) -> float:
    """The score that every row begins with: 0 unless the family starts at the mean."""
    if not family.starts_at_mean:
        return 0.0
    mean = math.fsum(labels.tolist()) / len(labels)
    if not mean > 0.0:
        raise LinkError("label_unfit", "the mean label is not above 0: a log link has nothing to start from")
    return rounded(math.log(mean))


def declared_units(task: str, power: float, labels: Vector) -> tuple[float, float]:
    """(residual_unit, curvature) that the contract of a log link declares for a table's labels."""
    family = Family(task=task, power=power, curvature=1.0)
    base = start_score(family, labels)
    records, curvature = start_records(family, base, labels)
    largest = float(np.abs(records).max(initial=0.0))
    return 2.0 ** math.ceil(math.log2(MARGIN * max(largest, SMALLEST))), 2.0 ** round(math.log2(curvature))


def check_start(family: Family, base: float, labels: Vector) -> None:
    """Raises LinkError (code label_unfit) when a record of the aligned rows is larger than the contract declares."""
    if not family.starts_at_mean:
        return
    records, _ = start_records(family, base, labels)
    if float(np.abs(records).max(initial=0.0)) > family.residual_unit:
        raise LinkError(
            "label_unfit",
            f"a label of the aligned rows is farther from their mean than residual_unit {family.residual_unit:g} "
            "allows: name a larger one in the job (a power of two)",
        )


def label_unit(family: Family, base: float) -> float:
    """How far labels are apart that give residuals of 1 at the start."""
    if family.task == "linear":
        return family.label_bound
    if family.task in LOG_LINKS:
        return family.residual_unit * math.exp((family.variance_power - 1.0) * base)
    return family.residual_unit
