"""Compute tasks of scoring: admit, partial scores, results, and what single rows are answered from."""

import hashlib
import io
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from alignment import identifiers
from learning.evaluation import multiclass
from learning.evaluation.part_figures import mean_response
from learning.links import projections
from messages import schemas
from protocol.contract import ContractError
from protocol.policy import Decision, decide_scoring, read_policy
from protocol.scoring_contract import ScoringContract, decode_scoring
from services.models.scoring import model_for, model_unit, read_and_score
from services.models.store import ModelRetired, ModelStore, ModelUnknown
from services.models.version import ModelDamaged, ModelVersion
from services.tables.queries import source_of
from services.tables.snapshot import unpack_snapshot
from services.tables.table import TableError, data_digest, schema_digest
from services.tasks import keyring, pairwise
from services.tasks.admit import asked, points_left, strangers_of
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.sealing import open_chunk, seal_chunk

Inputs = tuple[bytes, ...]

HASH_BYTES: Final = 16
"""Of an identifier in the index of single rows: 1e7 identifiers share one with chance 1e-25."""


def _decline(code: str, reason: str, own_reason: str = "") -> TaskResult:
    """`own_reason`: what stays here instead of the partner's text."""
    output = {"reason_code": code, "reason": reason}
    return TaskResult({**output, "own_reason": own_reason} if own_reason else output, ())


def admit(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The provider judges a scoring contract and scores its data set. Blobs: identifiers, own scores (float64)."""
    del inputs
    try:
        contract = decode_scoring(arguments["contract"])
    except ContractError as error:
        return _decline(error.code, error.reason)
    if refused := _judge(context, contract):
        return refused
    store = ModelStore(context.data_directory)
    store.await_kept(contract.model)
    try:
        version = model_for(store, contract, context.party)
    except (ModelUnknown, ModelRetired, ModelDamaged) as error:
        code = {ModelUnknown: "model_unknown", ModelRetired: "model_retired"}.get(type(error), "model_damaged")
        return _decline(code, f"{context.party} does not score with model {contract.model}: {code}", str(error))
    own = contract.entry_of(context.party)
    dataset = context.settings["datasets"][own.dataset]
    try:
        found = read_and_score(version, source_of(own.dataset, dataset), dataset["id"])
    except TableError as error:
        # The text names this party's files and columns: they stay here, the partner gets the code.
        context.log.warning("data set refused", dataset=own.dataset, reason=str(error))
        reason = f"the data set {own.dataset} cannot be scored ({error.code}); its owner's job says where"
        return _decline("dataset_unfit", reason, f"data set {own.dataset}: {error}")
    bound = found.table(scores=True)
    return TaskResult(
        {
            "reason_code": "",
            "reason": "",
            "rows": len(found.identifiers),
            "columns": len(version.columns),
            "data_digest": data_digest(bound, salt=context.job_secret),
            "schema_digest": schema_digest(bound, salt=context.job_secret),
            "mask_key": pairwise.public_key(context) if contract.further else b"",
            **asked(contract, context.settings, context.partner.name),
        },
        found.blobs,
    )


def _judge(context: TaskContext, contract: ScoringContract) -> TaskResult | None:
    """A refusal by policy or keys, or None."""
    policy = read_policy(dict(context.settings["policy"])).of(context.partner.name)
    decision: Decision = decide_scoring(
        contract, policy, frozenset(context.settings["datasets"]), provider=context.party
    )
    if decision.acceptable:
        decision = points_left(
            contract, context.partner.name, context.settings, context.data_directory, job=context.job
        )
    if not decision.acceptable:
        return _decline(decision.reason_code, decision.reason)
    fingerprints = (context.partner.digest(), context.identity.public.digest())
    strangers = strangers_of(context, contract)
    if (contract.business_key, contract.entry_of(context.party).key) != fingerprints or strangers:
        reason = "the contract names other identity keys than the ones exchanged: compare fingerprints"
        return _decline("keys_differ", reason, strangers)
    return None


def _version(context: TaskContext, model: str) -> ModelVersion:
    """The version that the job was admitted with; a retirement since stops new jobs, not this one."""
    try:
        return ModelStore(context.data_directory).get(model).version
    except (ModelUnknown, ModelDamaged):
        raise TaskRefused("model_lost", f"{context.party} cannot read model {model} any more") from None


def _units(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> projections.Units:
    """The own scores of some rows of a named set: inputs are scores of all own rows, and the set's row numbers.

    With several classes a row's scores lie beside each other.
    """
    scores = np.frombuffer(inputs[0], dtype="<f8").reshape(-1, arguments.get("classes", 1))
    first, rows = arguments["first_row"], arguments["rows"]
    chosen = np.frombuffer(inputs[1], dtype="<i8")[first : first + rows]
    units = projections.to_units(scores[chosen].ravel(), model_unit(_version(context, arguments["model"])))
    return hidden(context, arguments, units) if "masks" in arguments else units


def hidden(context: TaskContext, arguments: dict[str, Any], units: projections.Units) -> projections.Units:
    """Add what hides the own scores among those of several providers: uniform modulo 2^64, and 0 in their sum.

    The stream of a pair is bound to the job, the set and the place of the rows: rows that are asked for again in
    another job get other masks, and within a job each place is masked once. Where the contract says so it is bound to
    the people of all rows as well: a business that names each provider others, to take two such sums apart, gets none.
    """
    masks = arguments["masks"]
    bound = (masks["people"],) if "people" in masks else ()
    for name, public in masks["keys"].items():
        place = (arguments["part"], arguments["iteration"], arguments["first_row"], *bound)
        stream = pairwise.shared(context, name, public, "score-mask", *place)
        mask = projections.from_bytes(stream.bytes(8 * len(units)))
        first = masks["order"].index(context.party) < masks["order"].index(name)
        units = units + mask if first else units - mask
    return units


def send_partial(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Round and seal a chunk of partial scores."""
    chunk = arguments["chunk"]
    message = schemas.ScorePartial(
        part=arguments["part"],
        iteration=arguments["iteration"],
        first_row=arguments["first_row"],
        rows=arguments["rows"],
        values=projections.to_bytes(_units(context, arguments, inputs)),
    )
    sealed = seal_chunk(context, message, chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, arguments["rows"]),))


