"""The transition tables: which event may happen in which phase, and where it may lead.

Rule 1: everything about *when* something may be said lives here. A missing row is the illegal transition.
Rule 2: a handler (see `business`, `provider` and the modules they share) decides *which* of the phases in the
row comes next and which effects follow; `machines.step` checks its choice against the row.
Rule 3: a message of the partner may arrive while this party still works on the step before. Where the
partner is allowed to be ahead, the row leads back to the same phase and the handler keeps the message.
Rule 4: control messages of a sender arrive in the order they were sent. So a phase needs rows only for what
the partner may say after what it has said already.

The state diagram in `docs/states.md` is generated from these tables, and a test compares them.
"""

from collections.abc import Mapping
from typing import Final

from protocol.effects import AnyEvent, BulkReceived, Computed, ControlReceived
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER, SIDES, TERMINAL, Phase

Row = Mapping[str, frozenset[Phase]]
Table = Mapping[Phase, Row]


def label_of(event: AnyEvent) -> str:
    """The name of an event in the table."""
    match event:
        case ControlReceived(kind=kind):
            return f"control:{kind}"
        case BulkReceived(kind=kind):
            return f"bulk:{kind}"
        case Computed(function=function):
            return f"computed:{function}"
        case _:
            return str(event.__struct_config__.tag)


def _row(*stays: str, phase: Phase, **moves: Phase | tuple[Phase, ...]) -> dict[str, frozenset[Phase]]:
    row = {label: frozenset({phase}) for label in stays}
    for name, targets in moves.items():
        label = name.replace("__", ":").replace("_", ".")
        row[label] = frozenset(targets if isinstance(targets, tuple) else (targets,))
    return row


_P = Phase

_ALIGNING = _row(
    "computed:align.mask",
    "computed:align.sort",
    "computed:align.list",
    "bulk:align.list",
    "computed:align.echo",
    "bulk:align.echo",
    "computed:align.open",
    "control:parts.seed",
    phase=_P.ALIGNING,
    computed__align_match=(_P.ALIGNING, _P.CODING),
    control__align_result=(_P.ALIGNING, _P.CODING),
)

_CODING = _row(
    "control:features.codes",
    "bulk:features.encrypted",
    phase=_P.CODING,
    control__mask_key=(_P.CODING, _P.ENCRYPTING),
    computed__features_quantise=(_P.CODING, _P.ENCRYPTING),
    computed__keys_generate=(_P.CODING, _P.ENCRYPTING),
    computed__keys_verify=(_P.CODING, _P.ENCRYPTING),
)

_ENCRYPTING = _row(
    "bulk:features.encrypted",
    phase=_P.ENCRYPTING,
    computed__features_encrypt=(_P.ENCRYPTING, _P.SCORING),
    computed__features_open=(_P.ENCRYPTING, _P.SCORING),
)

_CROSSING = _row(
    "control:step.products",
    "control:curvature.block",
    "control:step.masked",
    "control:cross.term",
    "computed:cross.close",
    phase=_P.CROSSING,
    computed__gradient=(_P.CROSSING, _P.STEPPING, _P.EVALUATING, _P.SCORING, _P.CLOSING),
    computed__curvature_gradient=(_P.SCORING, _P.CLOSING),
)

_STEPPING = _row(
    "control:job.done",
    phase=_P.STEPPING,
    control__step_products=(_P.CROSSING, _P.EVALUATING, _P.SCORING, _P.CLOSING),
    control__step_masked=(_P.STEPPING, _P.CROSSING, _P.EVALUATING, _P.SCORING, _P.CLOSING),
)

_CLOSING = _row(
    "control:curvature.block",
    phase=_P.CLOSING,
    computed__results=(_P.CLOSING, _P.DONE),
    control__job_done=(_P.CLOSING, _P.DONE),
)

