"""The contract of a scoring job: which model scores whose rows, how many of them, and for how long.

It travels and is signed like a job contract. Its bytes begin with their kind, which a job contract has not, so that
neither can be taken for the other.
"""

import hashlib
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from messages.schemas import Digest, Name
from protocol.contract import (
    CLASSES_MAX,
    PROVIDERS_MAX,
    ContractError,
    DatasetName,
    FurtherProvider,
    JobContract,
    Retention,
    read_canonical,
    read_contract,
    what_is_said,
)
from protocol.contract_rules import CONTRACTS_KEPT, check_versions, decode_contract

SCORE: Final = "score"
SCORE_CHUNK_ROWS: Final = 65_536

Mode = Literal["batch", "lookup"]
"""`batch`: a score for every common row, once. `lookup`: single rows on request, until the job ends."""


class ScoringContract(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=SCORE
):
    """What the parties of a model agree on before it scores.

    `model` is the training job's identifier and `model_digest` the SHA-256 of its contract. `score_quota`: rows that
    may be scored in this job. `expires_at`: seconds since 1970, UTC; 0: it does not expire. `classes`: of a model of
    several, each of which scores every row; 0 for a model of one score. `masks_bound`: as in a job contract.
    """

    protocol_version: int
    logic_version: int
    leakage_version: int
    nonce: Annotated[bytes, Meta(min_length=8, max_length=8)]
    business: Name
    provider: Name
    business_key: Digest
    provider_key: Digest
    provider_dataset: DatasetName
    model: Name
    model_digest: Digest
    mode: Mode = "batch"
    purpose: Annotated[str, Meta(max_length=200)] = ""
    data_digest: Digest
    further: Annotated[tuple[FurtherProvider, ...], Meta(max_length=PROVIDERS_MAX - 1)] = ()
    business_rows: Annotated[int, Meta(ge=1, le=2**31)]
    score_quota: Annotated[int, Meta(ge=1, le=2**40)]
    psi_quota: Annotated[int, Meta(ge=1, le=2**40)]
    identifier_schema: Annotated[str, Meta(max_length=200)] = "exact.v1"
    align_chunk_items: Annotated[int, Meta(ge=1, le=16_384)] = 16_384
    chunk_rows_max: Annotated[int, Meta(ge=1, le=SCORE_CHUNK_ROWS)] = SCORE_CHUNK_ROWS
    retention: Retention = "digests"
    expires_at: Annotated[int, Meta(ge=0, le=2**48)]
    classes: Annotated[int, Meta(ge=0, le=CLASSES_MAX)] = 0
    masks_bound: bool = False

    @property
    def parties(self) -> tuple[str, ...]:
        """All parties, the business first."""
        return (self.business, *self.providers)

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of the providers, in the order of the model's contract."""
        return tuple(entry.name for entry in self.chain)

    @property
    def chain(self) -> tuple[FurtherProvider, ...]:
        """All providers, in the order of the model's contract."""
        first = FurtherProvider(name=self.provider, key=self.provider_key, dataset=self.provider_dataset)
        return (first, *self.further)

    def entry_of(self, provider: str) -> FurtherProvider:
        """Name, key and data set of a provider. Raises KeyError for a party that is none."""
        return {entry.name: entry for entry in self.chain}[provider]


LATER_FIELDS: Final[frozenset[str]] = frozenset({"classes", "masks_bound"})
"""Fields that came after the first scoring contracts: left out of the bytes at their default."""

AnyContract = JobContract | ScoringContract


class _Kind(msgspec.Struct, frozen=True):
    """What tells the contracts apart: a job contract has no kind."""

    kind: str = ""


def kind_of_contract(data: bytes) -> str:
    """`score`, or nothing for a job contract and for what is no contract. Does not raise."""
    try:
        return msgspec.msgpack.decode(data, type=_Kind).kind
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def encode_scoring(contract: ScoringContract) -> bytes:
    """The contract's one and only byte form: a msgpack map, kind first, then in field order.

    Later fields are there where they say something, as in `protocol.contract`.
    """
    return msgspec.msgpack.encode({"kind": SCORE, **what_is_said(contract, LATER_FIELDS)})


def read_scoring(data: bytes) -> ScoringContract:
    """Read a scoring contract of any version. Raises ContractError when it is malformed or not canonical."""
    return read_canonical(data, ScoringContract, encode_scoring)


@lru_cache(CONTRACTS_KEPT)
def decode_scoring(data: bytes) -> ScoringContract:
    """Read a scoring contract; raises ContractError when it is malformed, not canonical or breaks a rule."""
    contract = read_scoring(data)
    check_scoring(contract)
    return contract


def check_scoring(contract: ScoringContract) -> None:
    """The rules that hold whatever the policies say. Raises ContractError naming rule and remedy."""
    check_versions(contract.protocol_version, contract.logic_version, contract.leakage_version)
    if len(set(contract.parties)) != len(contract.parties):
        raise ContractError("parties", "a party is named twice in the contract")
    if contract.classes in (1, 2):
        raise ContractError("classes", "a model of several classes has 3 or more")
    if contract.classes * contract.chunk_rows_max > SCORE_CHUNK_ROWS:
        raise ContractError(
            "classes",
            f"chunks of {contract.chunk_rows_max} rows with scores of {contract.classes} classes are too large",
        )
    if contract.mode == "lookup" and not contract.expires_at:
        raise ContractError("expiry_missing", "a job that answers lookups needs an expiry: give expires_in_hours")


def read_any(data: bytes) -> AnyContract:
    """Read a contract of either kind and any version, as an audit does. Raises ContractError."""
    return read_scoring(data) if kind_of_contract(data) == SCORE else read_contract(data)


def decode_any(data: bytes) -> AnyContract:
    """Read a contract of either kind; raises ContractError when it is malformed, not canonical or breaks a rule."""
    return decode_scoring(data) if kind_of_contract(data) == SCORE else decode_contract(data)


def agreement_of(contract: bytes, tokens_digest: bytes, count: int) -> bytes:
    """What both parties of a scoring job must have derived alike, for `job.done`: 32 bytes."""
    said = b"warren scoring agreement v1\x00" + tokens_digest + count.to_bytes(8, "big")
    return hashlib.sha256(hashlib.sha256(contract).digest() + said).digest()
