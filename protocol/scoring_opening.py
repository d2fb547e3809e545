"""The beginning of a scoring job: propose, ask the policy, accept, then align (see `scoring` for what follows)."""

from messages import schemas
from protocol import aligning
from protocol.contract import contract_digest, job_id
from protocol.effects import Computed, Finish, Send, Started
from protocol.scoring_contract import decode_scoring
from protocol.state import JobState, Phase, Scoring
from protocol.steps import Outcome, change, compute, expect, output_of, progress, with_peer


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
    send = Send(message=schemas.JobPropose(contract=event.contract))
    return state, (send, progress(state, "propose", waits_for=state.partner))


def accepted(state: JobState, message: schemas.JobAccept, sender: str) -> Outcome:
    """The provider signed its half: align."""
    expect(
        message.contract_digest == contract_digest(state.contract),
        "contract_differs",
        f"{sender} accepted another contract than the one proposed",
    )
    expect(message.rows >= 1, "rows_none", f"{sender} accepted without a row to score")
    return aligning.start(with_peer(state, change(state.peer(sender), accepted=True, rows=message.rows)))


def proposed(state: JobState, message: schemas.JobPropose, sender: str) -> Outcome:
    """A business asks for scores: ask the policy and the model store, and score the own data set."""
    contract = decode_scoring(message.contract)
    expect(
        job_id(message.contract) == state.job and (contract.business, contract.provider) == (sender, state.me),
        "contract_parties",
        f"the contract proposed by {sender} names other parties or another job than its envelope",
    )
    state = change(state, phase=Phase.ADMITTING, contract=message.contract)
    state = with_peer(state, change(state.peer(sender), rows=contract.business_rows))
    return state, (compute("score.admit", "score.admit", {"contract": message.contract}), progress(state, "admit"))


def admitted(state: JobState, event: Computed) -> Outcome:
    """Policy, model and data set have spoken: accept or decline."""
    output = output_of(event.output)
    if output["reason_code"]:
        code, reason = output["reason_code"], output["reason"]
        send = Send(message=schemas.JobDecline(reason_code=code, reason=reason[:2000]))
        return (
            change(state, phase=Phase.DECLINED),
            (send, Finish(outcome="declined", reason_code=code, reason=output.get("own_reason") or reason)),
        )
    accept = Send(
        message=schemas.JobAccept(
            contract_digest=contract_digest(state.contract),
            data_digest=output["data_digest"],
            schema_digest=output["schema_digest"],
            rows=output["rows"],
            columns=output["columns"],
        )
    )
    snapshot, scores = event.blobs
    state = change(state, snapshot=snapshot, own_rows=output["rows"], scoring=Scoring(scores=scores))
    state, effects = aligning.start(state)
    return state, (accept, *effects)
