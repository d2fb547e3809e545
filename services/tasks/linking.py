"""Compute tasks of link terms and residual shares (protocol.md section 4): one chunk in, one event out."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.reductions import column_sums
from learning.links import chain, residual_terms
from learning.links.family import LinkError, family_of
from learning.links.targets import Targets, targets_of
from learning.solvers import loop
from learning.solvers.classes import one_against_rest
from messages import schemas
from paillier import chained, packing
from paillier.backend import Guest
from paillier.budget import BitBudget
from paillier.vector import CipherVector
from services.tasks import curving, keyring
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.features import check_rows, checked_vector, matrix_of, open_vector
from services.tasks.sealing import open_chunk, open_with_plain, seal_chunk
from services.tasks.train import places

Inputs = tuple[bytes, ...]
Vector = NDArray[np.float64]


def _expansion(facts: dict[str, Any], arguments: dict[str, Any]) -> residual_terms.Expansion:
    return residual_terms.Expansion(
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
    expansion = residual_terms.choose(
        family_of(facts),
        bound=arguments["bound"],
        spread=arguments["spread"],
        tolerance=arguments["link_tolerance"] if "link_tolerance" in arguments else _link_tolerance(arguments["loop"]),
    )
    return TaskResult({"terms": expansion.terms, "stretch": expansion.stretch, "bound": expansion.bound}, ())


def _link_tolerance(state: bytes) -> float:
    return loop.decode(state).link_tolerance


def _places(arguments: dict[str, Any]) -> NDArray[np.int64]:
    """The places of a chunk's rows, which are counted within the iteration, among the training rows."""
    return places(arguments.get("skip", 0) + arguments["first_row"], arguments["rows"], arguments["job"])


