"""Early stopping in a contract: which metric can end which job, and what else the contract has to say then."""

from typing import Final

from protocol.contract import JobContract, StopMetric

METRICS_OF: Final[dict[str, tuple[StopMetric, ...]]] = {
    "logistic": ("log_loss", "deviance", "auc", "ks", "brier", "gini"),
    "linear": ("deviance", "rmse", "r2"),
    "poisson": ("deviance", "rmse", "gini"),
    "gamma": ("deviance", "rmse", "gini"),
    "tweedie": ("deviance", "rmse", "gini"),
}
"""Task -> metrics that it has."""

METRICS_OF_CLASSES: Final[tuple[StopMetric, ...]] = ("log_loss", "accuracy")
"""Of a model of several classes (`learning.evaluation.multiclass`)."""

BETTER_HIGHER: Final[frozenset[str]] = frozenset({"auc", "ks", "r2", "gini", "accuracy"})

BLOCK_ITERATIONS_MAX: Final = 240
"""Of the solver block: the state of a job has to have room for three combinations of all gradients more."""


def wrong(contract: JobContract) -> str:
    """What is wrong with a contract's fields for early stopping, for people; empty where nothing is."""
    counts = (contract.patience, contract.stop_every, contract.stop_evaluations_max)
    if not contract.stop_metric:
        return "patience, stop_every and stop_evaluations_max go with a stop_metric: name one" if any(counts) else ""
    if not all(counts):
        return "a stop_metric goes with patience, stop_every and stop_evaluations_max of 1 or more"
    metrics = METRICS_OF_CLASSES if contract.classes else METRICS_OF[contract.task]
    if contract.stop_metric not in metrics:
        return f"the metric {contract.stop_metric} is none of the task's: name one of {', '.join(metrics)}"
    if contract.validation == 0.0:
        return "there are no validation rows to stop by: give validation a share"
    if contract.solver == "block" and contract.max_iterations > BLOCK_ITERATIONS_MAX:
        return f"a job of the solver block that stops early has room for {BLOCK_ITERATIONS_MAX} iterations at most"
    if contract.inference or contract.penalties:
        return "standard errors and cross-validation need the end of the loop: leave stop_metric or these out"
    return ""


def projections(contract: JobContract) -> int:
    """Linear combinations of a validation row's columns that are told at most: in an evaluation one of each class."""
    return contract.stop_evaluations_max * max(1, contract.classes)


def counted(contract: JobContract) -> str:
    """The same in words."""
    each = f" with scores of {contract.classes} classes each" if contract.classes else ""
    return f"{contract.stop_evaluations_max} evaluations of the validation rows{each}"


def columns_wrong(contract: JobContract, columns: int) -> str:
    """Why a provider with so many prepared columns does not let its validation rows be evaluated so often, or nothing.

    Every evaluation is one linear combination of a row's columns, of several classes one of each: as many of them as
    there are columns say as much as the row itself, up to a linear map that is the same for all rows.
    """
    if not contract.stop_metric or projections(contract) < columns:
        return ""
    fewer = "evaluations times classes" if contract.classes else "evaluations"
    return (
        f"{counted(contract)} and a data set of {columns} columns: "
        f"there must be fewer {fewer} than columns (stop_evaluations_max)"
    )
