"""The jobs that a simulation can play: what is submitted, and what the parties have before."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from learning import parts
from messages.schemas import Name
from protocol.contract import contract_digest, encode_contract, job_id
from protocol.contract_rules import decode_contract
from protocol.grants import GRANTED
from protocol.machines import ROLES
from protocol.scoring_contract import Mode, ScoringContract, encode_scoring
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER
from services.daemon.daemon import Daemon
from services.daemon.serve import expiry_of, parties_of
from services.engine.roles import Role
from services.models.store import ModelStore
from services.models.version import make_version
from services.tables.snapshot import pack_identifiers, pack_snapshot
from services.tables.table import Table
from tests.simulation.agreement import BEGAN, JOB, ROWS, contract, identity, tables

Blobs = tuple[tuple[bytes, int], ...]


@dataclass(frozen=True)
class Operator:
    """Somebody at `who` who acts so many times while a job is at a `stage` there; "" is any."""

    who: str
    stage: str
    act: Callable[[Daemon, str], Awaitable[None]]
    times: int = 1


@dataclass(frozen=True)
class Story:
    """A job and its parties.

    Attributes:
        job: its identifier.
        contract: its bytes.
        roles: of the parties' machines, the business first.
        blobs: what the business submits with the contract.
        facts: what it keeps to itself of it.
        before: puts into a party's data directory what the job needs.
        tables: of the providers, by name; their first tasks read them.
        machines, functions, expiry_of, parties_of: see `DaemonConfig`.
        grants: role -> kinds that it may see.
        results: blobs that a party keeps of it at most.
        policy: what the providers' policies say besides.
        operators: who meddles.
        retained_s: so many virtual seconds after its end the job leaves each journal but for its name, and everything
            that was ever said in it is said again; None: it stays.

    """

    job: str
    contract: bytes
    roles: dict[str, str]
    blobs: Callable[[], Blobs]
    before: Callable[[str, Path], None]
    tables: Callable[[], Mapping[str, Table]] = tables
    machines: Mapping[str, Role] = field(default_factory=lambda: ROLES)
    functions: str = "services.tasks"
    expiry_of: Callable[[bytes], float] = expiry_of
    parties_of: Callable[[bytes], tuple[str, ...]] = parties_of
    grants: Mapping[str, Collection[str]] = field(default_factory=lambda: GRANTED)
    results: int = 2
    policy: Mapping[str, object] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    facts: bytes = b""
    retained_s: float | None = None

    @property
    def parties(self) -> tuple[str, ...]:
        """All of them, the business first."""
        return tuple(self.roles)

    def partners_of(self, name: str) -> list[str]:
        """All parties but one."""
        return [other for other in self.roles if other != name]


def nothing(name: str, directory: Path) -> None:
    del name, directory


TRAINING: Final = Story(
    job=JOB,
    contract=contract(),
    roles={"bank": BUSINESS, "bureau": PROVIDER},
    blobs=lambda: ((pack_snapshot(tables()["bank"]), ROWS),),
    before=nothing,
)


def _statistics() -> Story:
    """A training job that goes on to standard errors and figures of its training rows."""
    asked = msgspec.structs.replace(
        decode_contract(contract()), nonce=b"statist.", max_iterations=2, inference=True, evaluate=("training",)
    )
    found = encode_contract(asked)
    return replace(TRAINING, job=job_id(found), contract=found, results=5)


STATISTICS: Final = _statistics()


def _sampled(nonce: bytes, **fields: object) -> Story:
    """A training job over some rows or columns in each iteration."""
    salt = nonce * 4
    asked = msgspec.structs.replace(decode_contract(contract()), nonce=nonce, **fields)
    if asked.layout.divides:
        asked = msgspec.structs.replace(asked, parts_commitment=parts.commitment(parts.own_seed(salt)))
    found = encode_contract(asked)
    return replace(TRAINING, job=job_id(found), contract=found, facts=msgspec.msgpack.encode({"salt": salt}))


VALIDATED: Final = _sampled(b"folded..", folds=2, penalties=(0.1, 0.01), l2=0.01, max_iterations=3, validation=0.2)
BLOCKS: Final = _sampled(b"blocks..", solver="block", max_iterations=4)
STOPPED: Final = replace(
    _sampled(
        b"stopped.",
        validation=0.3,
        stop_metric="log_loss",
        patience=1,
        stop_every=2,
        stop_evaluations_max=2,
        max_iterations=6,
        evaluate=("validation",),
    ),
    policy={"stop_evaluations_max": 2},
    results=4,
)
RETAINED: Final = replace(_sampled(b"retained", max_iterations=1), retained_s=30.0)
WHOLE: Final = replace(
    _sampled(b"whole...", whole_model=True, max_iterations=1), policy={"whole_model": True}, results=3
)
GROWING: Final = _sampled(b"growing.", sample_set="growing", batches=2, max_iterations=4, tolerance=0.05)


def _keep_model(name: Name, directory: Path) -> None:
    """A model as if the training job had made it: the same numbers in every run."""
    columns = tables()[name].columns
    parameters = {
        "task": "logistic",
        "role": TRAINING.roles[name],
        "rows": ROWS,
        **({"intercept": -0.25} if name == "bank" else {}),
        "coefficients": {column: 0.5 + place for place, column in enumerate(columns)},
        "grid": {column: {"centre": 0.0, "step": 1e-4} for column in columns},
    }
    ModelStore(directory).add(
        make_version(
            model=JOB,
            party=name,
            role=TRAINING.roles[name],
            contract=contract(),
            parameters=msgspec.json.encode(parameters),
            history=b"{}",
            data_digest=bytes(32),
            software_version="simulated",
            logic_version=1,
            length=1,
            head=bytes(32),
            created_at=BEGAN,
        )
    )


SCORED: Final = 50
"""Rows that the bank asks for; the bureau has all but the last two of them."""


def _scoring_blobs() -> Blobs:
    names = [*tables()["bank"].identifiers[: SCORED - 2], "stranger-1", "stranger-2"]
    scores = np.linspace(-2.0, 2.0, SCORED)
    return (pack_identifiers(names), SCORED), (scores.astype("<f8").tobytes(), SCORED)


def _scoring_contract(mode: Mode, nonce: bytes) -> bytes:
    return encode_scoring(
        ScoringContract(
            protocol_version=1,
            logic_version=1,
            leakage_version=1,
            nonce=nonce,
            business="bank",
            provider="bureau",
            business_key=identity("bank").public.digest(),
            provider_key=identity("bureau").public.digest(),
            provider_dataset="people",
            model=JOB,
            model_digest=contract_digest(contract()),
            mode=mode,
            data_digest=bytes(32),
            business_rows=SCORED,
            score_quota=1000,
            psi_quota=10_000,
            align_chunk_items=16,
            chunk_rows_max=10,
            expires_at=int(BEGAN) + (600 if mode == "lookup" else 10**6),
        )
    )


def _scoring(mode: Mode, nonce: bytes) -> Story:
    found = _scoring_contract(mode, nonce)
    return Story(
        job=job_id(found),
        contract=found,
        roles={"bank": SCORING_BUSINESS, "bureau": SCORING_PROVIDER},
        blobs=_scoring_blobs,
        before=_keep_model,
    )


SCORING: Final = _scoring("batch", b"scorings")
LOOKUPS: Final = _scoring("lookup", b"lookups.")
