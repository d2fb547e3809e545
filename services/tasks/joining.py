"""Compute tasks of the alignment with several providers: join, tell the places, adopt (docs/alignment.md)."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment import sets
from alignment.identifiers import normalise
from learning import release
from messages import schemas
from protocol.policy import read_policy
from services.store.ledger import Ledger
from services.tables.snapshot import unpack_snapshot
from services.tasks.align import (
    TOKEN_BYTES,
    Inputs,
    check_commitment,
    check_count,
    divide,
    grant_evaluations,
    grant_rows,
    scoring_rules,
)
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.sealing import open_chunk, seal_chunk

PLACE_BYTES = 4


def _tokens(parts: Inputs) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, TOKEN_BYTES)


def join(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Intersect the lists of all pairs. Blobs: own rows in the common order, then each provider's places."""
    snapshot = unpack_snapshot(inputs[0])
    identifiers, weight = snapshot.identifiers, snapshot.weights()
    pairs, at = [], 1
    for pair in arguments["pairs"]:
        own, partner = pair["own_chunks"], pair["partner_chunks"]
        parts, at = inputs[at : at + 1 + own + 2 * partner], at + 1 + own + 2 * partner
        check_commitment(parts[1 + own + partner :], pair["commitment"], pair["name"])
        order = np.frombuffer(parts[0], dtype="<i8")
        pairs.append(sets.Pair(_tokens(parts[1 : 1 + own]), order, _tokens(parts[1 + own : 1 + own + partner])))
    try:
        rows, places = sets.join(pairs, len(identifiers))
    except sets.ListError as error:
        raise TaskRefused(error.code, str(error)) from None
    policies = read_policy(dict(context.settings["policy"]))
    scoring = "model" in arguments
    for pair in arguments["pairs"]:
        check_count(len(rows), 1 if scoring else policies.of(pair["name"]).intersection_min)
    bodies = [place.astype("<u4").tobytes() for place in places]
    common = [identifiers[row] for row in rows]
    order, sizes, used = divide(common, arguments.get("parts"))
    training = order[: len(used)]
    output = {
        "count": len(rows),
        **sizes,
        "digests": [_digest(body, arguments) for body in bodies],
        "iterations_allowed": 0
        if scoring
        else _release_rules(
            context,
            arguments,
            [common[place] for place in training],
            used,
            None if weight is None else weight[rows[training]],
        ),
    }
    blobs = [(rows[order].astype("<i8").tobytes(), len(rows)), *((body, len(rows)) for body in bodies)]
    return TaskResult(output, tuple(blobs))


def send_places(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Seal one chunk of a provider's places."""
    chunk, size = arguments["chunk"], arguments["items"] * PLACE_BYTES
    body = inputs[0][chunk * size : (chunk + 1) * size]
    sealed = seal_chunk(context, schemas.AlignCommon(places=body), chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, len(body) // PLACE_BYTES),))


def open_places(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Open one chunk of the own places: as many as a chunk holds, the last one fewer. Blob: places, 4 bytes each."""
    chunk, chunks = arguments["chunk"], arguments["chunks"]
    message = open_chunk(context, inputs[0], schemas.AlignCommon, chunk, chunks)
    size, full = len(message.places), arguments["items"] * PLACE_BYTES
    if size % PLACE_BYTES or size > full or (chunk < chunks - 1 and size != full):
        raise TaskRefused(
            "places_wrong", f"align.common chunk {chunk} of {chunks} from {context.partner.name} has {size} bytes"
        )
    return TaskResult({}, ((message.places, size // PLACE_BYTES),))


def adopt(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Take over the rows that all parties have, once every check and this party's rules allow it.

    Blob: own rows (int64) in the common order.
    """
    identifiers = unpack_snapshot(inputs[0]).identifiers
    order, chunks = np.frombuffer(inputs[1], dtype="<i8"), arguments["places_chunks"]
    body = b"".join(inputs[2 : 2 + chunks])
    check_commitment(inputs[2 + chunks :], arguments["commitment"], context.partner.name)
    places = np.frombuffer(body, dtype="<u4").astype(np.int64)
    if len(places) > min(len(order), arguments["partner_rows"]):
        raise TaskRefused("places_wrong", f"{context.partner.name} names more common rows than its own list has")
    if (places >= len(order)).any() or len(np.unique(places)) != len(places):
        raise TaskRefused(
            "places_wrong", f"{context.partner.name} names a place twice, or one beyond the {len(order)} of this list"
        )
    policy = read_policy(dict(context.settings["policy"])).of(context.partner.name)
    scoring = "model" in arguments
    check_count(len(places), 1 if scoring else policy.intersection_min)
    rows = order[places]
    if scoring:
        scoring_rules(context, arguments, len(rows), policy)
    else:
        grant_rows(context, len(rows), policy)
    common = [identifiers[row] for row in rows]
    divided, sizes, used = divide(common, arguments.get("parts"))
    arranged = [common[place] for place in divided]
    allowed = 0 if scoring else _release_rules(context, arguments, arranged[: len(used)], used, None)
    if "evaluated" in arguments:
        grant_evaluations(context, arguments, arranged, len(used), sizes, policy)
    people = {"people": _people_digest(common, arguments["people"])} if "people" in arguments else {}
    return TaskResult(
        {"count": len(rows), "digest": _digest(body, arguments), "iterations_allowed": allowed, **sizes, **people},
        ((rows[divided].astype("<i8").tobytes(), len(rows)),),
    )


def _people_digest(common: list[str], schema: str) -> bytes:
    """Whose rows the common ones are, in their order, 32 bytes: the same at all providers of an honest business.

    The business alone pairs the rows of several providers. The digest never leaves a party; masks depend on it.
    """
    digest = hashlib.sha256(b"warren people of the common rows\x00")
    for name in normalise(common, schema):
        digest.update(len(name).to_bytes(4, "big") + name)
    return digest.digest()


def _digest(places: bytes, arguments: dict[str, Any]) -> bytes:
    """What a provider and the business compare: the common rows, and the seed of their division where there is one."""
    seed: bytes = arguments["parts"]["seed"] if "parts" in arguments else b""
    return hashlib.sha256(places + seed).digest()


def _release_rules(
    context: TaskContext,
    arguments: dict[str, Any],
    rows: list[str],
    used: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
) -> int:
    """Iterations that this party lets all others have: each gets its gradients, and all get the summed rows.

    Every partner has a ledger of its own, and the columns of all parties count for the rows that are needed.
    """
    columns: dict[str, int] = arguments["columns"]
    total = arguments["own_columns"] + sum(columns.values())
    allowed: int = arguments["max_iterations"]
    for name, count in columns.items():
        try:
            left = Ledger(context.data_directory, name).admit(
                context.job,
                rows,
                sets=used,
                weights=weights,
                own_columns=total - count,
                partner_columns=count,
                max_iterations=arguments["max_iterations"],
                small_sample=arguments["small_sample"],
                tariff=release.Tariff(**arguments.get("tariff", {})),
            )
        except release.ReleaseRefused as error:
            raise TaskRefused(error.code, f"with {name}: {error}") from None
        allowed = min(allowed, left)
    return allowed
