"""Compute tasks of an iteration (protocol.md section 4): scores, cross terms, gradient. Its chunks are in `linking`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.arithmetic import masked
from learning.arithmetic.announced import coarse
from learning.links import residual_terms
from learning.links.family import LOG_LINKS, family_of
from learning.solvers import classes as several
from learning.solvers import cross_validation
from learning.solvers import history as histories
from paillier import packing
from paillier.backend import Owner
from paillier.budget import BitBudget, BudgetError
from paillier.vector import CipherVector
from services.tasks import keyring, pairwise
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.features import checked_vector, matrix_of

Inputs = tuple[bytes, ...]


def places(first: int, rows: int, facts: dict[str, Any]) -> NDArray[np.int64]:
    """The places of `rows` training rows from `first` on; after the last one comes the first."""
    return (first + np.arange(rows)) % int(facts["rows"])


def score(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Take the step, score the own rows. Blobs: local history, scores (float64).

    The provider's output is the range of its scores, on the coarse grid that it announces.
    """
    del context
    facts = arguments["job"]
    matrix = matrix_of(inputs[0], facts["own_columns"])[: facts["rows"]]  # those held out come after
    if "classes" in arguments:
        return _score_classes(arguments, matrix, inputs[1])
    history = histories.take_step(histories.decode(inputs[1]), tuple(arguments["combination"]))
    scores = histories.scores(history, matrix)
    output: dict[str, Any] = {}
    if arguments["role"] == "provider":
        family = family_of(facts)
        used = scores[places(arguments["rows"][0], arguments["rows"][1], facts)] if "rows" in arguments else scores
        bound, spread = residual_terms.score_range(used, family, arguments["iteration"] + ("warm_start" in facts))
        if family.task in LOG_LINKS:
            # The bounds of a chain add up, and so do the bits that exponentials of that size take.
            bound = min(bound, family.score_bound_max / facts["providers"])
        output = {"bound": bound, "spread": spread}
    return TaskResult(
        output,
        ((histories.encode(history), facts["own_columns"]), (scores.astype("<f8").tobytes(), len(scores))),
    )


def _score_classes(arguments: dict[str, Any], matrix: NDArray[np.int16], history: bytes) -> TaskResult:
    """The same for several classes: scores (rows, classes), one range for all classes that go on."""
    facts = arguments["job"]
    local = several.take_step(several.decode(history), tuple(arguments["combination"]))
    scores = several.scores(local, matrix)
    output: dict[str, Any] = {}
    if arguments["role"] == "provider":
        family = family_of(facts)
        ranges = [
            residual_terms.score_range(scores[:, place], family, arguments["iteration"] + ("warm_start" in facts))
            for place in arguments["classes"]
        ]
        output = {"bound": max(bound for bound, _ in ranges), "spread": max(spread for _, spread in ranges)}
    return TaskResult(
        output, ((several.encode(local), facts["own_columns"]), (scores.astype("<f8").tobytes(), len(scores)))
    )


