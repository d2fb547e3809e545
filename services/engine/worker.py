"""The other side of the executor: what runs in a worker process.

A worker reads its inputs from the blob store by itself, never writes there, and dies with its daemon: the
kernel kills it when the thread that started it is gone.
"""

import ctypes
import importlib
import os
import signal
import sys
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog

from messages import seal
from messages.identity import Identity, PublicIdentity
from protocol.contract import LOGIC_VERSION
from protocol.effects import EVENT_BYTES_MAX
from services.engine.disk import DISK_FULL, NO_ROOM
from services.party.log_file import LogFile
from services.party.logs import LogBook, configure, note
from services.store.job_secrets import read_secret
from services.store.ledger import LedgerDamaged
from services.store.limits import JOB_CACHES_MAX
from services.store.segments import BlobDamaged, Location, read
from services.tasks.compute import ComputeFunction, Sealing, TaskContext, TaskRefused, TaskResult

_PR_SET_PDEATHSIG: Final = 1
NICENESS: Final = 5
"""Workers step aside for their daemon, which answers partners and lookups while they compute: it needs a core for a
millisecond at a time, they need it for minutes."""
_REASON_MAX: Final = 1_000
_OUTPUT_BYTES_MAX: Final = EVENT_BYTES_MAX - 8_192


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker process is told once, over the pipe of its parent. `peers`: public identities as JSON."""

    parent: int
    functions: str
    identity: bytes = field(repr=False)
    peers: Mapping[str, str]
    data_directory: Path
    settings: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TaskCall:
    """One task. The job secret is read from `secret` by the worker and never travels."""

    job: str
    partner: str
    task: str
    function: str
    arguments: bytes = field(repr=False)
    inputs: tuple[Location, ...]
    secret: Path
    logic_version: int = 0


@dataclass(frozen=True, slots=True)
class TaskReply:
    """`done` with output and blobs; `refused` for good; `failed`: may be run again."""

    status: Literal["done", "refused", "failed"]
    output: bytes = field(default=b"", repr=False)
    blobs: tuple[tuple[bytes, int], ...] = field(default=(), repr=False)
    code: str = ""
    reason: str = ""


class _SecretErased(Exception):
    """The job's secret is gone, as it is when the job has ended."""


class Worker:
    """Runs tasks, one at a time, and keeps the caches of a few jobs.

    `caches`: ones that others share. `sealing`: see `TaskContext`.
    """

    def __init__(
        self,
        setup: Setup,
        caches: OrderedDict[str, dict[str, Any]] | None = None,
        *,
        sealing: Sealing = seal.seal,
    ) -> None:
        self._setup = setup
        self._sealing = sealing
        self._identity = Identity.from_bytes(setup.identity)
        self._peers = {name: PublicIdentity.from_json(text) for name, text in setup.peers.items()}
        self._functions: Mapping[str, ComputeFunction] = importlib.import_module(setup.functions).FUNCTIONS
        self._caches: OrderedDict[str, dict[str, Any]] = OrderedDict() if caches is None else caches

    @property
    def party(self) -> str:
        """Whose worker this is."""
        return self._identity.name

    def forget(self, job: str) -> None:
        """Drop what is remembered of a job: its tables and keys."""
        self._caches.pop(job, None)

    def run(self, call: TaskCall) -> TaskReply:
        """Run one task. Never raises: what went wrong is in the reply, without any value."""
        function = self._functions.get(call.function)
        if function is None:
            return TaskReply("refused", code="function_unknown", reason=f"there is no function {call.function}")
        try:
            inputs = tuple(read(location) for location in call.inputs)
            arguments = msgspec.msgpack.decode(call.arguments, type=dict[str, Any])
            return _reply(call, function(self._context(call), arguments, inputs))
        except _SecretErased:
            # The job ended between the queue and here, and nobody waits for the reply. In a job that still
            # runs, a lost secret is a task that fails.
            return TaskReply("failed", code="task_failed", reason=f"{call.task} finds no secret of its job")
        except TaskRefused as refused:
            return TaskReply("refused", code=refused.code, reason=refused.reason[:_REASON_MAX])
        except BlobDamaged:
            return TaskReply("refused", code="blob_damaged", reason=f"an input of {call.task} is damaged on disk")
        except LedgerDamaged as damaged:
            # The partner gets the sentence, the operator the file.
            structlog.get_logger("worker").error("ledger damaged", job=call.job, task=call.task, reason=str(damaged))
            reason = f"the release ledger of {self.party} is damaged on disk: its log names the file"
            return TaskReply("refused", code="ledger_damaged", reason=reason)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return TaskReply("failed", code=DISK_FULL, reason=error.strerror or DISK_FULL)
            # Its text may hold private values: type and place have to do.
            structlog.get_logger("worker").error(
                "task failed", job=call.job, task=call.task, error=type(error).__name__, at=_places(error)
            )
            reason = f"{call.task} failed: {type(error).__name__}"
            return TaskReply("failed", code="task_failed", reason=reason)

    def _context(self, call: TaskCall) -> TaskContext:
        try:
            secret = read_secret(call.secret)
        except FileNotFoundError:
            raise _SecretErased from None
        cache = self._caches.setdefault(call.job, {})
        self._caches.move_to_end(call.job)
        while len(self._caches) > JOB_CACHES_MAX:
            self._caches.popitem(last=False)
        return TaskContext(
            job=call.job,
            party=self._identity.name,
            partner=self._peers[call.partner],
            data_directory=self._setup.data_directory,
            job_secret=secret,
            identity=self._identity,
            settings=self._setup.settings,
            cache=cache,
            logic_version=call.logic_version or LOGIC_VERSION,
            peers=self._peers,
            seal=self._sealing,
            log=structlog.get_logger("task").bind(job=call.job, task=call.task, function=call.function),
        )


# -- the process ------------------------------------------------------------------------------------------

_worker: list[Worker] = []


def start(setup: Setup) -> None:
    """Initialise a worker process: bound to the daemon's life first, before anything that takes time."""
    _die_with(setup.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    # One task a process: libraries must not start threads of their own on top.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")
    log_file = str(setup.settings.get("log_file", ""))
    configure(LogBook(), to=LogFile(Path(log_file)) if log_file else None)
    _worker[:] = [Worker(setup)]
    note(party=_worker[0].party)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The daemon may have died before the call above: then nobody will ever send the signal.
    if os.getppid() != parent:
        os._exit(1)


def process_id() -> int:
    """The worker's process id, for its daemon."""
    return os.getpid()


def run(call: TaskCall) -> TaskReply:
    """Run a task in this process."""
    return _worker[0].run(call)


def forget(job: str) -> None:
    """Forget a job in this process."""
    _worker[0].forget(job)


def _reply(call: TaskCall, result: TaskResult) -> TaskReply:
    output = msgspec.msgpack.encode(result.output)
    if len(output) > _OUTPUT_BYTES_MAX:
        reason = f"the output of {call.task} has {len(output)} bytes, {_OUTPUT_BYTES_MAX} at most"
        return TaskReply("refused", code="output_oversized", reason=reason)
    return TaskReply("done", output=output, blobs=tuple((bytes(data), rows) for data, rows in result.blobs))


def _places(error: BaseException) -> list[str]:
    """File and line of the innermost frames, without source text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename}:{frame.lineno}" for frame in frames]
