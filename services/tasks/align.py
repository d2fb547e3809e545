"""Compute tasks of the alignment: mask, sort, list, echo, open, match (docs/alignment.md)."""

import hashlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment import curve, identifiers, sets
from learning import parts, release
from messages import schemas
from protocol.policy import Policy, read_policy
from protocol.state import SCORING_PROVIDER
from services.store.ledger import DAY_S, Ledger, PointsSpent, ProjectionsSpent, RowsSpent, ScoresSpent
from services.tables.snapshot import IdentifierChunks, unpack_snapshot
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.sealing import open_chunk, seal_chunk

Inputs = tuple[bytes, ...]
POINT_BYTES = 32
TOKEN_BYTES = 16


def _scalar(context: TaskContext, arguments: dict[str, Any]) -> bytes:
    """The job's secret scalar: the same when a task is run again, another for another job or snapshot."""
    return curve.derive_scalar(
        context.job_secret, context.job, context.partner.name, arguments["role"], arguments["snapshot"]
    )


def mask(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Map a chunk of own identifiers to the curve and mask them. Blob: points, 32 bytes each, in row order."""
    first, items = arguments["first"], arguments["items"]
    name = f"identifiers {arguments['snapshot'].hex()} {items}"
    if name not in context.cache:
        context.cache[name] = IdentifierChunks(inputs[0], items)
    chunks: IdentifierChunks = context.cache[name]
    try:
        chosen = identifiers.normalise(chunks.chunk(inputs[0], first // items), arguments["schema"])
    except identifiers.IdentifierError as error:
        raise TaskRefused(error.code, f"rows from {first + 1} on: {error}") from None
    points = curve.mask_many(curve.map_many(chosen), _scalar(context, arguments))
    return TaskResult({}, ((points.tobytes(), len(chosen)),))


def _points(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, POINT_BYTES)


def sort(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Sort all masked points by their bytes. Blobs: the list, and the own row behind each place in it."""
    del context, arguments
    try:
        points, order = sets.sorted_list(_points(b"".join(inputs)))
    except sets.ListError as error:
        raise TaskRefused(error.code, str(error)) from None
    return TaskResult(
        {"commitment": sets.commitment(points)},
        ((points.tobytes(), len(points)), (order.astype("<i8").tobytes(), len(order))),
    )


def send_list(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Seal one chunk of the sorted list."""
    chunk, items = arguments["chunk"], arguments["items"]
    body = inputs[0][chunk * items * POINT_BYTES : (chunk + 1) * items * POINT_BYTES]
    sealed = seal_chunk(context, schemas.AlignList(points=body), chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, len(body) // POINT_BYTES),))


def echo(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Check one chunk of the partner's list and answer it. Blobs: sealed answer, points, tokens."""
    chunk, chunks = arguments["chunk"], arguments["chunks"]
    if "listed" in arguments:
        grant_points(context, arguments["listed"])
    last, points, tokens = _evaluated(context, arguments, inputs)
    sealed = seal_chunk(context, schemas.AlignEcho(tokens=tokens), chunk, chunks)
    rows = len(points) // POINT_BYTES
    return TaskResult({"last": last, **sealed.proof}, ((sealed.body, rows), (points, rows), (tokens, rows)))


def grant_points(context: TaskContext, points: int) -> None:
    """Count the identifiers of the partner's list against what the policy leaves to it. Raises TaskRefused."""
    policy = read_policy(dict(context.settings["policy"])).of(context.partner.name)
    ledger = Ledger(context.data_directory, context.partner.name)
    try:
        ledger.grant_points(
            context.job, points, quota=policy.psi_quota, period_s=policy.period_days * DAY_S, now=time.time()
        )
    except PointsSpent as error:
        raise TaskRefused("psi_quota", str(error)) from None


def evaluate(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Check one chunk of a provider's list and keep its tokens: of several none is answered. Blobs: points, tokens."""
    last, points, tokens = _evaluated(context, arguments, inputs)
    rows = len(points) // POINT_BYTES
    return TaskResult({"last": last}, ((points, rows), (tokens, rows)))


def _evaluated(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> tuple[bytes, bytes, bytes]:
    """(last point, points, tokens) of a chunk of the partner's list, checked."""
    chunk, chunks = arguments["chunk"], arguments["chunks"]
    where = f"align.list chunk {chunk} from {context.partner.name}"
    message = open_chunk(context, inputs[0], schemas.AlignList, chunk, chunks)
    if len(message.points) != arguments["items"] * POINT_BYTES:
        raise TaskRefused("align_count", f"{where} has {len(message.points)} bytes, not {arguments['items']} points")
    try:
        points = sets.check_chunk(message.points, arguments["last"] or None)
        sets.refuse_reflected(points, _points(inputs[1]))
        masked = curve.mask_many(points, _scalar(context, arguments))
    except sets.ListError as error:
        raise TaskRefused(error.code, f"{where}: {error}") from None
    except curve.PointError as error:
        raise TaskRefused("align_point", f"{where}: {error}") from None
    return message.points[-POINT_BYTES:] or arguments["last"], message.points, sets.tokens(masked).tobytes()


def open_echo(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Open the partner's answer to one own chunk. Blob: tokens, 16 bytes each, in list order."""
    chunk = arguments["chunk"]
    message = open_chunk(context, inputs[0], schemas.AlignEcho, chunk, arguments["chunks"])
    if len(message.tokens) != arguments["items"] * TOKEN_BYTES:
        raise TaskRefused(
            "align_count",
            f"align.echo chunk {chunk} from {context.partner.name} has {len(message.tokens)} bytes, "
            f"not {arguments['items']} tokens",
        )
    return TaskResult({}, ((message.tokens, arguments["items"]),))


def match(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Match both token lists; check the partner's commitment and this party's own release rules.

    Blob: own rows in token order (int64), the common row order of the job.
    """
    own, partner = arguments["own_chunks"], arguments["partner_chunks"]
    order = np.frombuffer(inputs[1], dtype="<i8")
    own_tokens = _tokens(inputs[2 : 2 + own])
    partner_tokens = _tokens(inputs[2 + own : 2 + own + partner])
    check_commitment(inputs[2 + own + partner :], arguments["commitment"], context.partner.name)
    try:
        found = sets.match(own_tokens, order, partner_tokens)
    except sets.ListError as error:
        raise TaskRefused(error.code, str(error)) from None
    policy = read_policy(dict(context.settings["policy"])).of(context.partner.name)
    if "model" in arguments:
        check_count(found.count, 1)  # a file to score may be as small as it likes
        scoring_rules(context, arguments, found.count, policy)
        output = {"count": found.count, "digest": found.digest, "iterations_allowed": 0}
        return TaskResult(output, ((found.own_rows.astype("<i8").tobytes(), found.count),))
    check_count(found.count, policy.intersection_min)
    snapshot = unpack_snapshot(inputs[0])
    common = [snapshot.identifiers[row] for row in found.own_rows]
    places, sizes, used = divide(common, arguments.get("parts"))
    training = [common[place] for place in places[: len(used)]]
    weight = snapshot.weights()
    weights = None if weight is None else weight[found.own_rows[places[: len(used)]]]
    grant_rows(context, found.count, policy)
    allowed = _release_rules(context, arguments, training, used, weights)
    if "evaluated" in arguments:
        arranged = [common[place] for place in places]
        grant_evaluations(context, arguments, arranged, len(used), sizes, policy)
    return TaskResult(
        {"count": found.count, "digest": found.digest, "iterations_allowed": allowed, **sizes},
        ((found.own_rows[places].astype("<i8").tobytes(), found.count),),
    )


def divide(
    common: list[str], facts: dict[str, Any] | None
) -> tuple[NDArray[np.int64], dict[str, Any], NDArray[np.bool_]]:
    """The order in which the common rows are kept, the sizes of their parts, and the row sets of training."""
    if facts is None:
        return np.arange(len(common)), {}, np.ones((len(common), 1), dtype=bool)
    layout = parts.Layout(facts["validation"], facts["test"], facts["blocks"], facts["nested"])
    arranged = parts.arrange(identifiers.normalise(common, facts["schema"]), facts["seed"], layout)
    sizes = {"blocks": arranged.blocks, "validation": arranged.validation, "test": arranged.test}
    if not all(arranged.blocks):
        raise TaskRefused("parts_empty", f"{len(common)} common rows do not fill {layout.blocks} parts")
    return arranged.order, sizes, parts.row_sets(arranged.blocks, layout)


def check_commitment(points: Inputs, commitment: bytes, partner: str) -> None:
    """The list that came is the one that was committed to. Raises TaskRefused."""
    digest = hashlib.sha256()
    for part in points:  # not joined: of long lists a second copy
        digest.update(part)
    if digest.digest() != commitment:
        raise TaskRefused("align_commitment", f"the list of {partner} is not the one it committed to")


def check_count(count: int, needed: int) -> None:
    """This party's policy asks for so many common rows. Raises TaskRefused."""
    if count < max(1, needed):
        raise TaskRefused(
            "intersection_small",
            f"{count} identifiers in common, this party's policy asks for {max(1, needed)}: are the "
            "identifiers of both tables written alike?",
        )


def _tokens(parts: Inputs) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, TOKEN_BYTES)


def scoring_rules(context: TaskContext, arguments: dict[str, Any], rows: int, policy: Policy) -> None:
    """A provider counts the rows that are about to be scored against what its policy leaves to the partner."""
    if arguments["role"] != SCORING_PROVIDER:
        return
    if rows > arguments["score_quota"]:
        raise TaskRefused(
            "score_quota", f"{rows} identifiers in common, the contract allows {arguments['score_quota']} scores"
        )
    grant_scores(context, arguments["model"], rows * arguments.get("classes", 1), policy)


def grant_evaluations(
    context: TaskContext,
    arguments: dict[str, Any],
    arranged: list[str],
    training: int,
    sizes: dict[str, Any],
    policy: Policy,
) -> None:
    """Note what evaluations of parts will tell of the common rows, which are `arranged`. Raises TaskRefused."""
    rows = {"training": training, "validation": 0, "test": 0, **sizes}
    if "stops" in arguments:
        grant_projections(context, arguments, arranged[training : training + rows["validation"]])
    grant_scores(context, context.job, sum(rows[part] for part in arguments["evaluated"]), policy)


def grant_rows(context: TaskContext, rows: int, policy: Policy) -> None:
    """Count the common rows against what the policy leaves to the partner in a period. Raises TaskRefused."""
    if policy.rows_per_period is None:
        return
    try:
        Ledger(context.data_directory, context.partner.name).grant_rows(
            context.job,
            rows,
            quota=policy.rows_per_period,
            period_s=policy.period_days * DAY_S,
            now=time.time(),
        )
    except RowsSpent as error:
        raise TaskRefused("rows_per_period", str(error)) from None


def grant_projections(context: TaskContext, arguments: dict[str, Any], validation: list[str]) -> None:
    """Note, as `grant_scores` does, how often a job that stops early may evaluate its validation rows.

    Raises TaskRefused.
    """
    columns, small_sample = arguments["own_columns"], arguments["small_sample"]
    ledger = Ledger(context.data_directory, context.partner.name)
    try:
        ledger.grant_projections(
            context.job,
            validation,
            arguments["stops"],
            each=arguments.get("classes", 1),
            columns=columns,
            small_sample=small_sample,
        )
    except ProjectionsSpent as error:
        raise TaskRefused("projections_spent", str(error)) from None


def grant_scores(context: TaskContext, model: str, rows: int, policy: Policy) -> None:
    """Note, durably and before one of them leaves, that a model's scores of so many rows will. Raises TaskRefused."""
    try:
        Ledger(context.data_directory, context.partner.name).grant_scores(
            context.job,
            model,
            rows,
            quota=policy.score_quota,
            period_s=policy.score_period_days * DAY_S,
            now=time.time(),
        )
    except ScoresSpent as error:
        raise TaskRefused("score_quota", str(error)) from None


def _release_rules(
    context: TaskContext,
    arguments: dict[str, Any],
    rows: list[str],
    used: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
) -> int:
    """Iterations that this party, as owner of what it releases, lets the partner have on these rows and sets."""
    ledger = Ledger(context.data_directory, context.partner.name)
    try:
        return ledger.admit(
            context.job,
            rows,
            sets=used,
            weights=weights,
            own_columns=arguments["own_columns"],
            partner_columns=arguments["partner_columns"],
            max_iterations=arguments["max_iterations"],
            small_sample=arguments["small_sample"],
            reserved=arguments.get("reserved", 0),
            tariff=release.Tariff(**arguments.get("tariff", {})),
        )
    except release.ReleaseRefused as error:
        raise TaskRefused(error.code, str(error)) from None