def encrypt_terms(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Expand a chunk's residuals, encrypt under the own key, seal."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    first, rows = arguments["first_row"], arguments["rows"]
    scores = _scores_of(arguments, inputs[0])
    budget = keyring.budget_of(facts)
    expansion = _expansion(facts, arguments)
    targets = _of_classes(arguments, targets_of(inputs[1], expansion.family).rows(_places(arguments)))
    try:
        if facts["providers"] > 1:
            plain = _chain_plain(expansion, scores, targets, budget)
        else:
            if curving.bends(arguments):
                constant, terms = curving.business_terms(arguments, scores, targets, inputs[2:], budget.f_u)
            else:
                constant, terms = residual_terms.business_terms(expansion, scores, targets, budget.f_u)
            plain = np.concatenate([terms.reshape(len(scores), -1), constant[:, None]], axis=1).ravel().tolist()
    except LinkError as error:
        raise TaskRefused(error.code, str(error)) from None
    fresh = keyring.stream(context, "link-terms", iteration, chunk, keyring.digest_of(inputs))
    vector = keyring.owner(context, facts).encrypt(plain, fresh)
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


def _of_classes(arguments: dict[str, Any], targets: Targets) -> Targets:
    """What each row is to each class, row by row; of one score as it is."""
    if "classes" not in arguments:
        return targets
    count = len(arguments["classes"])
    weight = None if targets.weight is None else np.repeat(targets.weight, count)
    return Targets(one_against_rest(targets.label, arguments["classes"]), weight)


def _residual_count(arguments: dict[str, Any]) -> int:
    """Residuals of a chunk: one of each row, or of each row and class."""
    return int(arguments["rows"]) * len(arguments.get("classes", (0,)))


def _chain_plain(expansion: residual_terms.Expansion, scores: Vector, targets: Targets, budget: BitBudget) -> list[int]:
    """Row by row: the terms, then the constant, for a chain of several providers."""
    constant, terms = chain.business_terms(expansion, scores, targets, budget.f_u, budget.providers)
    return [value for row, last in zip(terms, constant, strict=True) for value in (*row, last)]


def _crosses(
    context: TaskContext, arguments: dict[str, Any], blobs: Inputs, share: list[int], budget: BitBudget
) -> dict[str, bytes]:
    """A chunk's part of the cross term for every other party: its encrypted columns raised to the share.

    The blobs are the parties' feature chunks that cover the chunk's rows, one party after the other.
    """
    found, at = {}, 0
    for other in arguments["others"]:
        facts, count = other["job"], other["blobs"]
        guest = keyring.guest(context, facts)
        per_row = -(-facts["partner_columns"] // budget.columns_per_ciphertext)
        groups = np.array(other.get("groups", range(per_row)), dtype=np.int64)
        if not groups.size:
            found[facts["partner"]] = b""
            continue
        start = (int(_places(arguments)[0]) - other["feature_row"]) * per_row
        joined = CipherVector.from_bytes(guest.public, b"".join(blobs[at : at + count]))
        features = joined[start : start + arguments["rows"] * per_row]
        if groups.size < per_row:
            features = features[(np.arange(arguments["rows"])[:, None] * per_row + groups).ravel()]
        found[facts["partner"]] = guest.power_sum(features, share, budget.share_bits).to_bytes()
        at += count
    return found


def _parts(
    context: TaskContext, arguments: dict[str, Any], matrix: NDArray[np.int16], blobs: Inputs, share: list[int]
) -> dict[str, Any]:
    """A chunk's part of the cross terms (for the partners) and of the own gradient, from one residual share."""
    count, budget = len(arguments.get("classes", (0,))), keyring.budget_of(arguments["job"])
    own, parts = matrix[_places(arguments)], [share[place::count] for place in range(count)]
    found = [_crosses(context, arguments, blobs, part, budget) for part in parts]
    crosses = {name: b"".join(one[name] for one in found) for name in found[0]}
    local = [value for part in parts for value in column_sums(own, part)]
    size = max(1, max((value.bit_length() for value in local), default=1) // 8 + 1)
    # A partner that is the only one goes without its name.
    said = {"crosses": crosses} if arguments["job"]["partner"] else {"cross": crosses[""]}
    return {**said, "local": [value.to_bytes(size, "little", signed=True) for value in local]}


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


def _received(
    context: TaskContext, arguments: dict[str, Any], sealed: bytes
) -> tuple[schemas.LinkTerms, CipherVector, bytes]:
    """The link terms of a chunk, checked, their ciphertexts, and the plaintext body."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    sender = arguments["from"]
    where = f"link.terms chunk {chunk} of iteration {iteration} from {sender}"
    message, plain = open_with_plain(context, sealed, schemas.LinkTerms, chunk, arguments["chunks"], sender)
    check_rows(where, message, arguments)
    if message.iteration != iteration:
        raise TaskRefused("iteration_wrong", f"{where} is of iteration {message.iteration}")
    count = _residual_count(arguments) * (message.terms + 1)
    return message, open_vector(context, facts, message.ciphertexts, count, where), plain


def _scores_of(arguments: dict[str, Any], scores: bytes) -> Vector:
    """The own scores of a chunk's rows; of several classes, row by row those that go on."""
    if "classes" not in arguments:
        return np.frombuffer(scores, dtype="<f8")[_places(arguments)]
    table = np.frombuffer(scores, dtype="<f8").reshape(arguments["job"]["rows"], -1)
    return np.ascontiguousarray(table[np.ix_(_places(arguments), arguments["classes"])]).ravel()


def rotate(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The work of a provider that is not the last: link terms with its own scores worked in, re-randomised, sealed."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    message, vector, plain = _received(context, arguments, inputs[0])
    expansion, scores = _checked_expansion(arguments, message), _scores_of(arguments, inputs[1])
    budget, guest = keyring.budget_of(facts), keyring.guest(context, facts)
    terms, constants = chained.split(vector, message.terms)
    constants = chained.add(guest, constants, chain.addend(expansion, scores, budget.f_u, budget.providers))
    values = chain.values(expansion, scores, arguments["bound"])
    if chain.weighs(expansion):
        constants = chained.add_up(guest, terms, values, constants, budget.f_v)
    else:
        terms = chained.turn(guest, terms, chain.places(expansion), chain.factors(expansion, values), budget.f_v)
    turned = chained.join(terms, constants, message.terms)
    seen = keyring.digest_of((plain, *inputs[1:]))
    fresh = keyring.stream(context, "chain-rerandomise", iteration, chunk, seen)
    body = msgspec.structs.replace(message, ciphertexts=guest.rerandomise(turned, fresh).to_bytes())
    sealed = seal_chunk(context, body, chunk, arguments["chunks"])
    return TaskResult({"terms": message.terms, **sealed.proof}, ((sealed.body, arguments["rows"]),))


def _summed(
    guest: Guest,
    arguments: dict[str, Any],
    message: schemas.LinkTerms,
    vector: CipherVector,
    scores: Vector,
    along: Inputs,
) -> CipherVector:
    """The encrypted residuals, from the terms that came, and the own scores."""
    facts = arguments["job"]
    budget = keyring.budget_of(facts)
    if budget.providers > 1:
        expansion = _checked_expansion(arguments, message)
        terms, constants = chained.split(vector, message.terms)
        values = chain.values(expansion, scores, arguments["bound"])
        residuals = chained.add_up(guest, terms, values, constants, budget.f_v)
        return chained.add(guest, residuals, chain.addend(expansion, scores, budget.f_u, budget.providers))
    exponents, addend = _own_terms(arguments, message, scores, along, budget.f_u)
    residuals = _residuals(guest, vector, exponents, message.terms + 1, budget.f_v)
    return guest.add_plain(residuals, addend.tolist()) if addend.any() else residuals


def _checked_expansion(arguments: dict[str, Any], message: schemas.LinkTerms) -> residual_terms.Expansion:
    """The expansion that the terms are of. Raises TaskRefused for terms that do not suit the model."""
    expansion = residual_terms.Expansion(
        family=family_of(arguments["job"]), terms=message.terms, bound=message.bound, stretch=message.stretch
    )
    try:
        residual_terms.check_terms(expansion)
    except LinkError as error:
        where = f"link.terms chunk {arguments['chunk']} of iteration {arguments['iteration']} from {arguments['from']}"
        raise TaskRefused(error.code, f"{where}: {error}") from None
    return expansion


def _own_terms(
    arguments: dict[str, Any], message: schemas.LinkTerms, scores: Vector, along: Inputs, f_u: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The only provider's (exponents, addend) for a chunk. Raises TaskRefused for terms that do not suit the model."""
    if not curving.bends(arguments):
        expansion = _checked_expansion(arguments, message)
        return residual_terms.provider_exponents(expansion, scores), residual_terms.provider_addend(
            expansion, scores, f_u
        )
    try:
        return curving.provider_terms(arguments, message, scores, along, f_u)
    except LinkError as error:
        where = f"link.terms chunk {arguments['chunk']} of iteration {arguments['iteration']} from {arguments['from']}"
        raise TaskRefused(error.code, f"{where}: {error}") from None


def evaluate(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The last provider's work on a chunk of link terms: residuals, packed, masked, re-randomised, sealed."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    first, rows = arguments["first_row"], arguments["rows"]
    message, vector, plain = _received(context, arguments, inputs[0])
    matrix = matrix_of(inputs[2], facts["own_columns"])
    budget, guest = keyring.budget_of(facts), keyring.guest(context, facts)
    scores, own = _scores_of(arguments, inputs[1]), 3 + curving.blobs_along(arguments)
    residuals = _summed(guest, arguments, message, vector, scores, inputs[3:own])
    packed = guest.pack_rows(residuals, budget.row_slot, budget.rows_per_ciphertext)
    seen = keyring.digest_of((plain, *inputs[1:]))
    fresh = keyring.stream(context, "masks", iteration, chunk, seen)
    masks = packing.masks(len(packed), guest.public, fresh)
    blinding = keyring.stream(context, "share-rerandomise", iteration, chunk, seen)
    masked = guest.rerandomise(guest.add_plain(packed, masks), blinding)
    # The residual is D - R: the provider's share is subtracted, so it enters every sum negatively.
    share = [
        -value % (1 << budget.share_bits) for value in packing.share_digits(masks, _residual_count(arguments), budget)
    ]
    output = {"terms": message.terms, **_parts(context, arguments, matrix, inputs[own:], share)}
    reply = schemas.ResidualShare(iteration=iteration, first_row=first, rows=rows, ciphertexts=masked.to_bytes())
    sealed = seal_chunk(context, reply, chunk, arguments["chunks"])
    return TaskResult({**output, **sealed.proof}, ((sealed.body, rows),))


def open_share(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The business's work on a chunk of masked residuals: decrypt, take its digits, raise the features to them."""
    facts, chunk, iteration = arguments["job"], arguments["chunk"], arguments["iteration"]
    where = f"residual.share chunk {chunk} of iteration {iteration} from {context.partner.name}"
    message = open_chunk(context, inputs[0], schemas.ResidualShare, chunk, arguments["chunks"])
    check_rows(where, message, arguments)
    if message.iteration != iteration:
        raise TaskRefused("iteration_wrong", f"{where} is of iteration {message.iteration}")
    budget, owner = keyring.budget_of(facts), keyring.owner(context, facts)
    count = -(-_residual_count(arguments) // budget.rows_per_ciphertext)
    vector = checked_vector(owner, message.ciphertexts, count, where)
    share = packing.share_digits(owner.decrypt(vector), _residual_count(arguments), budget)
    matrix = matrix_of(inputs[1], facts["own_columns"])
    return TaskResult(_parts(context, arguments, matrix, inputs[2:], share), ())
