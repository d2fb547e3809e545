"""A business and a provider with real machines and tasks over an embedded broker, at a stage of one's choice."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from protocol.contract import encode_contract, job_id
from protocol.machines import ROLES
from protocol.state import Phase, decode_state
from services.daemon.daemon import Daemon, DaemonConfig
from services.daemon.job_file import business_table, job_from, make_contract
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.serve import expiry_of
from services.engine import jobs
from services.engine.surroundings import Surroundings
from services.party.configuration import Party, load_party
from services.tables.snapshot import pack_snapshot
from tests.parties import PARTNER, example_tables, make_parties
from tests.services import house

MARKS: Final = ("insecure", "small_sample")
JOB: Final[dict[str, Any]] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "l2": 1e-2,
    "max_iterations": 2,
    "release_noise": 0.0,
    "key_bits": 512,
    "chunk_rows_max": 27,
    "marks": list(MARKS),
}
ROWS: Final = 60
EARLY: Final[dict[str, Any]] = {
    "validation": 0.3,
    "stop_metric": "log_loss",
    "patience": 2,
    "stop_every": 1,
    "stop_evaluations_max": 2,
}
"""What makes it a job that stops early."""
ALLOWED_EARLY: Final[dict[str, Any]] = {"stop_evaluations_max": 2, "score_quota": 10_000}
"""The provider's policy for such jobs."""

_OWN: Final = {
    Phase.ALIGNING: "align.mask",
    Phase.CODING: "features.quantise",
    Phase.ENCRYPTING: "features.encrypt",
    Phase.SCORING: "score",
    Phase.CROSSING: "gradient",
    Phase.CLOSING: "results",
}

STAGES: Final[dict[tuple[str, Phase], tuple[tuple[str, str], ...]]] = {
    **{(role, phase): ((role, name),) for role in NAMES for phase, name in _OWN.items()},
    # A phase in which a party has nothing to compute lasts while its partner computes.
    (BUSINESS, Phase.PROPOSED): ((PROVIDER, "admit"),),
    (PROVIDER, Phase.ADMITTING): ((PROVIDER, "admit"),),
    (BUSINESS, Phase.LINKING): ((BUSINESS, "link.terms"),),
    (PROVIDER, Phase.LINKING): ((PROVIDER, "link.evaluate"),),
    (BUSINESS, Phase.STEPPING): ((PROVIDER, "gradient"),),
    (PROVIDER, Phase.STEPPING): ((BUSINESS, "gradient"),),
    # The last one to get there ends the job at the other.
    (BUSINESS, Phase.CLOSING): ((BUSINESS, "results"), (PROVIDER, "results")),
    (PROVIDER, Phase.CLOSING): ((BUSINESS, "results"), (PROVIDER, "results")),
}
"""Role and phase -> the functions, each of a role, at whose gates the job rests in that phase."""


@dataclass
class Bureau:
    """Two party directories, a broker, and a clock that only moves when it is told to. `policy`: of the provider.

    `asked`: what the job asks for besides `JOB`.
    """

    directory: Path
    now: float = 1_800_000_000.0
    job: str = ""
    accept_restored: bool = False
    policy: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = make_parties(self.directory, example_tables(self.directory, ROWS), marks=MARKS)
        self.parties = {role: load_party(path) for role, path in paths.items()}
        self.parties[PROVIDER].policy.update(self.policy)
        self.broker = EmbeddedBroker(tuple(NAMES.values()))

    def daemon(self, role: str) -> Daemon:
        party = self.parties[role]
        config = DaemonConfig(
            identity=party.identity,
            peers=party.peers,
            data_directory=party.data_directory,
            roles=ROLES,
            workers=0,
            functions="tests.services.gates",
            settings=party.settings,
            expiry_of=expiry_of,
            accept_restored=self.accept_restored,
            timing=house.TIMING,
            surroundings=Surroundings(clock=lambda: self.now),
        )
        return Daemon(config, EmbeddedTransport(self.broker, NAMES[role], [NAMES[PARTNER[role]]]))

    @asynccontextmanager
    async def both(self) -> AsyncIterator[dict[str, Daemon]]:
        async with house.running(self.daemon(BUSINESS)) as first, house.running(self.daemon(PROVIDER)) as second:
            yield {BUSINESS: first, PROVIDER: second}

    async def submit(self, business: Daemon) -> str:
        """Submit `JOB`."""
        party, job = self.parties[BUSINESS], job_from(JOB | self.asked, "job")
        table, salt = business_table(party, job), secrets.token_bytes(32)
        contract = encode_contract(
            make_contract(job, table, party.identity.public, party.peers[NAMES[PROVIDER]], salt=salt)
        )
        self.job = job_id(contract)
        blobs = ((pack_snapshot(table), len(table.identifiers)),)
        await business.submit(
            self.job, NAMES[PROVIDER], contract=contract, blobs=blobs, facts=msgspec.msgpack.encode({"salt": salt})
        )
        return self.job

    async def reached(self, daemon: Daemon, phase: Phase) -> None:
        """Wait until the job is in a phase at a party."""

        async def there() -> bool:
            record = await daemon.journal.read(lambda connection: jobs.load(connection, self.job))
            assert record is None or record.running, (record.outcome, record.reason)
            return record is not None and bool(record.state) and decode_state(record.state).phase is phase

        await house.until(there)

    async def parameters(self, daemons: dict[str, Daemon]) -> list[bytes]:
        """Both parties' target parameters, once the job is done."""
        found = []
        for daemon in daemons.values():
            view = await house.ended(daemon, self.job)
            assert view.outcome == "done", (view.reason_code, view.reason)
            found.append(await daemon.result(self.job, view.results[0]))
        return found


async def once_done(daemon: Daemon, job: str) -> str:
    """The outcome of a job at a party, when it has ended."""
    return (await house.ended(daemon, job)).outcome
