"""What goes into a machine and what comes out of it.

A machine is a pure function `step(state, event) -> (state, effects)`. Events are facts that the journal
recorded; effects are wishes that the runner carries out in the same transaction. Neither holds anything of
the length of the data: bulk is named by `BlobRef`.

A job has one or several partners. Where an event or effect names one, `""` is the job's first partner.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from messages import schemas

STATE_BYTES_MAX: Final = 65_536
EVENT_BYTES_MAX: Final = 65_536


class BlobRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names a blob of the local store by content. `rows` says how many rows it speaks of."""

    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    rows: int
    bytes: int


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact about one job, in the order the journal gave it."""


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """The operator of the business submitted a job: the contract and the snapshot it names."""

    contract: bytes
    blobs: tuple[BlobRef, ...]
    facts: bytes


class ControlReceived(Event, frozen=True, kw_only=True, tag="control"):
    """A control message of the partner `sender`, opened; `message` is its encoded plaintext (see `messages.codec`)."""

    kind: str
    message: bytes
    sender: str = ""


class BulkReceived(Event, frozen=True, kw_only=True, tag="bulk"):
    """A bulk chunk of the partner `sender`, still sealed, now in the blob store."""

    kind: str
    chunk: int
    chunks: int
    body: BlobRef
    sender: str = ""


class Computed(Event, frozen=True, kw_only=True, tag="computed"):
    """A compute task ended well: `output` is a msgpack map of small values, `blobs` what it stored."""

    task: str
    function: str
    output: bytes
    blobs: tuple[BlobRef, ...]


class ComputeFailed(Event, frozen=True, kw_only=True, tag="compute_failed"):
    """A compute task refused its input (`reason_code` names why) or could not be run three times."""

    task: str
    function: str
    reason_code: str
    reason: str


class CancelDecided(Event, frozen=True, kw_only=True, tag="cancel"):
    """The operator of this party ended the job."""

    reason: str


class ApproveDecided(Event, frozen=True, kw_only=True, tag="approve"):
    """The steward of this provider lets a job begin that its policy asks about."""


class DeclineDecided(Event, frozen=True, kw_only=True, tag="decline"):
    """This provider does not begin a job: its steward said so, or a rule over all jobs with the partner."""

    reason_code: str
    reason: str


class RevokeDecided(Event, frozen=True, kw_only=True, tag="revoke"):
    """This provider takes back what it had agreed to."""

    reason: str


class Expired(Event, frozen=True, kw_only=True, tag="expired"):
    """The contract's expiry passed: the only deadline a machine knows."""


AnyDecision = CancelDecided | ApproveDecided | DeclineDecided | RevokeDecided
"""What the operator of a party decides of a job that there is."""

AnyEvent = Started | ControlReceived | BulkReceived | Computed | ComputeFailed | AnyDecision | Expired


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """A wish of a machine."""


class Send(Effect, frozen=True, kw_only=True, tag="send"):
    """Send a control message to the partner `recipient`: sealed and put into the outbox in this transaction."""

    message: schemas.Message
    recipient: str = ""


class SendBulk(Effect, frozen=True, kw_only=True, tag="send_bulk"):
    """Send `recipient` a chunk whose body a compute task sealed to it. Gets its sequence when there is credit."""

    kind: str
    chunk: int
    chunks: int
    body: BlobRef
    recipient: str = ""


class Compute(Effect, frozen=True, kw_only=True, tag="compute"):
    """Run `function` in the executor. `arguments` is a msgpack map; `task` is unique within the job.

    `partner` is the one whose keys the task seals to or opens from. `sends_bulk` tasks are started only while
    the bulk without a receipt of that partner fits one window, so that a partner or broker that is away costs
    bounded disk, and the other partners nothing.
    """

    task: str
    function: str
    arguments: bytes
    inputs: tuple[BlobRef, ...] = ()
    sends_bulk: bool = False
    partner: str = ""


class Consumed(Effect, frozen=True, kw_only=True, tag="consumed"):
    """One bulk chunk of the partner `sender` is used up: its credit goes back, its blob may be deleted."""

    body: BlobRef
    sender: str = ""


class Release(Effect, frozen=True, kw_only=True, tag="release"):
    """A stored blob is no longer needed by this job."""

    body: BlobRef


class Progress(Effect, frozen=True, kw_only=True, tag="progress"):
    """For people: stage, iteration, rows done of rows in all, and whom the job waits for. Never a metric."""

    stage: str
    iteration: int = 0
    iterations: int = 0
    done: int = 0
    total: int = 0
    waits_for: str = ""


class Finish(Effect, frozen=True, kw_only=True, tag="finish"):
    """The job is over for this party: `outcome` is done, failed, cancelled, declined or expired."""

    outcome: str
    reason_code: str = ""
    reason: str = ""
    results: tuple[BlobRef, ...] = ()


AnyEffect = Send | SendBulk | Compute | Consumed | Release | Progress | Finish


class UnexpectedEventError(Exception):
    """The transition table has no row for this event in this phase: names role, phase and event."""


class RemoteProtocolError(Exception):
    """The partner said something it may not say now; ends the job with `code`, never the daemon."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
