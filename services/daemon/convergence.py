"""What the history of a training job has so far, from the state of its machine.

It is this party's own: it goes to its operator, and nowhere else. The other parties know every number of it, too, but
for the metric of the validation rows, which the business alone has.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from protocol.contract import ContractError, JobContract
from protocol.state import JobState, decode_state
from services.engine import jobs


def convergence(connection: Connection, job: str) -> dict[str, Any] | None:
    """What the history of a training job has so far; None for a job that trains nothing, or has no state."""
    record = jobs.load(connection, job)
    if record is None or not record.state or record.role not in ("business", "provider"):
        return None
    try:
        state = decode_state(record.state)
        contract = state.terms_of
    except (msgspec.MsgspecError, ContractError):
        return None  # of an older version, or before there is a contract
    return {
        "tolerance": contract.tolerance,
        "iterations_max": contract.max_iterations,
        "iterations_allowed": state.iterations_max,
        "business": contract.business,
        "providers": list(contract.providers),
        "converged": state.converged,
        "stop_reason": state.stop_reason,
        "validation": _validation(state, contract),
        "iterations": [
            {
                "iteration": fact.iteration,
                "business": fact.largest_business,
                "provider": fact.largest_provider,
                "ciphertexts": fact.terms + 1,
                "bound": fact.bound,
                "step": fact.step,
            }
            for fact in state.facts
        ],
    }


def _validation(state: JobState, contract: JobContract) -> dict[str, Any] | None:
    """Of a job that stops early, at the business: the metric of the validation rows by iteration, and the best."""
    stopping = state.stopping
    if not stopping.figures:
        return None
    points = [list(pair) for pair in zip(stopping.evaluated, stopping.figures, strict=False)]
    return {"metric": contract.stop_metric, "best": stopping.best, "points": points}
