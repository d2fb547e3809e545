"""The beginning of a scoring job: propose, ask the policy, accept, then align (see `scoring` for what follows)."""

from typing import Any

from messages import schemas
from protocol import aligning, consenting, opening
from protocol.effects import ApproveDecided, BlobRef, Computed, Send, Started
from protocol.scoring_contract import decode_scoring
from protocol.state import JobState, Phase, Scoring
from protocol.steps import Outcome, change, compute, expect, progress, tell_all, waits_for, with_peer


def started(state: JobState, event: Started) -> Outcome:
    """The operator of the business asks for scores: propose it. Blobs: identifiers, own scores of their rows."""
    contract = decode_scoring(event.contract)
    snapshot, scores = event.blobs
    state = change(
        state,
        phase=Phase.PROPOSED,
        contract=event.contract,
        snapshot=snapshot,
        own_rows=contract.business_rows,
        scoring=Scoring(scores=scores),
    )
    sends = tell_all(state, schemas.JobPropose(contract=event.contract))
    return state, (*sends, progress(state, "propose", waits_for=waits_for(list(state.partners))))


def accepted(state: JobState, message: schemas.JobAccept, sender: str) -> Outcome:
    """A provider signed its half: align, when all have."""
    peer = state.peer(sender)
    opening.check_accepted(state, peer, message)
    expect(message.rows >= 1, "rows_none", f"{peer.name} accepted without a row to score")
    return opening.align_when_accepted(state, peer, message)


def proposed(state: JobState, message: schemas.JobPropose, sender: str) -> Outcome:
    """A business asks for scores: ask the policy and the model store, and score the own data set."""
    peer, contract = state.peer(sender), decode_scoring(message.contract)
    opening.check_proposed(state, peer, contract, message.contract)
    state = change(state, phase=Phase.ADMITTING, contract=message.contract)
    state = with_peer(state, change(peer, rows=contract.business_rows))
    return state, (compute("score.admit", "score.admit", {"contract": message.contract}), progress(state, "admit"))


def admitted(state: JobState, event: Computed) -> Outcome:
    """Policy, model and data set have spoken: accept, decline, or ask the steward."""
    return consenting.judged(state, event, _accept)


def approved(state: JobState, event: ApproveDecided) -> Outcome:
    """The steward has said yes."""
    del event
    return consenting.approved(state, _accept)


def _accept(state: JobState, output: dict[str, Any], blobs: tuple[BlobRef, ...]) -> Outcome:
    accept = opening.acceptance(state, output)
    snapshot, scores = blobs
    state = change(
        state,
        snapshot=snapshot,
        own_rows=output["rows"],
        own_columns=output["columns"],
        scoring=Scoring(scores=scores, mask_key=output["mask_key"]),
    )
    state, effects = aligning.start(state)
    return state, (accept, *effects)


def agreed(state: JobState, message: schemas.JobAgreed, sender: str) -> Outcome:
    """All providers have accepted: they agree on the masks that hide each one's scores."""
    terms = decode_scoring(state.contract)
    expect(
        state.several and sender == state.partner and not state.agreed,
        "unexpected_message",
        f"job.agreed from {sender}: it is said once, by the business of a job with several providers",
    )
    opening.columns_agreed(state, terms, message)
    key = schemas.MaskKey(public=state.scoring.mask_key)
    return change(state, agreed=True), tuple(Send(message=key, recipient=name) for name in state.partners[1:])