_BUSINESS: dict[Phase, dict[str, frozenset[Phase]]] = {
    _P.NEW: _row(phase=_P.NEW, started=_P.PROPOSED),
    _P.PROPOSED: _row(
        "control:job.pending",
        phase=_P.PROPOSED,
        control__job_accept=(_P.PROPOSED, _P.ALIGNING),
        control__job_decline=_P.DECLINED,
    ),
    _P.ALIGNING: {
        **_ALIGNING,
        **_row(
            "control:align.accept",
            "computed:align.evaluate",
            "computed:align.join",
            "computed:align.common",
            phase=_P.ALIGNING,
        ),
    },
    # Of several providers one that holds no share may be scoring while this party still checks another's key.
    _P.CODING: {**_CODING, "control:score.range": frozenset({_P.CODING})},
    _P.ENCRYPTING: {**_ENCRYPTING, "control:score.range": frozenset({_P.ENCRYPTING})},
    _P.SCORING: _row(
        "computed:score",
        "computed:curvature.score",
        "control:score.range",
        phase=_P.SCORING,
        computed__link_plan=_P.LINKING,
    ),
    _P.LINKING: _row(
        "computed:link.terms",
        "bulk:residual.share",
        "control:cross.term",
        *("control:step.products", "control:step.masked"),  # from a partner of whose columns none is updated
        phase=_P.LINKING,
        computed__residual_open=(_P.LINKING, _P.CROSSING),
    ),
    _P.CROSSING: {**_CROSSING, "control:score.range": frozenset({_P.CROSSING})},
    _P.STEPPING: {
        **_STEPPING,
        **_row(
            *("control:score.range", "control:intercept.part", "control:model.part"),
            *("bulk:score.partial", "computed:score.open"),  # of a provider that has all rows of products
            phase=_P.STEPPING,
        ),
    },
    _P.EVALUATING: _row(
        *("bulk:score.partial", "computed:score.open"),
        phase=_P.EVALUATING,
        computed__stop_judge=(_P.SCORING, _P.CLOSING),
    ),
    _P.CLOSING: {
        **_CLOSING,
        **_row(
            "control:intercept.part",
            "control:model.part",
            "bulk:score.partial",
            "computed:score.open",
            "computed:evaluate.results",
            phase=_P.CLOSING,
        ),
    },
}

_PROVIDER: dict[Phase, dict[str, frozenset[Phase]]] = {
    _P.NEW: _row(phase=_P.NEW, control__job_propose=_P.ADMITTING),
    _P.ADMITTING: _row(
        phase=_P.ADMITTING, computed__admit=(_P.ALIGNING, _P.APPROVING, _P.DECLINED), decline=_P.DECLINED
    ),
    _P.APPROVING: _row(phase=_P.APPROVING, approve=_P.ALIGNING, decline=_P.DECLINED),
    _P.ALIGNING: {
        **_ALIGNING,
        **_row(
            "control:job.agreed",
            "control:align.propose",
            "bulk:align.common",
            "computed:align.places",
            "computed:align.adopt",
            "control:features.codes",
            "control:mask.key",
            phase=_P.ALIGNING,
        ),
    },
    _P.CODING: _CODING,
    _P.ENCRYPTING: _ENCRYPTING,
    _P.SCORING: _row(phase=_P.SCORING, computed__score=_P.LINKING, computed__curvature_score=_P.LINKING),
    _P.LINKING: _row(
        "bulk:link.terms",
        "control:step.masked",  # from a fellow of whose columns none is updated
        phase=_P.LINKING,
        computed__link_evaluate=(_P.LINKING, _P.CROSSING),
        computed__link_rotate=(_P.LINKING, _P.CROSSING),
    ),
    _P.CROSSING: _CROSSING,
    _P.STEPPING: _STEPPING,
    _P.EVALUATING: _row(
        *("computed:evaluate.partial", "control:job.done"),  # of a fellow that was told first
        phase=_P.EVALUATING,
        control__stop_decision=(_P.SCORING, _P.CLOSING),
    ),
    _P.CLOSING: {**_CLOSING, **_row("computed:evaluate.partial", phase=_P.CLOSING)},
}

