"""From a job that is done to a model version: what its journal, state and results say of it."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from protocol.state import BUSINESS, PROVIDER, decode_state
from services import __version__
from services.engine import jobs
from services.models.version import ModelVersion, make_version
from services.store import retention

TRAINING_ROLES: Final = frozenset({BUSINESS, PROVIDER})


def version_of(
    connection: Connection,
    party: str,
    job: str,
    parameters: bytes,
    history: bytes,
    now: float,
    *,
    figures: bytes = b"",
) -> ModelVersion | None:
    """The version of a job inside a reading unit of work; None for one that made no model or is not there.

    `figures`: metrics.json, where the job has evaluated the model.
    """
    record, noted = jobs.load(connection, job), retention.contract_of(connection, job)
    if record is None or noted is None or record.role not in TRAINING_ROLES:
        return None
    state = decode_state(record.state) if record.state else None
    snapshot = None if state is None else state.snapshot
    return make_version(
        model=job,
        party=party,
        role=record.role,
        contract=noted[0],
        parameters=parameters,
        history=history,
        data_digest=b"" if snapshot is None else snapshot.sha256,
        software_version=__version__,
        logic_version=record.logic_version,
        length=record.length,
        head=record.head,
        created_at=now,
        provider_constant=0.0 if state is None else state.provider_constant,
        provider_constants=() if state is None else state.provider_constants or state.peers[0].constants,
        metrics=_metrics(figures),
    )


def _metrics(figures: bytes) -> dict[str, float]:
    """`part.metric` -> value, of all that are defined."""
    if not figures:
        return {}
    parts = msgspec.json.decode(figures, type=dict[str, dict[str, dict[str, Any]]])["parts"]
    return {
        f"{part}.{name}": value
        for part, content in parts.items()
        for name, value in content["metrics"].items()
        if value is not None
    }
