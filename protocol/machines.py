"""The machines: `step(state, event) -> (state, effects)`, pure, one per role.

`step` looks the event up in the transition table, lets the handler of the role decide, and checks the phase
it chose against the table. What the partner did wrong ends the job (`job.failed` names the check); what this
party's own software did wrong raises `UnexpectedEventError`.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from messages import schemas
from messages.codec import CodecError
from protocol import (
    aligning,
    business,
    closing,
    coding,
    consenting,
    evaluating,
    handing_over,
    inferring,
    iterating,
    joining,
    judging,
    matching,
    provider,
    scoring,
    scoring_opening,
    senders,
)
from protocol.contract import LOGIC_VERSION, ContractError
from protocol.effects import (
    AnyEffect,
    AnyEvent,
    BulkReceived,
    CancelDecided,
    ComputeFailed,
    ControlReceived,
    Expired,
    Finish,
    RemoteProtocolError,
    Send,
    Started,
    UnexpectedEventError,
)
from protocol.peer import Peer
from protocol.scoring_contract import SCORE, kind_of_contract
from protocol.state import (
    BUSINESS,
    PROVIDER,
    SCORING_BUSINESS,
    SCORING_PROVIDER,
    TERMINAL,
    JobState,
    Phase,
    decode_state,
    encode_state,
)
from protocol.steps import Outcome, change, fail, is_business, message_of, tell_all
from protocol.table import label_of, row_of

Handler = Callable[..., Outcome]
"""(state, event), or for a control message (state, message, name of the sender)."""

_SHARED: Final[dict[str, Handler]] = {
    "computed:align.mask": aligning.masked,
    "computed:align.sort": aligning.sorted_,
    "computed:align.list": aligning.listed,
    "bulk:align.list": aligning.list_received,
    "computed:align.echo": aligning.echoed,
    "bulk:align.echo": aligning.echo_received,
    "computed:align.open": aligning.echo_opened,
    "control:parts.seed": matching.seed_received,
    "computed:align.match": matching.matched,
    "control:align.result": matching.result_received,
    "computed:features.quantise": coding.quantised,
    "computed:keys.generate": coding.generated,
    "computed:keys.verify": coding.verified,
    "control:features.codes": coding.codes_received,
    "computed:features.encrypt": coding.encrypted,
    "bulk:features.encrypted": coding.received,
    "computed:features.open": coding.opened,
    "computed:cross.close": iterating.cross_closed,
    "control:cross.term": iterating.cross_received,
    "computed:gradient": iterating.differentiated,
    "control:step.products": iterating.products_received,
    "control:step.masked": iterating.masked_received,
    "control:mask.key": coding.mask_key_received,
    "computed:curvature.gradient": inferring.differentiated,
    "control:curvature.block": inferring.block_received,
    "computed:results": closing.results_ready,
    "control:job.done": closing.done_received,
}

_CONSENT: Final[dict[str, Handler]] = {"decline": consenting.declined, "revoke": consenting.revoked}

_SCORING: Final[dict[str, Handler]] = {
    **{label: handler for label, handler in _SHARED.items() if "align." in label},
    "control:job.done": scoring.done_received,
}

HANDLERS: Final[dict[str, dict[str, Handler]]] = {
    BUSINESS: {
        **_SHARED,
        "started": business.started,
        "control:job.accept": business.accepted,
        "control:job.pending": consenting.pending,
        "control:job.decline": business.declined,
        "control:align.accept": aligning.opened,
        "computed:score": business.scored,
        "bulk:score.partial": evaluating.received,
        "computed:score.open": judging.opened,
        "computed:evaluate.results": judging.evaluated,
        "computed:stop.judge": judging.judged,
        "computed:curvature.score": business.curvature_scored,
        "control:score.range": business.range_received,
        "computed:link.plan": business.planned,
        "computed:link.terms": business.terms_encrypted,
        "control:intercept.part": closing.part_received,
        "control:model.part": handing_over.received,
        "computed:align.evaluate": aligning.echoed,
        "computed:align.join": joining.joined,
        "computed:align.common": joining.sealed,
        "bulk:residual.share": business.share_received,
        "computed:residual.open": business.share_opened,
    },
    PROVIDER: {
        **_SHARED,
        "control:job.propose": provider.proposed,
        "computed:admit": provider.admitted,
        "approve": provider.approved,
        **_CONSENT,
        "control:align.propose": aligning.opened,
        "computed:score": provider.scored,
        "computed:evaluate.partial": evaluating.projected,
        "control:stop.decision": judging.decision_received,
        "computed:curvature.score": provider.curvature_scored,
        "bulk:link.terms": provider.terms_received,
        "computed:link.evaluate": provider.terms_evaluated,
        "computed:link.rotate": provider.terms_rotated,
        "control:job.agreed": provider.agreed,
        "bulk:align.common": joining.places_received,
        "computed:align.places": joining.places_opened,
        "computed:align.adopt": joining.adopted,
    },
    SCORING_BUSINESS: {
        **_SCORING,
        "started": scoring_opening.started,
        "control:job.accept": scoring_opening.accepted,
        "control:job.pending": consenting.pending,
        "control:job.decline": business.declined,
        "control:align.accept": aligning.opened,
        "computed:align.evaluate": aligning.echoed,
        "computed:align.join": joining.joined,
        "computed:align.common": joining.sealed,
        "bulk:score.partial": scoring.partial_received,
        "computed:score.open": scoring.opened,
        "computed:score.results": scoring.results_ready,
        "computed:score.index": scoring.made_ready,
        "control:score.ready": scoring.ready_received,
    },
    SCORING_PROVIDER: {
        **_SCORING,
        "control:job.propose": scoring_opening.proposed,
        "computed:score.admit": scoring_opening.admitted,
        "approve": scoring_opening.approved,
        **_CONSENT,
        "control:job.agreed": scoring_opening.agreed,
        "control:mask.key": scoring.mask_key_received,
        "bulk:align.common": joining.places_received,
        "computed:align.places": joining.places_opened,
        "computed:align.adopt": joining.adopted,
        "control:align.propose": aligning.opened,
        "computed:score.partial": scoring.projected,
        "computed:score.hold": scoring.made_ready,
    },
}


def step(state: JobState, event: AnyEvent) -> Outcome:
    """Apply one event. Raises UnexpectedEventError for an event this party should never have made."""
    if state.phase in TERMINAL:
        return state, ()
    label = label_of(event)
    row = row_of(state.role, state.phase)
    sender = state.partner
    if isinstance(event, ControlReceived | BulkReceived):
        sender = event.sender or sender
        if label not in row or not senders.may_send(state, sender, event.kind):
            return fail(
                state,
                "unexpected_message",
                f"{event.kind} from {sender} while {state.role} {state.me} is {state.phase.value}",
            )
    elif label not in row:
        raise UnexpectedEventError(f"{state.role} in phase {state.phase.value} cannot take {label}")
    try:
        after, effects = _handle(state, label, event)
    except RemoteProtocolError as error:
        return fail(state, error.code, error.reason)
    except ContractError as error:
        return fail(state, error.code, error.reason)
    except CodecError as error:
        return fail(state, "message_malformed", f"a message of {sender} cannot be read: {error}")
    failed_check = after.phase is Phase.FAILED
    if after.phase not in row[label] and not failed_check:
        raise UnexpectedEventError(
            f"{state.role}: {label} leads from {state.phase.value} to {after.phase.value}, not in the table"
        )
    return after, effects


def _handle(state: JobState, label: str, event: AnyEvent) -> Outcome:
    match event:
        case ComputeFailed():
            told = f"{event.function} refused its input at {state.me}; the log there says why"
            return fail(state, event.reason_code, event.reason, told=told)
        case CancelDecided():
            return _cancelled(state, event.reason, state.me)
        case Expired():
            return _expired(state)
        case ControlReceived():
            return _control(state, label, message_of(event.message), event.sender or state.partner)
        case _:
            return HANDLERS[state.role][label](state, event)


def _control(state: JobState, label: str, message: schemas.Message, sender: str) -> Outcome:
    match message:
        case schemas.JobCancel():
            after, effects = _cancelled(state, message.reason, sender)
            return after, (*_passed_on(state, message, sender), *effects)
        case schemas.JobFailed():
            after, effects = fail(state, message.reason_code, f"{sender}: {message.reason}", tell=False)
            passed = schemas.JobFailed(reason_code=message.reason_code, reason=f"{sender}: {message.reason}"[:2000])
            return after, (*_passed_on(state, passed, sender), *effects)
        case _:
            return HANDLERS[state.role][label](state, message, sender)


def _passed_on(state: JobState, message: schemas.Message, sender: str) -> tuple[Send, ...]:
    """The business tells the other providers how a job ended: one that has not heard of them cannot."""
    told = state.partners if is_business(state) else ()
    return tuple(Send(message=message, recipient=name) for name in told if name != sender)


def _cancelled(state: JobState, reason: str, by: str) -> Outcome:
    """`by`: the party whose operator decided so; this one tells the others."""
    finish = Finish(outcome="cancelled", reason_code="cancelled", reason=f"cancelled by {by}: {reason}")
    effects: tuple[AnyEffect, ...] = (finish,)
    if by == state.me:
        effects = (*tell_all(state, schemas.JobCancel(reason=reason[:2000])), finish)
    return change(state, phase=Phase.CANCELLED), effects


def _expired(state: JobState) -> Outcome:
    reason = "the contract expired before the job was done"
    told = tell_all(state, schemas.JobFailed(reason_code="expired", reason=reason))
    return change(state, phase=Phase.EXPIRED), (
        *told,
        Finish(outcome="expired", reason_code="expired", reason=reason),
    )


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role's machine, as the runner sees it."""

    name: str
    logic_version: int = LOGIC_VERSION

    def initial(self, job: str, me: str, partners: tuple[str, ...]) -> JobState:
        """The state before the first event. `partners`: in the contract's order, the business first."""
        peers = tuple(Peer(name=name) for name in partners)
        return JobState(role=self.name, job=job, me=me, partner=partners[0], partners=partners, peers=peers)

    def step(self, state: JobState, event: AnyEvent) -> Outcome:
        """See `step`."""
        return step(state, event)

    def encode(self, state: JobState) -> bytes:
        """The state's bytes."""
        return encode_state(state)

    def decode(self, data: bytes) -> JobState:
        """The inverse of `encode`."""
        return decode_state(data)


