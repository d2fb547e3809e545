"""Who may send what in a job of several providers: the business, the last provider, fellows, or all.

The transition tables say when a kind of message may come, by role; this says from whom. A job of one provider has
one partner, and everything comes from it.
"""

from collections.abc import Mapping
from typing import Final

from protocol.facts import before_in_chain
from protocol.state import SCORING_ROLES, JobState
from protocol.steps import is_business

_ALL: Final = frozenset(
    {"job.cancel", "job.failed", "job.done", "features.codes", "mask.key", "step.masked", "parts.seed"}
)
_SINGLE: Final = frozenset({"step.products"})
"""Kinds of jobs of one provider only."""

_SEVERAL: Final = frozenset({"job.agreed", "align.common", "mask.key", "step.masked", "intercept.part"})
"""Kinds of jobs of several providers only."""

_BUSINESS: Final = frozenset(
    {"job.propose", "job.agreed", "align.propose", "align.list", "align.result", "align.common"}
)
_PROVIDERS: Final = frozenset(
    {"job.accept", "job.pending", "job.decline", "align.accept", "align.list", "align.echo", "align.result"}
)


def _may_score(state: JobState, sender: str, kind: str) -> bool:
    """`may_send` in a scoring job of several providers: among these only the keys of masks travel."""
    if kind in ("job.cancel", "job.failed"):
        return True
    if is_business(state):
        return kind in _PROVIDERS | {"job.done", "score.partial", "score.ready"}
    if sender != state.partner:
        return kind == "mask.key"
    return kind in _BUSINESS | {"job.done"}


def may_send(state: JobState, sender: str, kind: str) -> bool:
    """Whether the job's contract lets `sender` send this party messages of `kind`."""
    if sender not in state.partners:
        return False
    if not state.several:
        return kind not in _SEVERAL
    if state.role in SCORING_ROLES:
        return _may_score(state, sender, kind)
    if kind in _SINGLE:
        return False
    if kind in _ALL:
        return True
    # Until there is a contract only the business speaks, and the first partner is the business.
    if not state.contract or (sender == state.partner and kind in _BUSINESS and state.role == "provider"):
        return sender == state.partner
    contract = state.terms_of
    by_kind: Mapping[str, bool] = {
        "score.range": state.me == contract.business,
        "intercept.part": state.me == contract.business,
        "model.part": state.me == contract.business,
        "score.partial": state.me == contract.business,
        "stop.decision": sender == contract.business,
        "residual.share": state.me == contract.business and sender == contract.providers[-1],
        "cross.term": sender in contract.holders,
        "features.encrypted": state.me in contract.holders,
        "link.terms": state.me != contract.business and sender == before_in_chain(state).name,
    }
    return by_kind.get(kind, state.me == contract.business and kind in _PROVIDERS)
