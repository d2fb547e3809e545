"""Compute tasks of the inference stage (docs/inference.md): scores along a direction, curvature, the own table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.inference import curvature as curvatures
from learning.inference import curvature_terms, standard_errors
from learning.inference.curvature import Curvature, Summary
from learning.links import residual_terms
from learning.links.family import family_of
from learning.links.targets import Targets, targets_of
from learning.solvers import history as histories
from learning.solvers.history import HistoryError, LocalHistory
from messages import schemas
from protocol.inferring import SLOPE
from services.tasks import keyring
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.features import matrix_of

Inputs = tuple[bytes, ...]
Vector = NDArray[np.float64]


def plan(arguments: dict[str, Any]) -> dict[str, Any]:
    """The link expansion of a turn; `terms` are those that are sent."""
    facts, owner = arguments["job"], arguments["curvature"]
    expansion = curvature_terms.choose(
        family_of(facts),
        bound=arguments["bound"],
        spread=arguments["spread"],
        rows=facts["rows"],
        slope=owner == SLOPE,
    )
    terms = expansion.terms if owner == SLOPE else curvature_terms.terms_sent(expansion, owner)
    return {"terms": terms, "stretch": expansion.stretch, "bound": expansion.bound}


def bends(arguments: dict[str, Any]) -> bool:
    """Whether a task of link terms or shares is about curvature along a direction, not about residuals."""
    owner: str = arguments.get("curvature", SLOPE)
    return owner != SLOPE


def blobs_along(arguments: dict[str, Any]) -> int:
    """How many blobs of scores along its own direction a task of this party has."""
    return 1 if arguments.get("curvature") == arguments["job"]["role"] else 0


def _along(arguments: dict[str, Any], blobs: Inputs) -> Vector | None:
    """A chunk's scores along the own direction."""
    if not blobs_along(arguments):
        return None
    first = arguments["first_row"]
    return np.frombuffer(blobs[0], dtype="<f8")[first : first + arguments["rows"]]


def _expansion(
    arguments: dict[str, Any], terms: int, bound: float, stretch: float, spread: float = 0.0
) -> residual_terms.Expansion:
    family = family_of(arguments["job"])
    return residual_terms.Expansion(
        family=family,
        terms=curvature_terms.expansion_terms(family, terms, arguments["curvature"]),
        bound=bound,
        stretch=stretch,
        spread=spread,
    )