def close_cross(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Window and re-randomise the partner's cross term before it leaves (protocol.md section 4, item 3)."""
    facts, iteration = arguments["job"], arguments["iteration"]
    budget, guest = keyring.budget_of(facts), keyring.guest(context, facts)
    product = CipherVector.from_bytes(guest.public, arguments["product"])
    seen = keyring.digest_of((arguments["product"], *inputs))
    high, low = (
        keyring.stream(context, "window", iteration, seen, *keyring.about(facts)),
        keyring.noise_stream(context, facts, iteration, seen),
    )
    windows = [
        packing.window_values(
            facts["partner_columns"],
            budget,
            guest.public.modulus,
            high,
            low,
            facts["release_noise"],
            hidden=_undrawn(arguments, facts["partner_columns"]),
        )
        for _ in arguments.get("classes", (0,))
    ]
    window = [one[group] for one in windows for group in arguments.get("groups", range(len(one)))]
    fresh = keyring.stream(context, "cross-rerandomise", iteration, seen, *keyring.about(facts))
    reply = guest.rerandomise(guest.add_plain(product, window), fresh)
    return TaskResult({"ciphertexts": reply.to_bytes()}, ())


def read_total(context: TaskContext, arguments: dict[str, Any]) -> list[int]:
    """Decrypt the share holders' parts of a gradient and add the own part: exact sums. Raises TaskRefused.

    A party that holds a share gets one reply and has the other half in `local`; any other gets two replies.
    """
    facts, iteration = arguments["job"], arguments["iteration"]
    budget, owner = keyring.budget_of(facts), keyring.owner(context, facts)
    columns = facts["own_columns"]
    where = f"cross.term of iteration {iteration} from {context.partner.name}"
    local = [int.from_bytes(part, "little", signed=True) for part in arguments["local"]]
    groups = arguments.get("groups", range(-(-columns // budget.columns_per_ciphertext)))
    if "second" in arguments:
        second = arguments["second"]
        place = f"cross.term of iteration {iteration} from {second['from']}"
        plain = _decrypted(owner, second["ciphertexts"], groups, columns, budget, place)
        try:
            local = packing.read_slots(plain, columns, budget, owner.public.modulus)
        except BudgetError as error:
            raise TaskRefused("budget_exceeded", f"{place}: {error}") from None
    try:
        return packing.read_gradient(
            _decrypted(owner, arguments["ciphertexts"], groups, columns, budget, where),
            columns,
            budget,
            owner.public.modulus,
            local,
            release_noise=facts["release_noise"],
            hidden=_undrawn(arguments, columns),
        )
    except BudgetError as error:
        raise TaskRefused("budget_exceeded", f"{where}: {error}") from None


def gradient(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Read the own gradient, append it to the local history; the new row of the Gram matrix is for the partners."""
    facts, columns = arguments["job"], arguments["job"]["own_columns"]
    if "classes" in arguments:
        return _gradients(context, arguments, inputs[0])
    if arguments.get("act") == "revise":
        history, products, largest = cross_validation.revise_gradient(
            histories.decode(inputs[0]), arguments["penalty"], facts["release_noise"]
        )
        return TaskResult(_told(context, arguments, products, largest), ((histories.encode(history), columns),))
    total, budget = read_total(context, arguments), keyring.budget_of(facts)
    some = arguments.get("iteration_rows", 0)
    before = histories.decode(inputs[0])
    if arguments.get("act") == "check":
        difference, kept = _check(
            before, total, some or facts["rows"], budget, inputs[1:], providers=facts["providers"]
        )
        return TaskResult(_told(context, arguments, [difference], 0.0), ((kept, 2),))
    if "penalty" in arguments:
        before = cross_validation.with_penalty(before, arguments["penalty"])
    history, products, largest = histories.append_gradient(
        before,
        total,
        some or facts["rows"],
        budget.f_u,
        facts["release_noise"],
        budget.f_v,
        providers=facts["providers"],
        sources=facts["sources"],
        drawn=arguments.get("drawn"),
        against=arguments.get("against"),
        all_rows=facts["rows"] if some else 0,
        composites=arguments.get("composites"),
    )
    return TaskResult(_told(context, arguments, products, largest), ((histories.encode(history), columns),))


def _told(context: TaskContext, arguments: dict[str, Any], products: Sequence[float], largest: float) -> dict[str, Any]:
    """What the partners are told of a turn: with several providers under masks that cancel in the sum of all."""
    if "masks" not in arguments:
        return {"products": products, "largest": largest}
    iteration = arguments["iteration"]
    mask = pairwise.masks(context, arguments["masks"], len(products), "gram-row", iteration)
    try:
        return {"masked": masked.masked(products, mask), "largest": coarse(largest)}
    except masked.MaskedError as error:
        raise TaskRefused("products_wrong", f"the row of iteration {iteration}: {error}") from None


def _check(
    history: histories.LocalHistory, total: list[int], rows: int, budget: BitBudget, held: Inputs, *, providers: int
) -> tuple[float, bytes]:
    """A fit's held-out gradient: this party's part of the difference of the deviance, and what the next needs of it."""
    found = cross_validation.data_gradient(history, total, rows, budget.f_u, budget.f_v, providers=providers)
    former = np.frombuffer(held[0], dtype="<f8").reshape(2, -1) if held else None
    difference, kept = cross_validation.held_out_difference(history, found, former)
    return difference, kept.astype("<f8").tobytes()


def _gradients(context: TaskContext, arguments: dict[str, Any], history: bytes) -> TaskResult:
    """The same for the classes that go on, whose ciphertexts and sums lie one after the other."""
    facts, columns = arguments["job"], arguments["job"]["own_columns"]
    budget, local = keyring.budget_of(facts), several.decode(history)
    products: list[float] = []
    greatest = 0.0
    for place, part in zip(arguments["classes"], _of_each_class(context, arguments), strict=True):
        local[place], row, largest = histories.append_gradient(
            local[place],
            read_total(context, {**arguments, **part}),
            facts["rows"],
            budget.f_u,
            facts["release_noise"],
            budget.f_v,
            providers=facts["providers"],
            sources=facts["sources"],
        )
        products += [*row, largest]
        greatest = max(greatest, largest)
    return TaskResult(_told(context, arguments, products, greatest), ((several.encode(local), columns),))


def _of_each_class(context: TaskContext, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """What `read_total` is told of each class that goes on. Raises TaskRefused for another number of ciphertexts.

    A party that holds no share has no sums of its own, and the ciphertexts of a second holder instead.
    """
    count, columns, second = len(arguments["classes"]), arguments["job"]["own_columns"], arguments.get("second")
    where = f"cross.term of iteration {arguments['iteration']} from"
    found: list[dict[str, Any]] = [
        {"ciphertexts": part, "local": arguments["local"][number * columns : (number + 1) * columns]}
        for number, part in enumerate(_cut(arguments["ciphertexts"], count, f"{where} {context.partner.name}"))
    ]
    if second:
        for one, part in zip(found, _cut(second["ciphertexts"], count, f"{where} {second['from']}"), strict=True):
            one["second"] = {**second, "ciphertexts": part}
    return found


def _cut(data: bytes, count: int, where: str) -> list[bytes]:
    if len(data) % count:
        raise TaskRefused("ciphertexts_wrong", f"{where} is not of {count} classes")
    size = len(data) // count
    return [data[number * size : (number + 1) * size] for number in range(count)]


def _decrypted(
    owner: Owner, data: bytes, groups: Sequence[int], columns: int, budget: BitBudget, where: str
) -> list[int]:
    """The plaintexts of all groups of columns; 0 for those of which no column is updated."""
    told: dict[int, int] = {}
    if groups:
        vector = checked_vector(owner, data, len(groups), where)
        told = dict(zip(groups, owner.decrypt(vector), strict=True))
    return [told.get(group, 0) for group in range(-(-columns // budget.columns_per_ciphertext))]


def _undrawn(arguments: dict[str, Any], columns: int) -> frozenset[int]:
    """The columns that the iteration does not update."""
    return frozenset(range(columns)) - frozenset(arguments.get("drawn", range(columns)))
