"""The job contract: what both parties sign before anything of a job is computed.

The business's `job.propose` carries the contract, the provider's `job.accept` its half (digests of its data);
both are signed by their envelopes. The job's identifier is half nonce, half digest of the contract, so every
header of the job names the contract it belongs to. The rules that it has to keep are in `contract_rules`.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from learning.links.family import VALUE_BITS, VALUE_BITS_MAX, Family, family_of
from learning.parts import Layout
from learning.solvers.blocks import Draw
from learning.solvers.loops import SampleSet, Solver
from messages.schemas import Digest, Name, NonNegative

PROTOCOL_VERSION: Final = 1
LOGIC_VERSION: Final = 1
LOGIC_VERSIONS: Final = frozenset({LOGIC_VERSION})
"""Versions of the rules that this software has machines for: the newest, and those before it."""

LEAKAGE_VERSION: Final = 1
KEY_BITS_MIN: Final = 2048
INSECURE_KEY_BITS_MIN: Final = 512
RELEASE_NOISE: Final = 1 / 32
CONTRACT_BYTES_MAX: Final = 65_536
BATCHES_MAX: Final = 16
FOLDS_MAX: Final = 10
PENALTIES_MAX: Final = 12
ITERATIONS_MAX: Final = {"fraction": 64, "block": 320}
"""What the state of a job has room for: the history of these loops grows with every iteration."""
INFERENCE_COLUMNS_MAX: Final = 60
"""Columns of a party in a job with standard errors: each is an iteration, and a summary must fit a message."""

EVALUATIONS_MAX: Final = 100
"""Of the validation rows, in a job that stops early."""

_REASON_MAX: Final = 500

MARKS: Final[dict[str, str]] = {
    "small_sample": "fewer rows, thinner columns and more released entries than the privacy rules allow; "
    "the release noise may be switched off, and with few rows per column the provider may read single labels",
    "few_columns": "a party with fewer than 3 columns shows its gradient almost in the clear",
    "insecure": "Paillier keys below 2048 bits: for tests only",
    "reproducible": "the release noise comes from a seed that each party configured, so that runs can be compared",
}

Mark = Literal["small_sample", "few_columns", "insecure", "reproducible"]
Task = Literal["logistic", "linear", "poisson", "gamma", "tweedie"]
EvaluatedPart = Literal["training", "validation", "test"]
Retention = Literal["digests", "full"]
"""What is kept of a job that has ended: digests, or everything that an auditor needs to run it again."""

StopMetric = Literal["", "log_loss", "deviance", "auc", "ks", "brier", "rmse", "r2", "gini", "accuracy"]
"""Figures of `learning.evaluation.part_figures`; none: the job does not stop early."""

Evaluations = Annotated[int, Meta(ge=0, le=EVALUATIONS_MAX)]
StopEvery = Annotated[int, Meta(ge=0, le=1000)]

DatasetName = Name

CLASSES_MAX: Final = 50

FAMILY_FIELDS: Final = (
    "tweedie_power",
    "value_bits",
    "residual_unit",
    "curvature",
    "weighted",
    "shifted",
    "l1",
    "warm_start",
    "classes",
)
"""Fields that tasks are told where they are not at their default: the generalised linear model
(`learning.links.family`), its penalty, and the model to start from."""

LATER_FIELDS: Final[frozenset[str]] = frozenset(
    {
        "parts_commitment",
        "validation",
        "test",
        "inference",
        "whole_model",
        "first_gradient",
        "evaluate",
        "stop_metric",
        "patience",
        "stop_every",
        "stop_evaluations_max",
        *FAMILY_FIELDS,
        "further",
        "batches",
        "draw",
        "block_share",
        "folds",
        "penalties",
        "masks_bound",
    }
)
"""Fields that came after the first contracts: left out of the bytes where they have their default, so that a
contract from before them keeps its bytes, its digest and its job."""


class ContractError(ValueError):
    """A contract that nobody may sign; `code` is the reason code, the text says what to change."""

    def __init__(self, code: str, reason: str) -> None:
        # The words of a foreign contract must not write on an operator's terminal, nor fill the log.
        shown = "".join(letter if letter.isprintable() else "?" for letter in reason[:_REASON_MAX])
        super().__init__(shown)
        self.code = code
        self.reason = shown


PROVIDERS_MAX: Final = 8


class FurtherProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider of a job: name, digest of its identity keys, data set."""

    name: Name
    key: Digest
    dataset: DatasetName


class JobContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the parties agree on before a job. `expires_at`: seconds since 1970, UTC; 0: it does not expire.

    `batches`: into how many the training rows are divided, or how many stages they grow in. `draw` and `block_share`:
    which codes, and what share of all, an iteration of the block solver updates. `folds`, `penalties`: l2 is chosen
    among these by cross-validation; `l2` is then that of the preconditioner. `validation` and `test` are shares of
    the aligned rows that are kept out of training; `parts_commitment` binds the business to its seed of all these
    parts (`learning.parts`), and is empty where all rows are trained on alike. `inference`: after training, standard
    errors of each party's own coefficients (docs/inference.md). `whole_model`: the providers hand their parts over to
    the business (docs/scoring.md). `stop_metric`: training stops early (`protocol.stopping`) after `patience`
    evaluations no better than the best, one every `stop_every` iterations, `stop_evaluations_max` at most. `provider`
    is the first of the chain, `further` are those after it, in its order. `masks_bound`: the masks of several
    providers' scores cancel only where all have the same people in the same rows.
    """

    protocol_version: int
    logic_version: int
    leakage_version: int
    nonce: Annotated[bytes, Meta(min_length=8, max_length=8)]
    business: Name
    provider: Name
    business_key: Digest
    provider_key: Digest
    business_dataset: DatasetName
    provider_dataset: DatasetName
    data_digest: Digest
    schema_digest: Digest
    business_rows: Annotated[int, Meta(ge=1, le=2**31)]
    business_columns: Annotated[int, Meta(ge=0, le=10_000)]
    columns_max: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    identifier_schema: Annotated[str, Meta(max_length=200)] = "exact.v1"
    task: Task
    l2: NonNegative
    max_iterations: Annotated[int, Meta(ge=1, le=1000)]
    tolerance: Annotated[float, Meta(gt=0, le=1.0)]
    key_bits: Annotated[int, Meta(ge=INSECURE_KEY_BITS_MIN, le=8192)] = 2048
    release_noise: Annotated[float, Meta(ge=0, le=1.0)] = RELEASE_NOISE
    label_bound: Annotated[float, Meta(gt=0, le=2.0**40)]
    psi_quota: Annotated[int, Meta(ge=1, le=2**40)]
    marks: tuple[Mark, ...] = ()
    align_chunk_items: Annotated[int, Meta(ge=1, le=16_384)] = 8192
    chunk_rows_max: Annotated[int, Meta(ge=1, le=65_536)] = 540
    sample_set: SampleSet = "full"
    solver: Solver = "lbfgs"
    retention: Retention = "digests"
    parts_commitment: Annotated[bytes, Meta(max_length=32)] = b""
    validation: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    test: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    inference: bool = False
    whole_model: bool = False
    evaluate: tuple[EvaluatedPart, ...] = ()
    expires_at: Annotated[int, Meta(ge=0, le=2**48)]
    tweedie_power: Annotated[float, Meta(ge=0, lt=2)] = 0.0
    value_bits: Annotated[int, Meta(ge=VALUE_BITS, le=VALUE_BITS_MAX)] = VALUE_BITS
    residual_unit: Annotated[float, Meta(gt=0, le=2.0**60)] = 1.0
    curvature: Annotated[float, Meta(ge=0, le=2.0**60)] = 0.0
    weighted: bool = False
    shifted: bool = False
    l1: NonNegative = 0.0
    warm_start: Annotated[str, Meta(max_length=64)] = ""
    classes: Annotated[int, Meta(ge=0, le=CLASSES_MAX)] = 0
    first_gradient: Annotated[float, Meta(ge=0, le=2.0**60)] = 0.0
    batches: Annotated[int, Meta(ge=1, le=BATCHES_MAX)] = 1
    draw: Draw = "cyclic"
    block_share: Annotated[float, Meta(gt=0, le=1)] = 0.25
    folds: Annotated[int, Meta(ge=1, le=FOLDS_MAX)] = 1
    penalties: Annotated[tuple[NonNegative, ...], Meta(max_length=PENALTIES_MAX)] = ()
    further: Annotated[tuple[FurtherProvider, ...], Meta(max_length=PROVIDERS_MAX - 1)] = ()
    stop_metric: StopMetric = ""
    patience: Evaluations = 0
    stop_every: StopEvery = 0
    stop_evaluations_max: Evaluations = 0
    masks_bound: bool = False

    @property
    def chain(self) -> tuple[FurtherProvider, ...]:
        """All providers, in the order in which link terms are handed on and features numbered."""
        first = FurtherProvider(name=self.provider, key=self.provider_key, dataset=self.provider_dataset)
        return (first, *self.further)

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of `chain`."""
        return (self.provider, *(entry.name for entry in self.further))

    @property
    def parties(self) -> tuple[str, ...]:
        """All parties: the business, then the providers."""
        return (self.business, *self.providers)

    @property
    def holders(self) -> tuple[str, str]:
        """Who holds shares of the residuals: the business and the last provider."""
        return (self.business, self.providers[-1])

    def entry_of(self, provider: str) -> FurtherProvider:
        """What the contract says of one provider. Raises KeyError where it names none of that name."""
        return {entry.name: entry for entry in self.chain}[provider]

    @property
    def family(self) -> Family:
        """The generalised linear model of the job."""
        return family_of({"task": self.task, "label_bound": self.label_bound, **self.family_arguments})

    @property
    def family_arguments(self) -> dict[str, object]:
        """What tasks are told of the model beyond task and label bound: only what differs from the default."""
        usual = defaults_of(JobContract)
        return {name: getattr(self, name) for name in FAMILY_FIELDS if getattr(self, name) != usual[name]}

    @property
    def small_sample(self) -> bool:
        """Whether both parties accept fewer rows than the privacy rules ask for."""
        return "small_sample" in self.marks

    @property
    def turns_beside(self) -> int:
        """Iterations of a cross-validation that are no gradients over all rows: fits, checks and revisions."""
        penalties = len(self.penalties)
        return 2 * self.folds * penalties + penalties - 1 if penalties else 0

    @property
    def layout(self) -> Layout:
        """What the aligned rows are divided into."""
        return Layout(
            validation=self.validation,
            test=self.test,
            blocks=self.batches * self.folds,
            nested=self.sample_set == "growing",
        )


