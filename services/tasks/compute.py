"""What a compute function gets and gives. Compute functions run in worker processes, one task at a time.

A function is called again with the same arguments after a crash and must give the same integers: all its
randomness comes from the job secret. It never writes to the journal or the blob store.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from messages import seal
from messages.identity import Identity, PublicIdentity
from protocol.contract import LOGIC_VERSION

Sealing = Callable[[bytes, PublicIdentity, bytes], bytes]
"""(plaintext, recipient, info) -> sealed body."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """Everything around a task.

    Attributes:
        job: the job's identifier.
        party: this party's name.
        partner: the public keys of the partner that the task seals to or opens from.
        data_directory: of this party; a function may keep files of its own there.
        job_secret: 32 bytes from which all randomness of the job is expanded.
        identity: this party's private keys, to open bulk bodies.
        settings: the operator's settings for compute functions.
        cache: for tables and keys of this job, kept in this worker process until the job ends.
        log: bound to job, task and function.
        logic_version: of the rules that the job runs by.
        peers: the public identities of all parties that this one knows, by name.
        seal: what closes bulk bodies; an audit that runs tasks again leaves them open.

    """

    job: str
    party: str
    partner: PublicIdentity
    data_directory: Path
    job_secret: bytes = field(repr=False)
    identity: Identity = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    cache: dict[str, Any] = field(repr=False)
    log: structlog.typing.FilteringBoundLogger = field(repr=False)
    logic_version: int = LOGIC_VERSION
    peers: Mapping[str, PublicIdentity] = field(default_factory=dict, repr=False)
    seal: Sealing = field(default=seal.seal, repr=False)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task gives.

    Attributes:
        output: small values for the machine, at most 64 KiB as msgpack.
        blobs: pairs of bytes and the number of rows they speak of; they go to the blob store.

    """

    output: dict[str, Any]
    blobs: tuple[tuple[bytes, int], ...] = field(default=(), repr=False)


class TaskRefused(Exception):
    """The input is not acceptable: the job ends with `code`, the task is not run again.

    The reason is sent to the partner, so it names what was refused and never a private value.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


ComputeFunction = Callable[[TaskContext, dict[str, Any], tuple[bytes, ...]], TaskResult]
