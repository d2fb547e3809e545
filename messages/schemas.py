"""The messages of a job that are numbered in its sequence: one frozen struct each, tagged with name and version.

Each docstring says who sends it, when, and what it reveals to whom. The table of `docs/protocol.md`
("Messages of a job") is checked against all messages by a test. A tag is never reused: a changed
message gets a new version.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

# Bounds refuse NaN and infinity: msgspec's plain `float` accepts both.
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e300)]
Count = Annotated[int, Meta(ge=0, le=2**48)]
Iteration = Annotated[int, Meta(ge=1, le=100_000)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
# `\Z`, not `$`, which lets a line feed follow: "job-1\n" is no name.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")]
ReasonCode = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}\Z")]
Reason = Annotated[str, Meta(max_length=2000)]
BulkBytes = Annotated[bytes, Meta(max_length=2**21)]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every message of a job has in common: nothing but being one."""


class JobPropose(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.propose.v1"):
    """Business to provider, first. Reveals the contract, to the parties it names only."""

    contract: Annotated[bytes, Meta(max_length=65_536)]


class JobAccept(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.accept.v1"):
    """Provider to business: the provider's signed half of the contract. Reveals its number of rows and columns."""

    contract_digest: Digest
    data_digest: Digest
    schema_digest: Digest
    rows: Count
    columns: Count


class PartsSeed(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="parts.seed.v1"):
    """Both ways (of several: to all), where the contract divides the rows. Reveals nothing but random bytes.

    The provider's first, after `job.accept` (of several each one's, after `job.agreed`); when the business has all, its
    own, to which it committed in the contract.
    """

    seed: Digest


class JobPending(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.pending.v1"):
    """Provider to business, before its accept or decline: its steward is asked. Reveals that its policy asks."""

    contract_digest: Digest


class JobDecline(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.decline.v1"):
    """Provider to business instead of an accept. Reveals the reason."""

    reason_code: ReasonCode
    reason: Reason


class JobCancel(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.cancel.v1"):
    """Either party, any time: an operator ended the job. Reveals the reason given."""

    reason: Reason


class JobAgreed(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.agreed.v1"):
    """Business to every provider of a job with several, once all have accepted: from now on they may speak.

    Reveals the number of columns that each provider brings, in the contract's order.
    """

    columns: Annotated[list[Annotated[int, Meta(ge=1, le=10_000)]], Meta(max_length=100)]


class JobDone(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="job.done.v1"):
    """Either party, last. `agreement` digests all shared scalars: both must have derived the same ones.

    `constant`, from the provider, is what centring its columns leaves over: the business adds it to its
    intercept. Reveals the mean of the provider's scores (0 from the business, and from one of several providers,
    which sends `intercept.part`). `constants`: the same of each class in a job of several, whose `constant` is 0.
    """

    iterations: Count
    converged: bool
    agreement: Digest
    constant: Finite
    constants: Annotated[list[Finite], Meta(max_length=1000)] = []


class JobFailed(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="job.failed.v1"):
    """Either party, any time: a check failed. Reveals which one, never a value."""

    reason_code: ReasonCode
    reason: Reason


class AlignPropose(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.propose.v1"):
    """Business to provider. Reveals the size of its identifier list; `commitment` fixes the masked list."""

    suite: Annotated[str, Meta(max_length=40)]
    count: Count
    chunk_items: Annotated[int, Meta(ge=1, le=65_536)]
    schema_digest: Digest
    commitment: Digest


class AlignAccept(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.accept.v1"):
    """Provider to business: the same about its own list."""

    suite: Annotated[str, Meta(max_length=40)]
    count: Count
    chunk_items: Annotated[int, Meta(ge=1, le=65_536)]
    schema_digest: Digest
    commitment: Digest


class AlignList(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.list.v1"):
    """Both ways, bulk: masked points of 32 bytes, strictly increasing. Reveals nothing but their number."""

    points: BulkBytes


class AlignEcho(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.echo.v1"):
    """Both ways, bulk, answers one `align.list` chunk: 16-byte tokens. Reveals which own rows are in both."""

    tokens: BulkBytes


class AlignResult(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.result.v1"):
    """Both ways: size of the intersection and digest of its tokens in order; both must agree.

    `iterations_allowed` is what the sender's release caps leave for this row set; the smaller one counts. With
    several providers the digest is of the places in `align.common`, the provider speaks first, and the business
    answers all with the smallest number of iterations.
    """

    count: Count
    digest: Digest
    iterations_allowed: Count


class AlignCommon(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="align.common.v1"):
    """Business to each of several providers, bulk: the rows that all parties have, in their common order.

    A row is its place in the receiver's own masked list (4 bytes, little-endian). Reveals which of the receiver's
    rows all parties have, and nothing about the rows that it shares with the business alone.
    """

    places: BulkBytes


class MaskKey(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mask.key.v1"):
    """Either party, to every other where there are three or more: an X25519 public key of this job alone.

    From it both derive the masks that cancel between them. Reveals nothing.
    """

    public: Digest


class FeaturesCodes(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="features.codes.v1"):
    """Both ways: own feature codes, Paillier modulus and the proof that it is sound.

    Reveals the number of columns, never their names.
    """

    codes: Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(max_length=100_000)]
    modulus: Annotated[bytes, Meta(max_length=2048)]
    proof: Annotated[bytes, Meta(max_length=65_536)]
    slot_bits: Annotated[int, Meta(ge=1, le=4096)]
    columns_per_ciphertext: Annotated[int, Meta(ge=1, le=4096)]


class FeaturesEncrypted(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="features.encrypted.v1"):
    """Both ways, bulk, once per job: rows of packed columns under the sender's own Paillier key."""

    first_row: Count
    rows: Count
    ciphertexts: BulkBytes


class ScoreRange(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="score.range.v1"):
    """Provider to business, start of an iteration: interval and spread of its scores on a coarse grid."""

    iteration: Iteration
    bound: NonNegative
    spread: NonNegative


class LinkTerms(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="link.terms.v1"):
    """Business to provider, bulk: encrypted expansion of each row's residual, `terms` + 1 ciphertexts a row.

    Reveals the expansion's order K and stretch T. `terms` is 2K for logistic, 1 for the log link, 0 for
    linear and for the first iteration.
    """

    iteration: Iteration
    first_row: Count
    rows: Count
    terms: Annotated[int, Meta(ge=0, le=256)]
    bound: NonNegative
    stretch: NonNegative
    ciphertexts: BulkBytes


class ResidualShare(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="residual.share.v1"):
    """Provider to business, bulk: packed residuals under a one-time mask. Uniform, so reveals nothing."""

    iteration: Iteration
    first_row: Count
    rows: Count
    ciphertexts: BulkBytes


class CrossTerm(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cross.term.v1"):
    """Both ways: windowed product of the receiver's encrypted features with the sender's residual share.

    Reveals the receiver's own gradient, to 1/16 of a record.
    """

    iteration: Iteration
    ciphertexts: Annotated[bytes, Meta(max_length=2**20)]


class StepProducts(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="step.products.v1"):
    """Both ways: the new row of the sender's Gram matrix and its largest preconditioned gradient entry.

    Reveals the sender's gradient trajectory up to a rotation.
    """

    iteration: Iteration
    products: Annotated[list[Finite], Meta(max_length=100_001)]
    largest: NonNegative


class StepMasked(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="step.masked.v1"):
    """Either party, to every other: the `step.products` of a job with several providers.

    `row`: m+1 numbers of 32 bytes in units of 2^-80 modulo 2^256, under masks that cancel in the sum of all parties:
    reveals that sum, to all. `largest`, rounded up to a power of 2^(1/4), is not masked.
    """

    iteration: Iteration
    row: Annotated[list[Digest], Meta(max_length=100_001)]
    largest: NonNegative


class StopDecision(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="stop.decision.v1"):
    """Business to every provider, in a job that stops early, after each evaluation of the validation rows.

    `best`: the iteration whose model is kept so far, `stop`: training ends with it. Reveals just that of the business's
    metric: at which evaluations it got better, and when its patience ended.
    """

    iteration: Iteration
    best: Iteration
    stop: bool


class InterceptPart(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="intercept.part.v1"):
    """Provider to business, before its `job.done`, where there are several providers: its part of the intercept.

    A number as in `step.masked`, of several classes one for each, under masks between the providers that cancel in
    their sum. Reveals the sum of the means of all providers' scores.
    """

    masked: Annotated[bytes, Meta(min_length=32, max_length=32 * 50)]


class ModelPart(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="model.part.v1"):
    """Provider to business, at the end and only where the contract has `whole_model`: its own part of the model.

    One name, coefficient, centre and step of the grid for each prepared column, and the preparation (msgpack; nothing
    where there is none). Reveals all of it: with it the business needs the provider for no score of a row it has.
    """

    names: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=1000)]
    coefficients: Annotated[list[Finite], Meta(max_length=1000)]
    centres: Annotated[list[Finite], Meta(max_length=1000)]
    steps: Annotated[list[Finite], Meta(max_length=1000)]
    preparation: Annotated[bytes, Meta(max_length=32_768)]


class ScorePartial(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="score.partial.v1"):
    """Provider to business, bulk: the sender's scores of a named set of aligned rows, in their common order.

    `part` names the set (`all` in a scoring job), `iteration` the evaluation (0 in a scoring job, the iteration itself
    in one that stops early). `values`: 8 bytes
    a row, little-endian, in units of 1/1000, modulo 2^64, with one provider as they are, with several under masks that
    cancel in their sum. Reveals one rounded projection of each row: of the provider's columns, or of all providers'.
    """

    part: Name
    iteration: Annotated[int, Meta(ge=0, le=100_000)]
    first_row: Count
    rows: Count
    values: BulkBytes


class ScoreReady(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="score.ready.v1"):
    """Provider to business: from now on it answers for single aligned rows, so many of them. Reveals nothing new."""

    rows: Count


class CurvatureBlock(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="curvature.block.v1"):
    """Both ways, at the end of the inference stage: the curvature of the sender's own block, in a basis of its own.

    `gram`: lower triangle by rows, in the sender's whitened and turned basis; `gradient`: in the same basis, at the
    target parameters; `noise`: size of the release noise in it; `unexplained`: the sender's part of the mean square
    residual of a linear model. Reveals how much of each own column the sender's columns explain (docs/inference.md).
    """

    gram: Annotated[list[Finite], Meta(max_length=5000)]
    gradient: Annotated[list[Finite], Meta(max_length=100)]
    noise: NonNegative
    unexplained: Finite


BULK: Final[frozenset[str]] = frozenset(
    {"align.list", "align.echo", "align.common", "features.encrypted", "link.terms", "residual.share", "score.partial"}
)
"""Kinds that travel on the bulk class, chunked, under credit."""