ROLES: Final[dict[str, Role]] = {name: Role(name=name) for name in HANDLERS}
"""The machines of the newest rules."""

ROLES_BY_VERSION: Final[Mapping[int, Mapping[str, Role]]] = {LOGIC_VERSION: ROLES}
"""Logic version -> role -> machine: the newest rules, and those before them, so that jobs outlive an upgrade.

A rule change moves the handlers that change into a module of the old version, registers them here under the old
number, and raises `LOGIC_VERSION`.
"""


class LogicUnknown(LookupError):
    """Rules that this software does not have: the text says which it has."""


def role_of(logic_version: int, name: str) -> Role:
    """The machine of a role under the rules of a logic version. Raises LogicUnknown."""
    roles = ROLES_BY_VERSION.get(logic_version)
    if roles is None:
        raise LogicUnknown(
            f"logic version {logic_version} is not known: this software has "
            f"{', '.join(map(str, sorted(ROLES_BY_VERSION)))}; use the version of Warren that ran the job"
        )
    if name not in roles:
        raise LogicUnknown(f"there is no role {name[:40]!r}: a job has a {BUSINESS} and a {PROVIDER}")
    return roles[name]


def answering_role(contract: bytes) -> str:
    """The role of a party to which this contract is proposed. Does not raise: the machine refuses what is none."""
    return SCORING_PROVIDER if kind_of_contract(contract) == SCORE else PROVIDER


def contract_of(event: ControlReceived | Started) -> bytes:
    """The contract that an opening event carries."""
    if isinstance(event, Started):
        return event.contract
    message = message_of(event.message)
    assert isinstance(message, schemas.JobPropose)
    return message.contract
