"""The state of one job at one party: small, serialisable, nothing of the length of the data.

It is a cache of the journal: folding the job's events through the machine gives it again.
"""

from enum import StrEnum
from typing import Final

import msgspec

from protocol.contract import JobContract
from protocol.contract_rules import decode_contract
from protocol.effects import STATE_BYTES_MAX, BlobRef
from protocol.peer import Peer, Record, SendQueue
from protocol.scoring_contract import AnyContract, decode_any

BUSINESS: Final = "business"
PROVIDER: Final = "provider"
SCORING_BUSINESS: Final = "scoring-business"
SCORING_PROVIDER: Final = "scoring-provider"

SCORING_ROLES: Final = frozenset({SCORING_BUSINESS, SCORING_PROVIDER})

SIDES: Final[dict[str, str]] = {
    BUSINESS: BUSINESS,
    PROVIDER: PROVIDER,
    SCORING_BUSINESS: BUSINESS,
    SCORING_PROVIDER: PROVIDER,
}
"""Role of a machine -> which of the two parties it is: the same in training and in scoring."""


class Phase(StrEnum):
    """Where a job stands. The order is the order of a job (protocol.md section 1)."""

    NEW = "new"
    PROPOSED = "proposed"
    ADMITTING = "admitting"
    APPROVING = "approving"
    ALIGNING = "aligning"
    CODING = "coding"
    ENCRYPTING = "encrypting"
    SCORING = "scoring"
    LINKING = "linking"
    CROSSING = "crossing"
    STEPPING = "stepping"
    EVALUATING = "evaluating"
    CLOSING = "closing"
    PROJECTING = "projecting"
    SERVING = "serving"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    EXPIRED = "expired"


APPROVAL: Final = "approval"
"""The stage, for people, of a job that waits for a steward: this party's own where it waits for no partner."""

TERMINAL: Final = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED, Phase.DECLINED, Phase.EXPIRED})


class Admission(Record, frozen=True, kw_only=True):
    """What the first task of a provider found, kept while its steward is asked: `output` and blobs of the task."""

    output: bytes
    blobs: tuple[BlobRef, ...]


class Alignment(Record, frozen=True, kw_only=True):
    """What all parties have in common: this party's rows in the common order.

    `people`: at one of several providers, a digest of whose rows they are, where the contract binds masks to it.
    """

    matching: bool = False
    rows: BlobRef | None = None
    count: int = -1
    digest: bytes = b""
    iterations_allowed: int = 0
    people: bytes = b""


class Parts(Record, frozen=True, kw_only=True):
    """Seeds of the rows' division, and how many rows came out: training blocks, validation, test."""

    own_seed: bytes = b""
    partner_seed: bytes = b""
    blocks: tuple[int, ...] = ()
    validation: int = 0
    test: int = 0


class Features(Record, frozen=True, kw_only=True):
    """Own columns and own keys."""

    matrix: BlobRef | None = None
    label: BlobRef | None = None
    history: BlobRef | None = None
    preparation: BlobRef | None = None
    modulus: bytes = b""
    proof: bytes = b""
    mask_key: bytes = b""


class Sample(Record, frozen=True, kw_only=True):
    """What an iteration is over, where that is not everything.

    `rows` of the training rows from `first` on, after the last one the first again; 0: all. `codes`: the features
    that are updated; none: all. `against`: former gradients that the new one is multiplied with. `classes`:
    those that go on, in a job of several.
    """

    first: int = 0
    rows: int = 0
    codes: tuple[int, ...] = ()
    against: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()


class Round(Record, frozen=True, kw_only=True):
    """One iteration: everything that is forgotten when the next one starts."""

    sample: Sample = Sample()
    scored: bool = False
    scores: BlobRef | None = None
    bound: float = 0.0
    spread: float = 0.0
    planned: bool = False
    terms: int = -1
    stretch: float = 0.0
    rows_per_chunk: int = 0
    chunks: int = 0
    chunks_made: int = 0
    chunks_computed: int = 0
    queue: SendQueue = SendQueue()
    received: int = 0
    in_work: tuple[BlobRef | None, ...] = ()
    evaluated: int = 0
    local_sums: tuple[bytes, ...] = ()
    differentiating: bool = False
    products: tuple[float, ...] = ()
    masked: tuple[bytes, ...] = ()
    largest: float = 0.0


class ScoresOf(Record, frozen=True, kw_only=True):
    """A provider's chunks of scores, as far as they have come."""

    provider: str
    received: int = 0
    opening: tuple[BlobRef | None, ...] = ()
    partials: tuple[BlobRef | None, ...] = ()


class Evaluation(Record, frozen=True, kw_only=True):
    """Figures of a model on parts of the rows: own chunks of scores, the providers', and what came of them.

    In a job that stops early there is one after the other.
    """

    made: int = 0
    queue: SendQueue = SendQueue()
    scores: tuple[ScoresOf, ...] = ()
    results: tuple[BlobRef, ...] = ()


