"""The leakage table by kind of message: what a job's contract grants each role to receive.

The machines refuse everything else by having no row for it (`protocol.table`); a test holds the two against each
other. Audits and simulations ask this table, so that a machine cannot vouch for itself.
"""

from collections.abc import Mapping
from typing import Final

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
        "job.decline",
        "align.accept",
        "score.range",
        "residual.share",
        "intercept.part",
        "model.part",
        "score.partial",
    },
    PROVIDER: _BOTH | {"job.propose", "job.agreed", "align.propose", "align.common", "link.terms"},
    SCORING_BUSINESS: _BOTH_SCORING | {"job.accept", "job.decline", "align.accept", "score.partial", "score.ready"},
    SCORING_PROVIDER: _BOTH_SCORING | {"job.propose", "job.agreed", "align.propose", "align.common", "mask.key"},
}
"""Role -> kinds of the partner's messages that it may see. Receipts and probes are no messages of a job."""
