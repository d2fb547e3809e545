"""What the beginnings of all kinds of jobs share: providers accept or decline, and all align when all have accepted."""

from typing import Any

from messages import schemas
from protocol import aligning
from protocol.contract import contract_digest, job_id
from protocol.effects import AnyEffect, Finish, Progress, Send
from protocol.peer import Peer
from protocol.scoring_contract import AnyContract
from protocol.state import APPROVAL, JobState, Phase
from protocol.steps import Outcome, change, expect, progress, tell_all, waits_for, with_peer


def check_proposed(state: JobState, peer: Peer, contract: AnyContract, encoded: bytes) -> None:
    """A business proposes the job that its envelope names, to those that it names. Raises RemoteProtocolError."""
    others = tuple(name for name in contract.parties if name != state.me)
    expect(
        job_id(encoded) == state.job
        and contract.business == peer.name == state.partner
        and state.me in contract.providers
        and others == state.partners,
        "contract_parties",
        f"the contract proposed by {peer.name} names other parties or another job than its envelope",
    )


def check_accepted(state: JobState, peer: Peer, message: schemas.JobAccept) -> None:
    """A provider accepts once, and the contract that was proposed. Raises RemoteProtocolError."""
    expect(not peer.accepted, "accept_repeated", f"{peer.name} accepted twice")
    expect(
        message.contract_digest == contract_digest(state.contract),
        "contract_differs",
        f"{peer.name} accepted another contract than the one proposed",
    )


def align_when_accepted(state: JobState, peer: Peer, message: schemas.JobAccept) -> Outcome:
    """Note that a provider has accepted; when all have, tell them so and align."""
    state = with_peer(state, change(peer, accepted=True, rows=message.rows, columns=message.columns))
    if not all(one.accepted for one in state.peers):
        return state, (waiting_for_answers(state),)
    sends: tuple[AnyEffect, ...] = ()
    if state.several:
        sends = tell_all(state, schemas.JobAgreed(columns=[one.columns for one in state.peers]))
    state, effects = aligning.start(change(state, agreed=True))
    return state, (*sends, *effects)


def waiting_for_answers(state: JobState) -> Progress:
    """Whose answer to the contract is missing; where stewards are asked, whose steward's."""
    missing = [one for one in state.peers if not one.accepted]
    pending = [one.name for one in missing if one.pending]
    return progress(
        state, APPROVAL if pending else "propose", waits_for=waits_for(pending or [one.name for one in missing])
    )


def decline(state: JobState, output: dict[str, Any]) -> Outcome:
    """The provider's own software says no: tell the business the reason that may travel."""
    code, reason = output["reason_code"], output["reason"]
    send = Send(message=schemas.JobDecline(reason_code=code, reason=reason[:2000]))
    finish = Finish(outcome="declined", reason_code=code, reason=output.get("own_reason") or reason)
    return change(state, phase=Phase.DECLINED), (send, finish)


def acceptance(state: JobState, output: dict[str, Any]) -> Send:
    """The provider's half of the contract."""
    return Send(
        message=schemas.JobAccept(
            contract_digest=contract_digest(state.contract),
            data_digest=output["data_digest"],
            schema_digest=output["schema_digest"],
            rows=output["rows"],
            columns=output["columns"],
        )
    )


def columns_agreed(state: JobState, contract: AnyContract, message: schemas.JobAgreed) -> dict[str, int]:
    """How many columns each provider brings, the own ones as they are. Raises RemoteProtocolError."""
    columns = dict(zip(contract.providers, message.columns, strict=False))
    expect(
        len(message.columns) == len(contract.providers) and columns[state.me] == state.own_columns,
        "columns",
        f"{state.partner} says that {state.me} brings {columns.get(state.me)} columns, or counts other providers",
    )
    return columns