_SCORING_ALIGNING = {
    **{label: targets for label, targets in _ALIGNING.items() if label != "control:parts.seed"},
    "computed:align.match": frozenset({_P.ALIGNING, _P.PROJECTING}),
    "control:align.result": frozenset({_P.ALIGNING, _P.PROJECTING}),
}

_SCORING_CLOSING = _row(phase=_P.CLOSING, control__job_done=_P.DONE)

_SCORING_BUSINESS: dict[Phase, dict[str, frozenset[Phase]]] = {
    _P.NEW: _BUSINESS[_P.NEW],
    _P.PROPOSED: _BUSINESS[_P.PROPOSED],
    _P.ALIGNING: {
        **_SCORING_ALIGNING,
        **_row(
            "control:align.accept",
            "computed:align.evaluate",
            "computed:align.join",
            "computed:align.common",
            phase=_P.ALIGNING,
        ),
    },
    _P.PROJECTING: _row(
        "bulk:score.partial",
        "computed:score.open",
        "control:job.done",
        phase=_P.PROJECTING,
        computed__score_results=(_P.CLOSING, _P.DONE),
        computed__score_index=(_P.PROJECTING, _P.SERVING),
        control__score_ready=(_P.PROJECTING, _P.SERVING),
    ),
    _P.CLOSING: _SCORING_CLOSING,
    _P.SERVING: _row(phase=_P.SERVING),
}

_SCORING_PROVIDER: dict[Phase, dict[str, frozenset[Phase]]] = {
    _P.NEW: _PROVIDER[_P.NEW],
    _P.ADMITTING: _row(
        phase=_P.ADMITTING, computed__score_admit=(_P.ALIGNING, _P.APPROVING, _P.DECLINED), decline=_P.DECLINED
    ),
    _P.APPROVING: _PROVIDER[_P.APPROVING],
    _P.ALIGNING: {
        **_SCORING_ALIGNING,
        **_row(
            "control:align.propose",
            "control:job.agreed",
            "control:mask.key",
            "bulk:align.common",
            "computed:align.places",
            "computed:align.adopt",
            phase=_P.ALIGNING,
        ),
    },
    _P.PROJECTING: _row(
        "control:mask.key",
        phase=_P.PROJECTING,
        computed__score_partial=(_P.PROJECTING, _P.CLOSING),
        computed__score_hold=_P.SERVING,
    ),
    _P.CLOSING: _SCORING_CLOSING,
    _P.SERVING: _row(phase=_P.SERVING),
}

_ENDINGS: Final[dict[str, frozenset[Phase]]] = {
    "compute_failed": frozenset({_P.FAILED}),
    "cancel": frozenset({_P.CANCELLED}),
    "expired": frozenset({_P.EXPIRED}),
    "control:job.cancel": frozenset({_P.CANCELLED}),
    "control:job.failed": frozenset({_P.FAILED}),
}
"""Rows that every phase that is not terminal has."""

_BEGINNING: Final = frozenset({_P.NEW, _P.ADMITTING, _P.APPROVING})
"""Phases of a provider that has not accepted yet."""


def _endings(role: str, phase: Phase) -> Row:
    """What a provider has agreed to it may take back."""
    if SIDES[role] == BUSINESS:
        return _ENDINGS
    return {**_ENDINGS, "revoke": frozenset({_P.DECLINED if phase in _BEGINNING else _P.FAILED})}


TRANSITIONS: Final[Mapping[str, Table]] = {
    role: {phase: {**_endings(role, phase), **row} for phase, row in table.items()}
    for role, table in (
        (BUSINESS, _BUSINESS),
        (PROVIDER, _PROVIDER),
        (SCORING_BUSINESS, _SCORING_BUSINESS),
        (SCORING_PROVIDER, _SCORING_PROVIDER),
    )
}


def row_of(role: str, phase: Phase) -> Row:
    """The row of a phase; a terminal phase has none: what was still under way is ignored there."""
    return {} if phase in TERMINAL else TRANSITIONS[role][phase]
