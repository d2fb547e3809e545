"""Compute tasks before the first iteration: quantised columns, keys, encrypted features."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import release
from learning.columns import quantise as quantising
from learning.links.family import Family, LinkError, family_of
from learning.links.targets import Targets, check_start, start_score, told
from learning.solvers import classes as several
from learning.solvers import history as histories
from learning.solvers.classes import one_against_rest
from learning.solvers.warm import Start
from messages import schemas
from paillier import keys, packing, proof
from paillier.backend import Guest, Owner
from paillier.vector import CiphertextError, CipherVector
from services.tables.snapshot import unpack_snapshot
from services.tasks import keyring, pairwise
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.preparing import prepare
from services.tasks.sealing import open_chunk, seal_chunk

Inputs = tuple[bytes, ...]


def quantise(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Aligned rows to 16-bit columns. Blobs: matrix (int16, row-major), local history, label of the business, and last
    what the data set's preparation learned from these rows, if it has one (`prepared` in the output).

    Each owner's rules are kept here: for prepared columns, and the business's for its labels, in every block of
    training rows. Held-out rows lie behind those: prepared and quantised alike, in no encrypted feature or gradient.
    """
    snapshot = unpack_snapshot(inputs[0])
    rows = np.frombuffer(inputs[1], dtype="<i8")
    business, family, base = arguments["role"] == "business", family_of(arguments), 0.0
    targets = snapshot.targets().rows(rows) if business else None
    blocks = arguments.get("blocks", (len(rows),))
    training = sum(blocks)
    try:
        if targets is not None:
            targets = targets.normalised(training)
            base = _begin(targets.rows(slice(training)), family, blocks, arguments)
        columns = prepare(snapshot, rows, training)
        quantised = columns.quantise(blocks, intercept=business, small_sample=arguments["small_sample"])
    except (quantising.ColumnRefused, release.ReleaseRefused, LinkError) as error:
        raise TaskRefused(error.code, str(error)) from None
    classes = arguments.get("classes", 0)
    starts: Sequence[Start | None] = snapshot.starts or [snapshot.start]
    begun = [
        histories.begin(
            replace(quantised, values=quantised.values[:training]),
            family=family,
            l2=arguments["l2"],
            release_noise=arguments["release_noise"],
            base=base,
            l1=arguments.get("l1", 0.0),
            start=start,
        )
        for start in starts
    ]
    blobs = [
        (quantised.values.astype("<i2").tobytes(), len(rows)),
        (_encoded(begun, classes), len(quantised.scales)),
    ]
    if targets is not None:
        blobs.append((targets.to_bytes(), len(rows)))
    if columns.fitted is None:
        return TaskResult({}, tuple(blobs))
    return TaskResult({"prepared": True}, (*blobs, (msgspec.msgpack.encode(columns.fitted), len(rows))))


def _encoded(begun: list[histories.LocalHistory], classes: int) -> bytes:
    """The local history, of several classes each one's: all alike where they start at zero."""
    if not classes:
        return histories.encode(begun[0])
    return several.encode(begun if len(begun) == classes else begun * classes)


def _begin(targets: Targets, family: Family, blocks: Sequence[int], arguments: dict[str, Any]) -> float:
    """The score that rows begin with, once the rules for labels and weights hold in every block of training rows."""
    base = start_score(family, targets)
    check_start(family, base, targets)
    small_sample, partner_columns = arguments["small_sample"], arguments["partner_columns"]
    classes = range(arguments.get("classes", 0))
    for block, place in itertools.product(
        np.split(np.arange(len(targets.label)), np.cumsum(blocks)[:-1]), classes or (None,)
    ):
        part = targets.rows(block)
        if place is not None:
            part = replace(part, label=one_against_rest(part.label, (place,)))
        release.check_weights(part.label, part.weights, partner_columns, small_sample=small_sample)
        values, unit = told(family, base, part)
        release.check_labels(
            values,
            partner_columns,
            label_unit=unit,
            release_noise=arguments["release_noise"],
            small_sample=small_sample,
        )
    return base


