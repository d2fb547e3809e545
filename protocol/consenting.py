"""A provider's consent: its steward is asked before a job begins, and may take back what was agreed to.

Nothing of the provider's data has left the house while its steward is asked: the data set has been read and judged,
so that nobody approves what cannot be done, and the partner knows no more than that it has to wait.
"""

from collections.abc import Callable
from typing import Any

from messages import schemas
from protocol.contract import contract_digest
from protocol.effects import BlobRef, Computed, DeclineDecided, Finish, RevokeDecided, Send
from protocol.opening import decline, waiting_for_answers
from protocol.state import APPROVAL, Admission, JobState, Phase
from protocol.steps import Outcome, change, expect, output_of, progress, tell_all, with_peer

REVOKED = "revoked"
"""Reason code of a job whose provider took its consent back."""

_REASON_MAX = 2000

Accept = Callable[[JobState, dict[str, Any], tuple[BlobRef, ...]], Outcome]
"""How a job goes on that is agreed to, from the output and the blobs of its first task."""


def judged(state: JobState, event: Computed, accept: Accept) -> Outcome:
    """What the first task found of a contract: decline, ask the steward, or accept."""
    output = output_of(event.output)
    if output["reason_code"]:
        return decline(state, output)
    if output.get("asks"):
        return _ask(state, event)
    return accept(state, output, event.blobs)


def approved(state: JobState, accept: Accept) -> Outcome:
    """The steward has said yes to what the first task had found."""
    assert state.admission is not None
    found = state.admission
    return accept(change(state, admission=None), output_of(found.output), found.blobs)


def _ask(state: JobState, event: Computed) -> Outcome:
    """The contract is within the policy and beyond what it accepts by itself: the steward decides."""
    state = change(state, phase=Phase.APPROVING, admission=Admission(output=event.output, blobs=event.blobs))
    return state, (
        Send(message=schemas.JobPending(contract_digest=contract_digest(state.contract))),
        progress(state, APPROVAL),
    )


def asked_about(state: JobState) -> tuple[str, ...]:
    """The limits that a waiting contract exceeds, a sentence each; none of a job that does not wait."""
    if state.phase is not Phase.APPROVING or state.admission is None:
        return ()
    return tuple(output_of(state.admission.output)["asks"])


def declined(state: JobState, event: DeclineDecided) -> Outcome:
    """The steward, or a rule over all jobs, says no."""
    return decline(state, {"reason_code": event.reason_code, "reason": event.reason})


def revoked(state: JobState, event: RevokeDecided) -> Outcome:
    """The provider takes its consent back: a job that has not begun is declined, another one fails."""
    reason = f"{state.me} revoked its consent: {event.reason}"[:_REASON_MAX]
    if state.phase in (Phase.ADMITTING, Phase.APPROVING):
        return decline(state, {"reason_code": REVOKED, "reason": reason})
    told = tell_all(state, schemas.JobFailed(reason_code=REVOKED, reason=reason))
    return change(state, phase=Phase.FAILED), (*told, Finish(outcome="failed", reason_code=REVOKED, reason=reason))


def pending(state: JobState, message: schemas.JobPending, sender: str) -> Outcome:
    """The business hears that a provider's steward is asked."""
    peer = state.peer(sender)
    expect(
        message.contract_digest == contract_digest(state.contract),
        "contract_differs",
        f"{peer.name} asks its steward about another contract than the one proposed",
    )
    expect(not (peer.pending or peer.accepted), "pending_repeated", f"{peer.name} said twice that its steward is asked")
    state = with_peer(state, change(peer, pending=True))
    return state, (waiting_for_answers(state),)
