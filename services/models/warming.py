"""A former model as the start of a job: is it this party's part of a model with the same partner and columns?"""

from pathlib import Path
from typing import Any

import msgspec

from learning.solvers.warm import Start
from protocol.contract import JobContract
from protocol.state import BUSINESS
from services.models.store import ModelRetired, ModelStore, ModelUnknown
from services.models.version import ModelDamaged, ModelVersion


class WarmStartRefused(ValueError):
    """The former model cannot be started from; the text names it and what differs."""


def first_gradient_of(data_directory: Path, model: str) -> float:
    """Length of the gradient that a model's job began with, which both parties know; 0 for no model.

    A job that was itself started warm hands on what it was told. Raises WarmStartRefused.
    """
    return _first_gradient(_usable(data_directory, model)) if model else 0.0


def _first_gradient(version: ModelVersion) -> float:
    history: dict[str, Any] = msgspec.json.decode(version.history)
    return version.terms.first_gradient or float(history["iterations"][0]["step"])


def _usable(data_directory: Path, model: str) -> ModelVersion:
    try:
        return ModelStore(data_directory).usable(model)
    except (ModelUnknown, ModelRetired, ModelDamaged) as error:
        raise WarmStartRefused(f"warm_start: {error}") from None


def starts_of(
    data_directory: Path, contract: JobContract, role: str, columns: tuple[str, ...], classes: tuple[str, ...] = ()
) -> tuple[Start, ...]:
    """This party's part of the model that a contract starts from, of several classes each one's; none: at zero.

    `classes`: those of the business's labels now. Raises WarmStartRefused.
    """
    if not contract.warm_start:
        return ()
    model = contract.warm_start
    version = _usable(data_directory, model)
    former = version.terms
    if version.role != role or former.parties != contract.parties:
        raise WarmStartRefused(f"warm_start: model {model} is of other parties or roles")
    if (former.task, former.tweedie_power) != (contract.task, contract.tweedie_power):
        raise WarmStartRefused(f"warm_start: model {model} has task {former.task}, the job {contract.task}")
    if former.classes != contract.classes or (role == BUSINESS and version.classes != classes):
        raise WarmStartRefused(f"warm_start: model {model} has other classes than the job")
    if version.columns != columns:
        raise WarmStartRefused(f"warm_start: model {model} has other columns than the data set has now")
    if _first_gradient(version) != contract.first_gradient:
        raise WarmStartRefused(f"warm_start: model {model} began with another gradient here than the contract says")
    if role != BUSINESS:
        return tuple(Start(constant=0.0, coefficients=target.coefficients) for target in version.targets)
    others = version.provider_constants or (version.provider_constant,) * len(version.targets)
    return tuple(
        Start(constant=target.constant - other, coefficients=target.coefficients)
        for target, other in zip(version.targets, others, strict=True)
    )
