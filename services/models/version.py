"""A model version: what one party keeps of a job that is done. Nothing in it was shown to anybody.

The file is the SHA-256 of the rest (32 bytes), then a msgpack map. The model's identifier is the training job's, the
same at every party; each has its own part.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from learning.columns.preparation import FittedPreparation
from learning.solvers.history import TargetParameters
from messages.schemas import Digest, Name
from protocol.contract import JobContract, contract_digest, read_contract
from protocol.state import BUSINESS
from services.tables.row_columns import RowColumns

FORMAT: Final = 1
DIGEST_BYTES: Final = 32


class ModelDamaged(ValueError):
    """Bytes that are no model version, or not the one that was written."""


class ModelPartial(ValueError):
    """The party holds only its own part of the model."""


class SeveralClasses(ModelDamaged):
    """A model of several classes where one score is asked for."""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One party's part of one model.

    Attributes:
        format: of this file.
        model: the training job's identifier.
        party, role: whose part it is, and what it was in the job.
        contract, contract_digest: the job contract's bytes and their SHA-256.
        targets: own parameters with the grid of training; several for several classes.
        columns: names of the own, prepared columns, in the order of the parameters. They never leave the party.
        parameters: `parameters.json` as the job gave it.
        history: `history.json` as the job gave it.
        data_digest: SHA-256 of the snapshot that the job worked on; empty when the journal no longer had it.
        schema_digest: SHA-256 of the columns' names in order.
        metrics: of the joint model, where the party knows any.
        software_version, logic_version: what ran the job.
        length, head: the party's journal entries of the job up to this version, and the head of their chain.
        created_at: seconds since 1970, UTC.
        provider_constant: at the business, what the centres of others' columns made of the intercept.
        provider_constants: the same of each of several classes.

    """

    format: int
    model: Name
    party: Name
    role: str
    contract: bytes
    contract_digest: Digest
    targets: tuple[TargetParameters, ...]
    columns: tuple[str, ...]
    parameters: bytes
    history: bytes
    data_digest: bytes
    schema_digest: Digest
    metrics: dict[str, float]
    software_version: str
    logic_version: int
    length: int
    head: Digest
    created_at: float
    provider_constant: float = 0.0
    provider_constants: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return f"ModelVersion({self.model!r} of {self.party!r})"

    @property
    def target(self) -> TargetParameters:
        """The parameters of a model of one score. Raises SeveralClasses."""
        if len(self.targets) != 1:
            raise SeveralClasses(f"model {self.model} has {len(self.targets)} classes: this is for models of one score")
        return self.targets[0]

    @property
    def terms(self) -> JobContract:
        """The job contract, decoded."""
        return read_contract(self.contract)

    @property
    def document(self) -> dict[str, Any]:
        """`parameters.json`, decoded."""
        found: dict[str, Any] = msgspec.json.decode(self.parameters)
        return found

    @property
    def preparation(self) -> FittedPreparation | None:
        """What is done with source columns before the coefficients are theirs; None: nothing."""
        found = self.document.get("preparation")
        return None if found is None else msgspec.convert(found, FittedPreparation)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the columns that scoring needs."""
        return self.columns if self.preparation is None else self.preparation.sources

    @property
    def encoded(self) -> frozenset[str]:
        """The source columns that hold categories."""
        columns = () if self.preparation is None else self.preparation.columns
        return frozenset(column.source for column in columns if column.encoding is not None)

    @property
    def beside(self) -> RowColumns:
        """The columns besides features that a score begins with. Raises ModelDamaged where they are not named."""
        found = RowColumns(exposure=self.document.get("exposure", ""), offset=self.document.get("offset", ""))
        if self.role == BUSINESS and self.terms.shifted and not found.names:
            raise ModelDamaged(
                f"model {self.model} was trained with exposures or offsets and does not name their columns, which "
                "former versions of Warren left out: train it again"
            )
        return found

    @property
    def task(self) -> str:
        """The task of the model."""
        return str(self.document["task"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of a model of several, at a provider their numbers; none for a model of one score."""
        return tuple(self.document.get("classes", ()))

    @property
    def rows(self) -> int:
        """Aligned rows that it was trained on."""
        return int(self.document["rows"])


