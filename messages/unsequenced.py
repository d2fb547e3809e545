"""Messages beside the sequence of a job: receipts, questions and their answers, and what is to be known at once.

One that is lost is not sent again: somebody asks. Otherwise they are as those of `messages.schemas`.
"""

from typing import Annotated, Final

from msgspec import Meta

from messages.schemas import Count, Message, Reason, ReasonCode

SCORES_BYTES_MAX: Final = 8 * 50
"""Of one row by a model of as many classes as a contract may have, 8 bytes for each."""


class Receipt(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="receipt.v1"):
    """Either party, unsequenced: all sequences up to `applied` are journalled; bulk up to `credit` may be sent.

    `applied` counts the partner's messages of this job; `credit` is the highest ordinal (1-based, over the
    partner's bulk messages of this job) that may be sent. Monotone and idempotent.
    """

    applied: Count
    credit: Count


class ReceiptRequest(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="receipt.request.v1"):
    """Either party, unsequenced, after a silence or a start: what do you have? `sent`: highest sequence published."""

    sent: Count


class ReceiptHeld(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="receipt.held.v1"):
    """Either party, unsequenced, with a question or its answer: you gave me receipts up to sequence `receipted`.

    Whoever finds fewer messages than that in its own journal works on an old copy of it.
    """

    receipted: Count


class JobFrozen(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.frozen.v1"):
    """Either party, unsequenced: it cannot trust its own records of this job and says nothing more in it.

    It cannot end the job in its turn, as its place in the sequence is lost. Reveals which check failed.
    """

    reason_code: ReasonCode


class JobResting(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.resting.v1"):
    """Either party, unsequenced, after each receipt while it computes and sends nothing for the job.

    Reveals why: an operator paused it, or it is a time at which it does nothing for this partner.
    """

    reason_code: ReasonCode


class PeerProbe(
    Message, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="peer.probe.v1"
):
    """Either party to another, unsequenced: are you there, and would this contract fit (`warren check`)?

    With `clock` and no contract: what time is it there (`warren doctor`)? Left out of the bytes where it is not asked,
    so that former versions read the others.
    """

    contract: Annotated[bytes, Meta(max_length=65_536)]
    clock: bool = False


class PeerAnswer(
    Message, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="peer.answer.v1"
):
    """Either party to one that asked, unsequenced: versions and what the policy says of the probed contract.

    `clock`: seconds since 1970 where it was asked for, which reveals by how much that machine's clock is off.
    """

    software_version: Annotated[str, Meta(max_length=40)]
    protocol_version: Count
    logic_version: Count
    backend: Annotated[str, Meta(max_length=40)]
    acceptable: bool
    reason_code: ReasonCode
    reason: Reason
    rows: Count
    columns: Count
    free_bytes: Count
    clock: Count = 0


class ScoreAsk(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="score.ask.v1"):
    """Business to provider, unsequenced: your partial score of aligned row `row`, please. `question`: for the answer.

    Reveals which of the aligned rows is being scored now; the provider has all of them.
    """

    question: Annotated[bytes, Meta(min_length=16, max_length=16)]
    row: Count


class ScoreAnswer(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="score.answer.v1"):
    """Provider to business, unsequenced: `value` of that row as in `score.partial`, or why there is none.

    Of several classes each one's, 8 bytes after 8 bytes. Reveals the same rounded projections however often it is
    asked for. `reason_code` is `ok` with a value.
    """

    question: Annotated[bytes, Meta(min_length=16, max_length=16)]
    value: Annotated[bytes, Meta(min_length=8, max_length=SCORES_BYTES_MAX)]
    reason_code: ReasonCode


UNSEQUENCED: Final[frozenset[str]] = frozenset(
    {
        "receipt",
        "receipt.request",
        "receipt.held",
        "job.frozen",
        "job.resting",
        "peer.probe",
        "peer.answer",
        "score.ask",
        "score.answer",
    }
)
"""Kinds that are no events of a job: no sequence, no outbox row."""
