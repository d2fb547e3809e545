"""The leakage table by kind of message: what a job's contract grants each role to receive.

The machines refuse everything else by having no row for it (`protocol.table`); a test holds the two against each
other. Audits and simulations ask this table, so that a machine cannot vouch for itself.
"""

from collections.abc import Mapping
from typing import Final

from protocol.contract import JobContract
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER

_BOTH: Final = frozenset(
    {
        "job.cancel",
        "job.done",
        "job.failed",
        "parts.seed",
        "align.list",
        "align.echo",
        "align.result",
        "features.codes",
        "features.encrypted",
        "cross.term",
        "step.products",
        "mask.key",
        "step.masked",
        "curvature.block",
    }
)

_BOTH_SCORING: Final = frozenset({"job.cancel", "job.done", "job.failed", "align.list", "align.echo", "align.result"})

GRANTED: Final[Mapping[str, frozenset[str]]] = {
    BUSINESS: _BOTH
    | {
        "job.accept",
        "job.pending",
        "job.decline",
        "align.accept",
        "score.range",
        "residual.share",
        "intercept.part",
        "model.part",
        "score.partial",
    },
    PROVIDER: _BOTH | {"job.propose", "job.agreed", "align.propose", "align.common", "link.terms", "stop.decision"},
    SCORING_BUSINESS: _BOTH_SCORING
    | {"job.accept", "job.pending", "job.decline", "align.accept", "score.partial", "score.ready"},
    SCORING_PROVIDER: _BOTH_SCORING | {"job.propose", "job.agreed", "align.propose", "align.common", "mask.key"},
}
"""Role -> kinds of the partner's messages that it may see. Receipts and probes are no messages of a job."""

_ALWAYS: Final = frozenset({"job.cancel", "job.failed"})
_SEVERAL: Final = frozenset({"job.agreed", "align.common", "mask.key", "step.masked", "intercept.part"})
_TO_ALL: Final = _ALWAYS | {"features.codes", "mask.key", "step.masked", "job.done"}
_TO_PROVIDER: Final = frozenset(
    {"job.propose", "job.agreed", "align.propose", "align.list", "align.result", "align.common"}
)
_TO_BUSINESS: Final = frozenset(
    {
        "job.accept",
        "job.pending",
        "job.decline",
        "align.accept",
        "align.list",
        "align.echo",
        "align.result",
        "score.range",
        "intercept.part",
    }
)


def granted(contract: JobContract, receiver: str, sender: str) -> frozenset[str]:
    """Kinds of messages that a contract grants `receiver` to get from `sender`, both parties of it.

    With several providers it matters who is where in the chain: link terms come from the one before, encrypted features
    go to those who hold shares of the residuals, and cross terms come from them.
    """
    if not contract.further:
        kinds = GRANTED[BUSINESS if receiver == contract.business else PROVIDER] - _SEVERAL
        wanted = {
            "curvature.block": contract.inference,
            "parts.seed": contract.layout.divides,
            "model.part": contract.whole_model,
            "score.partial": bool(contract.evaluate or contract.stop_metric),
            "stop.decision": bool(contract.stop_metric),
        }
        return kinds - {kind for kind, is_wanted in wanted.items() if not is_wanted}
    kinds = _TO_ALL | ({"model.part"} if contract.whole_model and receiver == contract.business else frozenset())
    if contract.business in (sender, receiver):
        kinds |= _TO_BUSINESS if receiver == contract.business else _TO_PROVIDER
    if receiver == contract.business and (contract.evaluate or contract.stop_metric):
        kinds |= {"score.partial"}
    if sender == contract.business and contract.stop_metric:
        kinds |= {"stop.decision"}
    if contract.layout.divides:
        kinds |= {"parts.seed"}
    order = contract.parties
    if order.index(receiver) == order.index(sender) + 1:
        kinds |= {"link.terms"}
    if receiver in contract.holders:
        kinds |= {"features.encrypted"}
    if sender in contract.holders:
        kinds |= {"cross.term"}
    if (sender, receiver) == (order[-1], contract.business):
        kinds |= {"residual.share"}
    return kinds
