"""A generalised linear model as a job's contract declares it: task, bounds, and the units that follow.

With a log link the residual is the score of the deviance, `r = mu^(2-p) - y mu^(1-p)`, `mu = exp(z)` (Tweedie 1984;
Jorgensen 1987): Poisson p = 1, Gamma p = 2, Tweedie between. It separates into characters `exp(a s)` of the
provider's score s, one for each exponent a of `2 - p` and `1 - p` that is not 0.

Residuals are computed in units of the largest record that the contract declares (`residual_unit`, a power of two),
so that the release noise, which is a share of a record, covers it, and so that one width of coefficients does for
labels and weights of any size.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

TASKS: Final = ("logistic", "linear", "poisson", "gamma", "tweedie")
MULTICLASS: Final = "multiclass"
"""What a job file calls a logistic model of several classes, one against the rest (`learning.solvers.classes`)."""

LOG_LINKS: Final = ("poisson", "gamma", "tweedie")
VALUE_BITS: Final = 15
VALUE_BITS_MAX: Final = 30
LINEAR_RESIDUAL_BOUND: Final = 8.0
POISSON_HEADROOM: Final = 32
SCORE_BOUND_MAX: Final = 8.0
REACH: Final = 3.0
"""|a| b up to which values of 15 bits are good to 0.6 % at the far end; every bit more adds log(2) / 2."""

RATIO_HEADROOM: Final = 16
"""How much larger a record may become on the way than it is at the start, where it is one unit at most."""


class LinkError(ValueError):
    """Labels or a task that cannot be used; `code` may travel, and nothing in the text is private."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """`label_bound`: of |y|, where the task needs one; `power`: p of a Tweedie model.

    `residual_unit`: what one unit of a computed residual stands for. `curvature`: of the loss for each unit of score,
    on average at the start; 0 stands for the task's bound, and for a start at score 0 instead of the mean label's.
    `weighted`, `shifted`: whether the business's rows have weights, and scores to begin with.
    """

    task: str
    label_bound: float = 1.0
    power: float = 0.0
    value_bits: int = VALUE_BITS
    residual_unit: float = 1.0
    curvature: float = 0.0
    weighted: bool = False
    shifted: bool = False

    @property
    def exponents(self) -> tuple[float, ...]:
        """Exponents a of the characters exp(a s); none but for log links."""
        if self.task not in LOG_LINKS:
            return ()
        return tuple(a for a in (2.0 - self.variance_power, 1.0 - self.variance_power) if a != 0.0)

    @property
    def variance_power(self) -> float:
        """p of `variance = mu^p`."""
        return {"poisson": 1.0, "gamma": 2.0}.get(self.task, self.power)

    @property
    def score_bound_max(self) -> float:
        """The largest bound on the provider's scores whose values have bits enough.

        A Poisson model of 15 bits goes further than that: its coarse values belong to small rates.
        """
        if self.task == "poisson" and self.value_bits == VALUE_BITS:
            return SCORE_BOUND_MAX
        reach = REACH + (self.value_bits - VALUE_BITS) * math.log(2.0) / 2.0
        return min(SCORE_BOUND_MAX, reach / max(abs(a) for a in self.exponents))

    @property
    def starts_at_mean(self) -> bool:
        """Whether scores begin at the link of the mean label, not at 0."""
        return self.curvature > 0.0 and self.task in LOG_LINKS

    @property
    def curvature_bound(self) -> float:
        """c of the preconditioner."""
        return self.curvature or (0.25 if self.task == "logistic" else 1.0)

    @property
    def residual_bound(self) -> float:
        """Largest computed |r|, a power of two: fixes f_u through `paillier.budget.bit_budget`.

        Raises LinkError (code task_unknown) for another task.
        """
        if self.task == "logistic":
            return 2.0
        if self.task == "linear":
            return LINEAR_RESIDUAL_BOUND
        if self.task == "poisson" and not self.starts_at_mean:
            return 2.0 ** math.ceil(math.log2(POISSON_HEADROOM * max(1.0, self.label_bound)))
        if self.task in LOG_LINKS:
            reach = max(abs(a) for a in self.exponents) * self.score_bound_max
            return RATIO_HEADROOM * 2.0 ** math.ceil(reach / math.log(2.0))
        raise LinkError("task_unknown", f"no task {self.task!r}: {', '.join(TASKS)}")


def check_family(family: Family) -> None:
    """Raises LinkError (code family) for declarations that do not go together, naming the key."""
    logs = family.task in LOG_LINKS
    mantissa, _ = math.frexp(family.residual_unit)
    rules = (
        (
            (1.0 <= family.power < 2.0) if family.task == "tweedie" else family.power == 0.0,
            "tweedie_power: from 1 to below 2 for the task tweedie (2 is the task gamma), absent for others",
        ),
        (family.value_bits == VALUE_BITS or logs, f"value_bits: {VALUE_BITS} but for log links"),
        (mantissa == 0.5, "residual_unit: a power of two"),
        (
            family.residual_unit == 1.0 or family.weighted or family.curvature > 0.0,
            "residual_unit: 1 but with weights or a log link that starts at the mean label",
        ),
        (family.curvature == 0.0 or logs, "curvature: only for log links"),
        (family.curvature > 0.0 or family.task not in ("gamma", "tweedie"), f"curvature: needed for {family.task}"),
    )
    for holds, text in rules:
        if not holds:
            raise LinkError("family", f"key {text}")


def family_of(facts: Mapping[str, Any]) -> Family:
    """The family from a task's arguments, in which what has its default may be missing."""
    return Family(
        task=facts["task"],
        label_bound=facts["label_bound"],
        power=facts.get("tweedie_power", 0.0),
        value_bits=facts.get("value_bits", VALUE_BITS),
        residual_unit=facts.get("residual_unit", 1.0),
        curvature=facts.get("curvature", 0.0),
        weighted=facts.get("weighted", False),
        shifted=facts.get("shifted", False),
    )