class _Nonce(msgspec.Struct, frozen=True):
    """What a contract of any kind has for the identifier of its job."""

    nonce: Annotated[bytes, Meta(min_length=8, max_length=8)]


def encode_contract(contract: JobContract) -> bytes:
    """The contract's one and only byte form: a msgpack map in field order, later fields where they say something."""
    return msgspec.msgpack.encode(what_is_said(contract, LATER_FIELDS))


@cache
def defaults_of(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    """The fields of a kind of contract in their order, with what they are when nothing is said.

    Kept, because msgspec evaluates every annotation anew, and machines look into the contract at every step.
    """
    return MappingProxyType({field.name: field.default for field in msgspec.structs.fields(kind)})


def what_is_said(contract: msgspec.Struct, later: Collection[str]) -> dict[str, Any]:
    """A contract's fields in their order; those of `later`, which former versions did not have, unless as usual."""
    fields = ((name, getattr(contract, name), usual) for name, usual in defaults_of(type(contract)).items())
    return {name: value for name, value, usual in fields if name not in later or value != usual}


def read_contract(data: bytes) -> JobContract:
    """Read a contract of any version, as an audit does. Raises ContractError when it is malformed or not canonical."""
    return read_canonical(data, JobContract, encode_contract)


C = TypeVar("C", bound=msgspec.Struct)


def read_canonical(data: bytes, kind: type[C], encode: Callable[[C], bytes]) -> C:
    """A contract of one kind, of which `encode` gives the only byte form. Raises ContractError."""
    if len(data) > CONTRACT_BYTES_MAX:
        raise ContractError("contract_oversized", f"the contract has {len(data)} bytes, {CONTRACT_BYTES_MAX} at most")
    try:
        contract = msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ContractError("contract_malformed", f"the contract cannot be read: {error}") from None
    except (UnicodeDecodeError, RecursionError):
        # What msgspec passes on as it is: text that is no UTF-8, and too many brackets.
        raise ContractError("contract_malformed", "the contract cannot be read: it is no msgpack") from None
    if encode(contract) != data:
        raise ContractError("contract_malformed", "the contract is not in its canonical byte form")
    return contract


def contract_digest(data: bytes) -> bytes:
    """SHA-256 of the contract's bytes."""
    return hashlib.sha256(data).digest()


def job_id(data: bytes) -> str:
    """The identifier of the job that a contract describes: 16 hex digits of nonce, 16 of digest."""
    contract = msgspec.msgpack.decode(data, type=_Nonce)
    return f"{contract.nonce.hex()}-{contract_digest(data).hex()[:16]}"


def parties_of(data: bytes) -> tuple[str, ...]:
    """All parties of a contract, the business first; none where it cannot be read."""
    try:
        return read_contract(data).parties
    except ContractError:
        return ()
