"""What a committed transaction wants the rest of the daemon to know."""

from dataclasses import dataclass, field

from messages import schemas
from protocol.effects import BlobRef


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A committed compute task. `order` is its place in the journal; `partner`: whom it seals to or opens from."""

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
        outbox: jobs and partners for whom the outbox has something new, with highest sequence receipted before.
        receipts: jobs and partners to whom a receipt is owed; True when it was asked for.
        receipted: jobs and partners of whom a receipt came, with `applied`.
        answered: those of them whose receipt was a message of its own (and may answer a question).
        tasks: new compute tasks.
        unreceipted: bytes of bulk without a receipt of a job and partner, where they changed.
        ended: jobs that need no executor any more: finished or frozen.
        silenced: jobs of which nothing may be sent any more: frozen.
        frozen: job and partner that is to be told that the job is frozen, with the reason code.
        questions: peer.probe and peer.answer.
        begun: new jobs, with their partners.
        resting: jobs and partners that say that they rest, with the reason code.

    """

    outbox: dict[tuple[str, str], int] = field(default_factory=dict)
    receipts: dict[tuple[str, str], bool] = field(default_factory=dict)
    receipted: dict[tuple[str, str], int] = field(default_factory=dict)
    answered: set[tuple[str, str]] = field(default_factory=set)
    tasks: list[ReadyTask] = field(default_factory=list)
    unreceipted: dict[tuple[str, str], int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    silenced: list[str] = field(default_factory=list)
    frozen: dict[tuple[str, str], str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    begun: dict[str, tuple[str, ...]] = field(default_factory=dict)
    resting: dict[tuple[str, str], str] = field(default_factory=dict)

    def owe(self, job: str, partner: str, *, asked: bool = False) -> None:
        """The partner is owed a receipt for `job`."""
        self.receipts[job, partner] = asked or self.receipts.get((job, partner), False)

    def merge(self, other: "Notices") -> None:
        """Take over what a part of the unit collected, once that part is sure to stand."""
        for line, seen in other.outbox.items():
            self.outbox.setdefault(line, seen)
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
        self.begun.update(other.begun)
        self.resting.update(other.resting)