def open_partial(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Check a chunk of partial scores. Blob: its values, 8 bytes for each row, or class of it."""
    chunk, rows = arguments["chunk"], arguments["rows"]
    where = f"score.partial chunk {chunk} from {context.partner.name}"
    message = open_chunk(context, inputs[0], schemas.ScorePartial, chunk, arguments["chunks"])
    said = (message.part, message.iteration, message.first_row, message.rows)
    if said != (arguments["part"], arguments["iteration"], arguments["first_row"], rows):
        raise TaskRefused("partial_rows", f"{where} speaks of other rows than chunk {chunk} of {arguments['part']}")
    if len(message.values) != 8 * rows * arguments.get("classes", 1):
        raise TaskRefused("partial_rows", f"{where} has {len(message.values)} bytes for {rows} rows")
    return TaskResult({}, ((message.values, rows),))


def hold(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """What the provider answers for single rows. Blob: values of all aligned rows, 8 bytes for each row and class."""
    units = _units(context, arguments, inputs)
    return TaskResult({}, ((projections.to_bytes(units), arguments["rows"]),))


def index(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """What the business looks single rows up in. Blob: an `Index`."""
    names = unpack_snapshot(inputs[0]).identifiers
    scores = np.frombuffer(inputs[1], dtype="<f8").reshape(-1, arguments.get("classes", 1))
    rows = np.frombuffer(inputs[2], dtype="<i8")
    version = _version(context, arguments["model"])
    salt = keyring.stream(context, "score-index").bytes(32)
    hashes = hash_identifiers(identifiers.normalise([names[row] for row in rows], arguments["schema"]), salt)
    order = np.argsort(hashes)
    found = Index(
        salt=salt,
        schema=arguments["schema"],
        task=version.task,
        unit=model_unit(version),
        hashes=hashes[order].tobytes(),
        places=order.astype("<i8").tobytes(),
        scores=scores[rows[order]].astype("<f8").tobytes(),
        classes=version.classes,
    )
    return TaskResult({}, ((msgspec.msgpack.encode(found), len(rows)),))


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Aligned rows by salted hash of their identifier: `hashes` sorted, 16 bytes each; places in the common order.

    `scores`: the own one of every row, of several `classes` (their names) row by row each one's.
    """

    salt: bytes
    schema: str
    task: str
    unit: float
    hashes: bytes
    places: bytes
    scores: bytes
    classes: tuple[str, ...] = ()


def hash_identifiers(names: list[bytes], salt: bytes) -> NDArray[np.bytes_]:
    """Salted hashes of normalised identifiers, as fixed-width byte strings."""
    joined = b"".join(hashlib.blake2b(name, key=salt, digest_size=HASH_BYTES).digest() for name in names)
    return np.frombuffer(joined, dtype=f"S{HASH_BYTES}")


def results(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Add the own scores and apply the inverse link. Blobs: `scores.csv`, `unmatched.csv`, in the own rows' order.

    Of several classes the prediction is the likeliest, and each has a probability and a score.
    """
    names = pl.Series("id", unpack_snapshot(inputs[0]).identifiers, dtype=pl.String)
    classes = arguments.get("classes", 1)
    own = np.frombuffer(inputs[1], dtype="<f8").reshape(-1, classes)
    rows = np.frombuffer(inputs[2], dtype="<i8")
    version = _version(context, arguments["model"])
    # Chunk after chunk of one provider, then of the next; in their sum the masks between them cancel.
    sums = projections.from_bytes(b"".join(inputs[3:])).reshape(-1, len(rows) * classes).sum(axis=0, dtype=np.uint64)
    partial = projections.from_units(sums, model_unit(version)).reshape(-1, classes)
    order = np.argsort(rows)
    matched = rows[order]
    scores = own[matched] + partial[order]
    rest = np.setdiff1d(np.arange(len(names)), matched, assume_unique=True)
    frame = pl.DataFrame({"id": names.gather(matched), **_columns(version, scores)})
    missing = pl.DataFrame({"id": names.gather(rest)})
    return TaskResult(
        {"matched": len(matched), "unmatched": len(rest)}, ((_csv(frame), len(matched)), (_csv(missing), len(rest)))
    )


def _columns(version: ModelVersion, scores: NDArray[np.float64]) -> dict[str, Any]:
    """What a file of scores (n, classes) has beside the identifiers."""
    if scores.shape[1] == 1:
        return {"score": scores[:, 0], "prediction": mean_response(version.task, scores[:, 0])}
    return multiclass.columns(version.classes, scores)


def _csv(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.write_csv(data)
    return data.getvalue()
