"""Compute tasks of an iteration (protocol.md section 4): one chunk in, one event out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning import history as histories
from learning import links, loop
from learning.family import LinkError, family_of
from learning.reductions import column_sums
from learning.targets import targets_of
from messages import schemas
from paillier import packing
from paillier.backend import Guest
from paillier.budget import BudgetError
from paillier.vector import CipherVector
from services.compute import TaskContext, TaskRefused, TaskResult
from services.tasks import curving, keyring
from services.tasks.features import check_rows, checked_vector, matrix_of, open_vector
from services.tasks.sealing import open_chunk, open_with_plain, seal_chunk

Inputs = tuple[bytes, ...]


def score(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Take the step, score the own rows. Blobs: local history, scores (float64).

    The provider's output is the range of its scores, on the coarse grid that it announces.
    """
    del context
    facts = arguments["job"]
    matrix = matrix_of(inputs[0], facts["own_columns"])[: facts["rows"]]  # those held out come after
    history = histories.take_step(histories.decode(inputs[1]), tuple(arguments["combination"]))
    scores = histories.scores(history, matrix)
    output: dict[str, Any] = {}
    if arguments["role"] == "provider":
        bound, spread = links.score_range(scores, family_of(facts), arguments["iteration"])
        output = {"bound": bound, "spread": spread}
    return TaskResult(
        output,
        ((histories.encode(history), facts["own_columns"]), (scores.astype("<f8").tobytes(), len(scores))),
    )


def _expansion(facts: dict[str, Any], arguments: dict[str, Any]) -> links.Expansion:
    return links.Expansion(
        family=family_of(facts),
        terms=arguments["terms"],
        bound=arguments["bound"],
        stretch=arguments["stretch"],
        spread=arguments["spread"],
    )