class Stopping(Record, frozen=True, kw_only=True):
    """Early stopping: the combinations of the model under evaluation (`candidate`), of the step that follows if
    training goes on (`onward`), and of the `best` iteration's model (`kept`).

    `evaluated`: iterations; `figures`: the metric at each, at the business alone. `ended`: why the loop has ended by
    itself, if it has.
    """

    candidate: tuple[float, ...] = ()
    onward: tuple[float, ...] = ()
    ended: str = ""
    best: int = 0
    kept: tuple[float, ...] = ()
    evaluated: tuple[int, ...] = ()
    figures: tuple[float, ...] = ()


class Inference(Record, frozen=True, kw_only=True):
    """The inference stage: `iterations` of training before it, the present one of `turns`, and what it has found.

    `told` and `partner_told`: digests of the own and the partner's `curvature.block`.
    """

    iterations: int
    turns: int
    turn: int = -1
    curvature: BlobRef | None = None
    along: BlobRef | None = None
    told: bytes = b""
    partner_told: bytes = b""
    partner_block: bytes = b""


class IterationFacts(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the history keeps of an iteration; every number is known to both parties.

    `rows`: those that it was over, where these were not all training rows. `terms` is -1 where nothing was encrypted.
    """

    iteration: int
    largest_business: float
    largest_provider: float
    terms: int
    bound: float
    step: float
    rows: int = 0


class Scoring(Record, frozen=True, kw_only=True):
    """A scoring job after its alignment.

    `scores`: own scores of all own rows; `held`: what single rows are answered from. `mask_key`: of several providers,
    the public half of what hides the own scores.
    """

    scores: BlobRef | None = None
    made: int = 0
    computed: int = 0
    queue: SendQueue = SendQueue()
    held: BlobRef | None = None
    mask_key: bytes = b""


class JobState(Record, frozen=True, kw_only=True):
    """One job at one party.

    `partners`: the names of all, in the order of the contract, the business first; `partner`: the first;
    `peers`: what is known of each, in the same order. `agreed`: whether providers may speak to each other.
    `turns_beside`: iterations of a cross-validation that are no gradients over all rows; `held`: what a check of it
    keeps for the next one; `validation`: what came of it. `admission`: while the own steward is asked.
    `provider_constants`: at the business, what several providers' centres made of each class's intercept.
    """

    role: str
    job: str
    me: str
    partner: str
    partners: tuple[str, ...] = ()
    phase: Phase = Phase.NEW
    contract: bytes = b""
    snapshot: BlobRef | None = None
    admission: Admission | None = None
    own_rows: int = 0
    own_columns: int = 0
    agreed: bool = False
    peers: tuple[Peer, ...] = ()
    rows: int = 0
    iteration: int = 0
    iterations_max: int = 0
    turns_beside: int = 0
    align: Alignment = Alignment()
    parts: Parts = Parts()
    features: Features = Features()
    round: Round = Round()
    loop: bytes = b""
    facts: tuple[IterationFacts, ...] = ()
    converged: bool = False
    stop_reason: str = ""
    agreement: bytes = bytes(32)
    results: tuple[BlobRef, ...] = ()
    combination: tuple[float, ...] = ()
    held: BlobRef | None = None
    validation: bytes = b""
    scoring: Scoring = Scoring()
    inference: Inference | None = None
    provider_constant: float = 0.0
    provider_constants: tuple[float, ...] = ()
    evaluation: Evaluation = Evaluation()
    stopping: Stopping = Stopping()

    @property
    def several(self) -> bool:
        """Whether the job has more than one provider, and so other rules for what nobody may learn of one party."""
        return len(self.partners) > 1

    def peer(self, name: str) -> Peer:
        """The record of a partner; `""` is the first. Raises KeyError for a party that is none."""
        for peer in self.peers:
            if peer.name == (name or self.partner):
                return peer
        raise KeyError(name)

    @property
    def terms_of(self) -> JobContract:
        """The job contract, decoded."""
        return decode_contract(self.contract)

    @property
    def alignment_terms(self) -> AnyContract:
        """The contract of either kind, for what both agree on about the alignment."""
        return decode_any(self.contract)


def encode_state(state: JobState) -> bytes:
    """The state's bytes; raises ValueError beyond STATE_BYTES_MAX (a job too large for this version)."""
    data = msgspec.msgpack.encode(state)
    if len(data) > STATE_BYTES_MAX:
        raise ValueError(
            f"the state of job {state.job} would take {len(data)} bytes, {STATE_BYTES_MAX} at most: "
            "fewer rows, columns or iterations"
        )
    return data


def decode_state(data: bytes) -> JobState:
    """The inverse of `encode_state`."""
    return msgspec.msgpack.decode(data, type=JobState)