def generate_keys(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Make the job's Paillier key pair and prove its modulus."""
    del inputs
    private = keyring.private_key(context, arguments["bits"], insecure=arguments["insecure"])
    modulus = private.public.modulus
    evidence = proof.prove(private, _proof_context(context.job, context.party))
    output = {"modulus": modulus.to_bytes((modulus.bit_length() + 7) // 8, "little"), "proof": evidence}
    if arguments["masks"]:
        output["mask_key"] = pairwise.public_key(context)
    return TaskResult(output, ())


def _proof_context(job: str, party: str) -> bytes:
    return f"warren paillier modulus\0{job}\0{party}".encode()


def verify_keys(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Check the proof of the partner's modulus before anything is sent under it."""
    del inputs
    public = keys.PublicKey(int.from_bytes(arguments["modulus"], "little"))
    try:
        proof.verify(
            public,
            arguments["proof"],
            _proof_context(context.job, context.partner.name),
            arguments["bits"],
            insecure=arguments["insecure"],
        )
    except proof.ProofError as error:
        raise TaskRefused("modulus_unproven", f"Paillier modulus of {context.partner.name}: {error}") from None
    return TaskResult({}, ())


def matrix_of(data: bytes, columns: int) -> NDArray[np.int16]:
    """The quantised matrix, shape (rows, columns)."""
    return np.frombuffer(data, dtype="<i2").reshape(-1, columns)


def encrypt(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Encrypt a chunk of the own columns under the own key, packed, and seal it."""
    facts, chunk = arguments["job"], arguments["chunk"]
    first, rows = arguments["first_row"], arguments["rows"]
    budget = keyring.budget_of(facts)
    part = matrix_of(inputs[0], facts["own_columns"])[first : first + rows]
    plain = packing.pack_columns(part, budget)
    fresh = keyring.stream(context, "features", chunk, keyring.digest_of(inputs))
    vector = keyring.owner(context, facts).encrypt(plain, fresh)
    message = schemas.FeaturesEncrypted(first_row=first, rows=rows, ciphertexts=vector.to_bytes())
    sealed = seal_chunk(context, message, chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, rows),))


def open_features(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Open and check a chunk of the partner's encrypted columns. Blob: its ciphertexts."""
    facts, chunk = arguments["job"], arguments["chunk"]
    message = open_chunk(context, inputs[0], schemas.FeaturesEncrypted, chunk, arguments["chunks"])
    where = f"features.encrypted chunk {chunk} from {context.partner.name}"
    check_rows(where, message, arguments)
    budget = keyring.budget_of(facts)
    per_row = -(-facts["partner_columns"] // budget.columns_per_ciphertext)
    vector = open_vector(context, facts, message.ciphertexts, arguments["rows"] * per_row, where)
    return TaskResult({}, ((vector.to_bytes(), arguments["rows"]),))


def check_rows(where: str, message: Any, arguments: dict[str, Any]) -> None:
    """A chunk must speak of the rows that its place in the stream says."""
    if (message.first_row, message.rows) != (arguments["first_row"], arguments["rows"]):
        raise TaskRefused(
            "rows_wrong",
            f"{where} holds rows {message.first_row} to {message.first_row + message.rows}, expected "
            f"{arguments['first_row']} to {arguments['first_row'] + arguments['rows']}",
        )


def open_vector(context: TaskContext, facts: dict[str, Any], data: bytes, count: int, where: str) -> CipherVector:
    """Ciphertexts of the partner's key, checked: number, range, prime to the modulus."""
    return checked_vector(keyring.guest(context, facts), data, count, where)


def checked_vector(party: Owner | Guest, data: bytes, count: int, where: str) -> CipherVector:
    """Ciphertexts under a party's key, checked: number, range, prime to the modulus."""
    try:
        vector = CipherVector.from_bytes(party.public, data)
        if len(vector) != count:
            raise TaskRefused("ciphertexts_wrong", f"{where} holds {len(vector)} ciphertexts, expected {count}")
        party.check(vector)
    except CiphertextError as error:
        raise TaskRefused("ciphertexts_wrong", f"{where}: {error}") from None
    return vector