def make_version(
    *,
    model: str,
    party: str,
    role: str,
    contract: bytes,
    parameters: bytes,
    history: bytes,
    data_digest: bytes,
    software_version: str,
    logic_version: int,
    length: int,
    head: bytes,
    created_at: float,
    provider_constant: float = 0.0,
    provider_constants: tuple[float, ...] = (),
    metrics: dict[str, float] | None = None,
) -> ModelVersion:
    """The version of a job that is done. Raises ModelDamaged when `parameters` is no parameters.json."""
    try:
        document = msgspec.json.decode(parameters, type=dict[str, Any])
        targets = targets_of(document)
        columns = columns_of(document)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ModelDamaged(f"the parameters of job {model} cannot be read: {type(error).__name__}") from None
    return ModelVersion(
        format=FORMAT,
        model=model,
        party=party,
        role=role,
        contract=contract,
        contract_digest=contract_digest(contract),
        targets=targets,
        columns=columns,
        parameters=parameters,
        history=history,
        data_digest=data_digest,
        schema_digest=schema_digest(columns),
        metrics=metrics or {},
        software_version=software_version,
        logic_version=logic_version,
        length=length,
        head=head,
        created_at=created_at,
        provider_constant=provider_constant,
        provider_constants=provider_constants,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A prepared column of the whole model and whose it is. `step`, `centre`: the grid of its values."""

    party: str
    name: str
    coefficient: float
    centre: float
    step: float


@dataclass(frozen=True, slots=True)
class WholeModel:
    """All parts of a model, at the party that may hold them. Columns in the contract's order.

    `shifted`: a score begins with an offset, or the logarithm of an exposure, which is one input more.
    """

    model: str
    task: str
    intercept: float
    columns: tuple[Column, ...] = field(repr=False)
    shifted: bool = False

    @property
    def offset(self) -> str:
        """A name for the input that a score begins with: no column's."""
        name = "offset"
        while name in self.names:
            name += "_"
        return name

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each column: its own, with its party's where two parties have the same."""
        count = Counter(column.name for column in self.columns)
        return tuple(
            column.name if count[column.name] == 1 else f"{column.party}/{column.name}" for column in self.columns
        )


def whole_of(version: ModelVersion) -> WholeModel:
    """The whole model. Raises ModelPartial when the contract left the other parts with their owners."""
    document, providers = version.document, version.terms.providers
    parts = document.get("partners", {})
    if set(parts) != set(providers):
        raise ModelPartial(
            f"model {version.model}: this party holds only its own part; a contract with `whole_model = true`, which "
            "every provider's policy must allow, has the providers hand theirs over to the business"
        )
    columns = [*_columns(version.party, document)]
    for name in providers:
        columns += _columns(name, parts[name])
    constant, shifted = version.targets[0].constant, version.terms.shifted
    return WholeModel(version.model, version.task, constant, tuple(columns), shifted)


def _columns(party: str, part: dict[str, Any]) -> list[Column]:
    return [
        Column(party, name, coefficient, part["grid"][name]["centre"], part["grid"][name]["step"])
        for name, coefficient in part["coefficients"].items()
    ]


def target_of(document: dict[str, Any]) -> TargetParameters:
    """The parameters and the grid of a parameters.json. Only the business's has an intercept."""
    grid = [document["grid"][name] for name in document["coefficients"]]
    return TargetParameters(
        constant=document.get("intercept", 0.0),
        coefficients=tuple(document["coefficients"].values()),
        centres=tuple(step["centre"] for step in grid),
        scales=tuple(step["step"] for step in grid),
    )


def columns_of(document: dict[str, Any]) -> tuple[str, ...]:
    """Names of the columns of a parameters.json."""
    first = next(iter(document["classes"].values())) if "classes" in document else document
    return tuple(first["coefficients"])


def targets_of(document: dict[str, Any]) -> tuple[TargetParameters, ...]:
    """The parameters of every class of a parameters.json; one where it has no classes."""
    if "classes" not in document:
        return (target_of(document),)
    return tuple(target_of({"grid": document["grid"], **one}) for one in document["classes"].values())


def schema_digest(columns: tuple[str, ...]) -> bytes:
    """SHA-256 of columns' names in order, 32 bytes. It stays at home: names can be guessed."""
    digest = hashlib.sha256(b"warren model schema v1\x00")
    for name in columns:
        digest.update(len(name.encode()).to_bytes(8, "big") + name.encode())
    return digest.digest()


def encode_version(version: ModelVersion) -> bytes:
    """The file's bytes."""
    body = msgspec.msgpack.encode(version)
    return hashlib.sha256(body).digest() + body


def decode_version(data: bytes) -> ModelVersion:
    """The inverse of `encode_version`. Raises ModelDamaged."""
    digest, body = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ModelDamaged("the file is not what was written: restore it from a backup")
    try:
        version = msgspec.msgpack.decode(body, type=ModelVersion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelDamaged("the file is of another version of Warren, or no model") from None
    if version.format != FORMAT:
        raise ModelDamaged(f"the file has format {version.format}, this software reads {FORMAT}")
    return version
