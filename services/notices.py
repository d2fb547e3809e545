"""What a committed transaction wants the rest of the daemon to know."""

from dataclasses import dataclass, field

from messages import schemas
from protocol.effects import BlobRef


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A committed compute task. `order` is its place in the journal."""

    order: int
    job: str
    partner: str
    task: str
    function: str
    arguments: bytes = field(repr=False)
    inputs: tuple[BlobRef, ...] = field(repr=False)
    sends_bulk: bool = False
    logic_version: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """An unsequenced message that somebody above the engine has to answer or has asked for."""

    sender: str
    job: str
    message: schemas.Message


@dataclass(slots=True)
class Notices:
    """Collected inside a unit of work, acted upon after COMMIT, lost in a crash without harm.

    Attributes:
        outbox: jobs whose outbox has something new, with partner and highest sequence receipted before.
        receipts: jobs that owe the partner a receipt; True when it was asked for.
        receipted: jobs of which a receipt came, with `applied`.
        answered: those of them whose receipt was a message of its own (and may answer a question).
        tasks: new compute tasks.
        unreceipted: bytes of bulk without a receipt, where they changed.
        ended: jobs that need no executor any more: finished or frozen.
        silenced: jobs of which nothing may be sent any more: frozen.
        frozen: job and partner that is to be told that the job is frozen, with the reason code.
        questions: peer.probe and peer.answer.

    """

    outbox: dict[str, tuple[str, int]] = field(default_factory=dict)
    receipts: dict[tuple[str, str], bool] = field(default_factory=dict)
    receipted: dict[str, int] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    tasks: list[ReadyTask] = field(default_factory=list)
    unreceipted: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    silenced: list[str] = field(default_factory=list)
    frozen: dict[tuple[str, str], str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)

    def owe(self, job: str, partner: str, *, asked: bool = False) -> None:
        """The partner is owed a receipt for `job`."""
        self.receipts[job, partner] = asked or self.receipts.get((job, partner), False)

    def merge(self, other: "Notices") -> None:
        """Take over what a part of the unit collected, once that part is sure to stand."""
        for job, seen in other.outbox.items():
            self.outbox.setdefault(job, seen)
        for (job, partner), asked in other.receipts.items():
            self.owe(job, partner, asked=asked)
        self.receipted.update(other.receipted)
        self.answered |= other.answered
        self.tasks += other.tasks
        self.unreceipted.update(other.unreceipted)
        self.ended += other.ended
        self.silenced += other.silenced
        self.frozen.update(other.frozen)
        self.questions += other.questions