def business_terms(
    arguments: dict[str, Any], scores: Vector, targets: Targets, along: Inputs, f_u: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(A, coefficients) of a chunk of curvature, as `links.business_terms` has them of residuals."""
    expansion = _expansion(arguments, arguments["terms"], arguments["bound"], arguments["stretch"], arguments["spread"])
    direction = _along(arguments, along)
    return curvature_terms.business_terms(expansion, scores + targets.offsets, direction, f_u, targets.weight)


def provider_terms(
    arguments: dict[str, Any], message: schemas.LinkTerms, scores: Vector, along: Inputs, f_u: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(exponents, addend) of a chunk of curvature. Raises LinkError for terms that no direction has."""
    expansion = _expansion(arguments, message.terms, message.bound, message.stretch)
    direction = _along(arguments, along)
    curvature_terms.check_terms(expansion)
    exponents = curvature_terms.provider_exponents(expansion, scores, direction)
    return exponents, curvature_terms.provider_addend(expansion, len(scores), direction, f_u)


def _at_target(arguments: dict[str, Any], history: bytes) -> LocalHistory:
    return histories.take_step(histories.decode(history), tuple(arguments["combination"]))


def score(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Score the own rows at the target parameters and, where it is this party's direction, along it.

    Blobs: scores; in the first turn the curvature that is to be filled, later the scores along the own direction.
    The provider's output is the range of its scores, as in training.
    """
    facts = arguments["job"]
    matrix = matrix_of(inputs[0], facts["own_columns"])[: facts["rows"]]  # those held out come after
    history = _at_target(arguments, inputs[1])
    scores = histories.scores(history, matrix)
    blobs = [(scores.astype("<f8").tobytes(), len(scores))]
    if arguments["begins"]:
        seen = keyring.digest_of(inputs[:2])
        fresh = keyring.stream(context, "inference-directions", arguments["iteration"], seen)
        entropy = fresh.many_below(1 << 32, curvatures.entropy_needed(facts["own_columns"]))
        begun = curvatures.begin(history, matrix, entropy, facts["release_noise"])
        blobs.append((curvatures.encode(begun), facts["own_columns"]))
    elif arguments["direction"] is not None:
        found = curvatures.along(curvatures.decode(inputs[2]), history, arguments["direction"], matrix)
        blobs.append((found.astype("<f8").tobytes(), len(found)))
    output: dict[str, Any] = {}
    if facts["role"] == "provider":
        bound, spread = residual_terms.score_range(scores, family_of(facts), arguments["iteration"])
        output = {"bound": bound, "spread": spread}
    return TaskResult(output, tuple(blobs))


def gradient(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Decrypt the partner's half of a turn's gradient, add the own half, note it. Blob: the curvature.

    Output of the last turn: `block`, what to tell the partner.
    """
    facts = arguments["job"]
    from services.tasks.train import read_total

    total, budget = read_total(context, arguments), keyring.budget_of(facts)
    history = _at_target(arguments, inputs[0])
    found = curvatures.append(
        curvatures.decode(inputs[1]),
        history,
        total,
        facts["rows"],
        budget.f_u,
        budget.f_v,
        direction=arguments["direction"],
    )
    output: dict[str, Any] = {}
    if arguments["last"]:
        found = replace(found, unexplained=_unexplained(facts, found, history, inputs[2:]))
        block = curvatures.summarise(found, business=facts["role"] == "business")
        output = {"block": msgspec.to_builtins(block)}
    return TaskResult(output, ((curvatures.encode(found), facts["own_columns"]),))


def _unexplained(facts: dict[str, Any], found: Curvature, history: LocalHistory, blobs: Inputs) -> float:
    """Own part of the mean deviance; `blobs`: the quantised rows and, at the business, the labels."""
    family, rows = family_of(facts), facts["rows"]
    own_scores = histories.scores(history, matrix_of(blobs[0], facts["own_columns"])[:rows])
    if len(blobs) < 2:
        return curvatures.unexplained_part(found, history, family, own_scores)
    targets = targets_of(blobs[1], family).rows(slice(0, rows))
    labels = targets.label - targets.offsets if family.task == "linear" else targets.label
    return curvatures.unexplained_part(found, history, family, own_scores + targets.offsets, labels)


def table(arguments: dict[str, Any], columns: Sequence[str], history: LocalHistory, curvature: bytes) -> dict[str, Any]:
    """The content of `inference.json`: the errors of the own coefficients and what they rest on.

    Raises TaskRefused when the partner's block is of no curvature.
    """
    facts = arguments["job"]
    business = facts["role"] == "business"
    found = curvatures.decode(curvature)
    other = msgspec.msgpack.decode(arguments["inference"], type=Summary)
    try:
        block = curvatures.solve(found, other, facts["rows"], business=business)
    except HistoryError as error:
        raise TaskRefused("block_wrong", f"curvature.block of the partner: {error}") from None
    own = curvatures.summarise(found, business=business)
    scale = standard_errors.dispersion(facts["task"], own, other, facts["rows"])
    estimates = standard_errors.table(columns, history, block, facts["rows"], dispersion=scale)
    return {
        "task": facts["task"],
        "role": facts["role"],
        "rows": facts["rows"],
        "l2": facts["l2"],
        "dispersion": scale * history.label_unit**2,
        "coefficients": [msgspec.to_builtins(one) for one in estimates],
    }
