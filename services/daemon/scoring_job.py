"""A scoring job at the business: from a file of rows to a contract, identifiers and own scores."""

import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from messages.identity import PublicIdentity
from protocol.contract import (
    LEAKAGE_VERSION,
    LOGIC_VERSION,
    PROTOCOL_VERSION,
    ContractError,
    FurtherProvider,
    Retention,
)
from protocol.scoring_contract import SCORE_CHUNK_ROWS, Mode, ScoringContract, check_scoring, encode_scoring
from protocol.state import BUSINESS
from services.models.scoring import ScoredRows, read_and_score
from services.models.store import ModelStore
from services.models.version import ModelVersion
from services.party.configuration import ConfigError, Party
from services.tables.queries import Query, source_of
from services.tables.table import TableError, data_digest

PSI_QUOTA: Final = 10_000_000
SEPARATE_FROM_BYTES: Final = 16 * 2**20
"""Files from this size on are read in a process of their own."""

LOOKUP_HOURS: Final = 24.0
"""How long a job answers lookups when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator asks for. `source` empty: the file of the data set that the model was trained on.

    `identifier`: the identifier column of `source`, where that data set is not in party.toml.
    """

    model: str
    source: str = ""
    identifier: str = ""
    mode: Mode = "batch"
    purpose: str = ""
    provider_dataset: str = ""
    expires_in_hours: float = 0.0
    retention: Retention = "digests"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a scoring job starts with. `blobs`: identifiers, own scores, each with its number of rows."""

    contract: bytes
    partner: str
    blobs: tuple[tuple[bytes, int], ...] = field(repr=False)
    facts: bytes = field(repr=False)


def prepare(party: Party, asked: Asked) -> Prepared:
    """Read the rows, score them with the own part, make the contract.

    Raises ConfigError, TableError, ModelUnknown, ModelRetired, ModelDamaged.
    """
    version = ModelStore(party.data_directory).usable(asked.model)
    if version.role != BUSINESS:
        raise ConfigError(f"model {asked.model}: {party.file.name} was its provider; its business asks for scores")
    terms = version.terms
    for name in terms.providers:
        if name not in party.peers:
            raise ConfigError(f"{name} is no peer of {party.file.name}; add it with `warren peer add FILE`")
    if asked.provider_dataset and terms.further:
        raise ConfigError("a model of several providers scores the data sets that it was trained on: name no other")
    salt = secrets.token_bytes(32)
    found = _read(party, version, *rows_of(party, version, asked), salt)
    contract = make_contract(party.identity.public, party.peers, version, asked, found)
    return Prepared(
        contract=encode_scoring(contract),
        partner=terms.provider,
        blobs=found.blobs,
        facts=msgspec.msgpack.encode({"salt": salt}),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a file as a job takes them: as bytes, which cost the daemon a tenth of what a million texts do."""

    digest: bytes
    blobs: tuple[tuple[bytes, int], tuple[bytes, int]] = field(repr=False)

    @property
    def count(self) -> int:
        return self.blobs[0][1]


def _read(party: Party, version: ModelVersion, path: Path | Query, identifier: str, salt: bytes) -> _Rows:
    """Read and score a file; a large one in a process of its own, so that its memory is gone afterwards."""
    if isinstance(path, Path) and (not path.is_file() or path.stat().st_size < SEPARATE_FROM_BYTES):
        return _rows_of(read_and_score(version, path, identifier), salt)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(_read_apart, party.data_directory, version.model, path, identifier, salt).result()
    if isinstance(found, _Rows):
        return found
    raise TableError(*found)


def _read_apart(
    data_directory: Path, model: str, path: Path | Query, identifier: str, salt: bytes
) -> _Rows | tuple[str, str]:
    """The rows; or code and text of what is wrong with the file."""
    try:
        return _rows_of(read_and_score(ModelStore(data_directory).get(model).version, path, identifier), salt)
    except TableError as error:
        return error.code, error.message


def _rows_of(found: ScoredRows, salt: bytes) -> _Rows:
    return _Rows(data_digest(found.table(scores=False), salt=salt), found.blobs)


def rows_of(party: Party, version: ModelVersion, asked: Asked) -> tuple[Path | Query, str]:
    """(file, identifier column) of the rows to score: those given, or the model's own data set. Raises ConfigError."""
    if asked.source and asked.identifier:
        return Path(asked.source), asked.identifier
    name = version.terms.business_dataset
    if name not in party.datasets:
        raise ConfigError(
            f"party.toml has no data set {name} any more, which model {version.model} was trained on: its `id` names "
            "the identifier column"
        )
    entry = party.datasets[name]
    return Path(asked.source) if asked.source else source_of(name, entry), entry["id"]


def make_contract(
    business: PublicIdentity,
    peers: Mapping[str, PublicIdentity],
    version: ModelVersion,
    asked: Asked,
    found: _Rows,
) -> ScoringContract:
    """The contract of a scoring job. Raises ConfigError when no policy could accept it."""
    terms = version.terms
    hours = asked.expires_in_hours or (LOOKUP_HOURS if asked.mode == "lookup" else 0.0)
    rows = found.count
    try:
        contract = ScoringContract(
            protocol_version=PROTOCOL_VERSION,
            logic_version=LOGIC_VERSION,
            leakage_version=LEAKAGE_VERSION,
            nonce=secrets.token_bytes(8),
            business=business.name,
            provider=terms.provider,
            business_key=business.digest(),
            provider_key=peers[terms.provider].digest(),
            provider_dataset=asked.provider_dataset or terms.provider_dataset,
            further=tuple(
                FurtherProvider(name=entry.name, key=peers[entry.name].digest(), dataset=entry.dataset)
                for entry in terms.further
            ),
            masks_bound=bool(terms.further),
            model=version.model,
            model_digest=version.contract_digest,
            mode=asked.mode,
            purpose=asked.purpose,
            data_digest=found.digest,
            business_rows=rows,
            score_quota=rows,
            psi_quota=max(PSI_QUOTA, rows),
            retention=asked.retention,
            identifier_schema=terms.identifier_schema,
            expires_at=int(time.time() + hours * 3600) if hours else 0,
            classes=terms.classes,
            chunk_rows_max=SCORE_CHUNK_ROWS // max(1, terms.classes),
        )
        contract = msgspec.convert(msgspec.to_builtins(contract, builtin_types=(bytes,)), ScoringContract)
        check_scoring(contract)
    except ContractError as error:
        raise ConfigError(f"scoring job: {error.reason}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"scoring job: {error}") from None
    return contract
