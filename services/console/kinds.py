"""The kinds of messages in words that need no knowledge of the protocol: what of this party is in them, for people."""

from typing import Final

KINDS: Final[dict[str, str]] = {
    "job.propose": "the contract",
    "job.accept": "consent to the contract, digests of the data, numbers of rows and columns",
    "job.pending": "that the policy asks a person",
    "job.decline": "the contract declined, with a reason",
    "job.agreed": "numbers of columns of each provider",
    "job.cancel": "the job ended by a person, with a reason",
    "job.done": "how many iterations there were, and that both sides got the same",
    "job.failed": "the job ended by a fault, with a reason",
    "align.propose": "how many identifiers there are to compare",
    "align.accept": "how many identifiers there are to compare",
    "align.list": "identifiers, blinded: nobody can read them",
    "align.echo": "the other's identifiers, blinded a second time",
    "align.result": "how many rows are common, and a digest that they are the same",
    "align.common": "which of the receiver's own rows are common",
    "mask.key": "a public key for masks",
    "features.codes": "numbers of the columns in place of their names, and a public key",
    "features.encrypted": "columns, encrypted under the sender's own key",
    "parts.seed": "a random number for the division of rows",
    "score.range": "a rounded range of scores",
    "link.terms": "terms of the link function for each row, encrypted under the business's key",
    "residual.share": "residuals behind a random mask",
    "cross.term": "sums over all rows, encrypted, with release noise",
    "step.products": "products of gradients: numbers that the receiver can read",
    "stop.decision": "whether training goes on, and which iteration is the best so far",
    "step.masked": "products of gradients behind masks that cancel",
    "intercept.part": "a mean of scores behind a mask that cancels",
    "score.partial": "rounded scores of common rows: numbers that the business can read",
    "score.ready": "how many rows can be asked for",
    "curvature.block": "curvature of the own columns, in a basis of its own",
    "model.part": "names, coefficients and preparation of the own columns",
}


def words_of(kind: str) -> str:
    """What a message of a kind carries; empty for one that this version does not know."""
    return KINDS.get(kind, "")