def plan(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Choose the link expansion of an iteration from the announced range and the size of the gradient."""
    del context, inputs
    facts = arguments["job"]
    if "curvature" in arguments:
        return TaskResult(curving.plan(arguments), ())
    expansion = links.choose(
        family_of(facts),
        bound=arguments["bound"],
        spread=arguments["spread"],
        tolerance=loop.decode(arguments["loop"]).link_tolerance,
    )
    return TaskResult({"terms": expansion.terms, "stretch": expansion.stretch, "bound": expansion.bound}, ())


def encrypt_terms(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Expand a chunk's residuals, encrypt under the own key, seal."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    first, rows = arguments["first_row"], arguments["rows"]
    scores = np.frombuffer(inputs[0], dtype="<f8")[first : first + rows]
    expansion = _expansion(facts, arguments)
    targets = targets_of(inputs[1], expansion.family).rows(slice(first, first + rows))
    budget = keyring.budget_of(facts)
    try:
        if curving.bends(arguments):
            constant, terms = curving.business_terms(arguments, scores, targets, inputs[2:], budget.f_u)
        else:
            constant, terms = links.business_terms(expansion, scores, targets, budget.f_u)
    except LinkError as error:
        raise TaskRefused(error.code, str(error)) from None
    plain = np.concatenate([terms.reshape(rows, -1), constant.reshape(rows, 1)], axis=1).ravel()
    fresh = keyring.stream(context, "link-terms", iteration, chunk, keyring.digest_of(inputs))
    vector = keyring.owner(context, facts).encrypt(plain.tolist(), fresh)
    message = schemas.LinkTerms(
        iteration=iteration,
        first_row=first,
        rows=rows,
        terms=arguments["terms"],
        bound=arguments["bound"],
        stretch=arguments["stretch"],
        ciphertexts=vector.to_bytes(),
    )
    sealed = seal_chunk(context, message, chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, rows),))


def _features(
    context: TaskContext, facts: dict[str, Any], blobs: Inputs, first_row: int, arguments: dict[str, Any]
) -> CipherVector:
    """The partner's encrypted columns of a chunk's rows, from the feature chunks that cover them."""
    public = keyring.guest(context, facts).public
    budget = keyring.budget_of(facts)
    per_row = -(-facts["partner_columns"] // budget.columns_per_ciphertext)
    start = (arguments["first_row"] - first_row) * per_row
    joined = CipherVector.from_bytes(public, b"".join(blobs))
    return joined[start : start + arguments["rows"] * per_row]


def _parts(
    context: TaskContext,
    arguments: dict[str, Any],
    matrix: NDArray[np.int16],
    features: CipherVector,
    share: list[int],
) -> dict[str, Any]:
    """A chunk's part of the cross term (for the partner) and of the own gradient, from one residual share."""
    facts = arguments["job"]
    budget = keyring.budget_of(facts)
    cross = keyring.guest(context, facts).power_sum(features, share, budget.share_bits)
    own = matrix[arguments["first_row"] : arguments["first_row"] + arguments["rows"]]
    local = column_sums(own, share)
    size = max(1, max((value.bit_length() for value in local), default=1) // 8 + 1)
    return {
        "cross": cross.to_bytes(),
        "local": [value.to_bytes(size, "little", signed=True) for value in local],
    }


def _residuals(
    guest: Guest, vector: CipherVector, exponents: NDArray[np.int64], per_row: int, value_bits: int
) -> CipherVector:
    """The encrypted residual of every row: `A_i prod_k u_ik^v_ik`; the constant is a row's last ciphertext."""
    places = np.arange(len(vector))
    constants = vector[places[per_row - 1 :: per_row]]
    if per_row == 1:
        return constants
    terms = vector[places[places % per_row != per_row - 1]]
    return guest.power_rows(terms, exponents, value_bits + 1, plus=constants)


def _own_terms(
    arguments: dict[str, Any], message: schemas.LinkTerms, scores: NDArray[np.float64], along: Inputs, f_u: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The provider's (exponents, addend) for a chunk. Raises LinkError for terms that do not suit the model."""
    if curving.bends(arguments):
        return curving.provider_terms(arguments, message, scores, along, f_u)
    expansion = links.Expansion(
        family=family_of(arguments["job"]), terms=message.terms, bound=message.bound, stretch=message.stretch
    )
    links.check_terms(expansion)
    return links.provider_exponents(expansion, scores), links.provider_addend(expansion, scores, f_u)


def evaluate(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The provider's work on a chunk of link terms: residuals, packed, masked, re-randomised, sealed."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    first, rows = arguments["first_row"], arguments["rows"]
    where = f"link.terms chunk {chunk} of iteration {iteration} from {context.partner.name}"
    message, plain = open_with_plain(context, inputs[0], schemas.LinkTerms, chunk, arguments["chunks"])
    check_rows(where, message, arguments)
    if message.iteration != iteration:
        raise TaskRefused("iteration_wrong", f"{where} is of iteration {message.iteration}")
    count = rows * (message.terms + 1)
    vector = open_vector(context, facts, message.ciphertexts, count, where)
    scores = np.frombuffer(inputs[1], dtype="<f8")[first : first + rows]
    matrix = matrix_of(inputs[2], facts["own_columns"])
    budget, guest = keyring.budget_of(facts), keyring.guest(context, facts)
    try:
        exponents, addend = _own_terms(arguments, message, scores, inputs[3:4], budget.f_u)
    except LinkError as error:
        raise TaskRefused(error.code, f"{where}: {error}") from None
    residuals = _residuals(guest, vector, exponents, message.terms + 1, budget.f_v)
    if addend.any():
        residuals = guest.add_plain(residuals, addend.tolist())
    packed = guest.pack_rows(residuals, budget.row_slot, budget.rows_per_ciphertext)
    seen = keyring.digest_of((plain, *inputs[1:]))
    fresh = keyring.stream(context, "masks", iteration, chunk, seen)
    masks = packing.masks(len(packed), guest.public, fresh)
    blinding = keyring.stream(context, "share-rerandomise", iteration, chunk, seen)
    masked = guest.rerandomise(guest.add_plain(packed, masks), blinding)
    # The residual is D - R: the provider's share is subtracted, so it enters every sum negatively.
    share = [-value % (1 << budget.share_bits) for value in packing.share_digits(masks, rows, budget)]
    features = _features(
        context, facts, inputs[3 + curving.blobs_along(arguments) :], arguments["feature_row"], arguments
    )
    output = {"terms": message.terms, **_parts(context, arguments, matrix, features, share)}
    reply = schemas.ResidualShare(iteration=iteration, first_row=first, rows=rows, ciphertexts=masked.to_bytes())
    sealed = seal_chunk(context, reply, chunk, arguments["chunks"])
    return TaskResult({**output, **sealed.proof}, ((sealed.body, rows),))


def open_share(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The business's work on a chunk of masked residuals: decrypt, take its digits, raise the features to them."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    rows = arguments["rows"]
    where = f"residual.share chunk {chunk} of iteration {iteration} from {context.partner.name}"
    message = open_chunk(context, inputs[0], schemas.ResidualShare, chunk, arguments["chunks"])
    check_rows(where, message, arguments)
    if message.iteration != iteration:
        raise TaskRefused("iteration_wrong", f"{where} is of iteration {message.iteration}")
    budget, owner = keyring.budget_of(facts), keyring.owner(context, facts)
    count = -(-rows // budget.rows_per_ciphertext)
    vector = checked_vector(owner, message.ciphertexts, count, where)
    share = packing.share_digits(owner.decrypt(vector), rows, budget)
    matrix = matrix_of(inputs[1], facts["own_columns"])
    features = _features(context, facts, inputs[2:], arguments["feature_row"], arguments)
    return TaskResult(_parts(context, arguments, matrix, features, share), ())


def close_cross(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Window and re-randomise the partner's cross term before it leaves (protocol.md section 4, item 3)."""
    facts, iteration = arguments["job"], arguments["iteration"]
    budget, guest = keyring.budget_of(facts), keyring.guest(context, facts)
    product = CipherVector.from_bytes(guest.public, arguments["product"])
    seen = keyring.digest_of((arguments["product"], *inputs))
    window = packing.window_values(
        facts["partner_columns"],
        budget,
        guest.public.modulus,
        keyring.stream(context, "window", iteration, seen),
        keyring.noise_stream(context, facts, iteration, seen),
        facts["release_noise"],
    )
    fresh = keyring.stream(context, "cross-rerandomise", iteration, seen)
    reply = guest.rerandomise(guest.add_plain(product, window), fresh)
    return TaskResult({"ciphertexts": reply.to_bytes()}, ())


def read_total(context: TaskContext, arguments: dict[str, Any]) -> list[int]:
    """Decrypt the partner's half of a gradient and add the own half: exact sums. Raises TaskRefused."""
    facts, iteration = arguments["job"], arguments["iteration"]
    budget, owner = keyring.budget_of(facts), keyring.owner(context, facts)
    columns = facts["own_columns"]
    where = f"cross.term of iteration {iteration} from {context.partner.name}"
    count = -(-columns // budget.columns_per_ciphertext)
    vector = checked_vector(owner, arguments["ciphertexts"], count, where)
    local = [int.from_bytes(part, "little", signed=True) for part in arguments["local"]]
    try:
        return packing.read_gradient(
            owner.decrypt(vector),
            columns,
            budget,
            owner.public.modulus,
            local,
            release_noise=facts["release_noise"],
        )
    except BudgetError as error:
        raise TaskRefused("budget_exceeded", f"{where}: {error}") from None


def gradient(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Decrypt the partner's half, add the own half, append the gradient to the local history."""
    facts, columns = arguments["job"], arguments["job"]["own_columns"]
    total, budget = read_total(context, arguments), keyring.budget_of(facts)
    history, products, largest = histories.append_gradient(
        histories.decode(inputs[0]), total, facts["rows"], budget.f_u, facts["release_noise"], budget.f_v
    )
    return TaskResult({"products": products, "largest": largest}, ((histories.encode(history), columns),))
