"""What is kept of a job: its contract always, its blobs, sealed bodies and secret where the contract says `full`."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select

from services.store.journal_schema import contracts

DIGESTS: Final = "digests"
FULL: Final = "full"

# Built once: to put a statement together costs more than to run it.
_NOTE: Final = insert(contracts)
_WHOLE: Final = (contracts.c.retention == FULL, contracts.c.purged_at == 0.0)
_KEPT: Final = select(contracts.c.job).where(contracts.c.job == bindparam("this_job"), *_WHOLE)

KEPT_COUNT: Final = (
    select(func.count())
    .select_from(contracts)
    .where(contracts.c.job == bindparam("this_job"), *_WHOLE)
    .scalar_subquery()
)
"""1 for a job of which everything is kept, else 0: inside a statement that has `this_job`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the engine has to know of a contract. `logic_version` 0: the newest."""

    retention: str = DIGESTS
    logic_version: int = 0


def no_terms(contract: bytes) -> Terms:
    """For machines whose contracts say nothing about it."""
    del contract
    return Terms()


def note(connection: Connection, job: str, contract: bytes, retention: str) -> None:
    """Write down the contract of a new job, before anything of it is stored."""
    connection.execute(_NOTE, {"job": job, "contract": contract, "retention": retention, "purged_at": 0.0})


def keeps_all(connection: Connection, job: str) -> bool:
    """Whether everything of a job is kept until it is purged."""
    return connection.scalar(_KEPT, {"this_job": job}) is not None


def jobs_kept(connection: Connection) -> list[str]:
    """The jobs of which everything is kept."""
    return list(connection.scalars(select(contracts.c.job).where(*_WHOLE).order_by(contracts.c.job)))


def contract_of(connection: Connection, job: str) -> tuple[bytes, float] | None:
    """(contract, time of the purge or 0) of a job; None for one that is not noted."""
    row = connection.execute(select(contracts.c.contract, contracts.c.purged_at).where(contracts.c.job == job)).first()
    return None if row is None else (row.contract, row.purged_at)
