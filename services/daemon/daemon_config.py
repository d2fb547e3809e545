"""What a daemon has to be told before it starts."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messages import unsequenced
from messages.identity import Identity, PublicIdentity
from services.engine.roles import Role
from services.engine.stepping import one_partner
from services.engine.surroundings import Surroundings
from services.store import retention
from services.store.crash import CrashHook, no_crash
from services.store.limits import Timing

Prober = Callable[[str, unsequenced.PeerProbe], Awaitable[unsequenced.PeerAnswer]]


def no_expiry(contract: bytes) -> float:
    """For machines whose contracts do not expire."""
    del contract
    return 0.0


def always_provider(contract: bytes) -> str:
    """For machines of one kind of job."""
    del contract
    return "provider"


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What a daemon has to be told.

    Attributes:
        identity: this party's keys; its name is the party's.
        peers: the partners' public identities, by name.
        data_directory: everything the daemon knows; one daemon each.
        roles: the machines, by name of role.
        answering_role: the role taken in a job whose contract a partner proposes; empty: it is not taken. Must not
            raise.
        functions: dotted name of the module whose `FUNCTIONS` maps names to compute functions.
        workers: worker processes; 0 runs tasks on a thread of the daemon.
        settings: for compute functions; travels to the workers only.
        journal_url: SQLAlchemy URL; empty: SQLite in the data directory.
        expiry_of: the expiry in a contract's bytes, seconds since 1970, 0 for none; must not raise.
        terms_of: what a contract says of retention and rules; must not raise.
        parties_of: all parties of a contract, the one that proposes it first; see `Stepper`. Must not raise.
        earlier_roles: the machines of former rules, by logic version and role.
        answer_probe: answers `peer.probe`; None: probes stay unanswered.
        accept_restored: start on a journal that does not fit its data directory, and freeze the jobs that run.
        timing: see `Timing`.
        surroundings: time, chance, threads and processes.
        crash: see `services.store.crash`.

    """

    identity: Identity
    peers: Mapping[str, PublicIdentity]
    data_directory: Path
    roles: Mapping[str, Role]
    answering_role: Callable[[bytes], str] = always_provider
    functions: str = "services.tasks"
    workers: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    journal_url: str = field(default="", repr=False)
    expiry_of: Callable[[bytes], float] = no_expiry
    terms_of: Callable[[bytes], retention.Terms] = retention.no_terms
    parties_of: Callable[[bytes], tuple[str, ...]] = one_partner
    earlier_roles: Mapping[int, Mapping[str, Role]] = field(default_factory=dict)
    answer_probe: Prober | None = None
    accept_restored: bool = False
    timing: Timing = field(default_factory=Timing)
    surroundings: Surroundings = field(default_factory=Surroundings)
    crash: CrashHook = no_crash
