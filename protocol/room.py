"""How many iterations the state of a job has room for (`protocol.effects.STATE_BYTES_MAX`).

The loop's products and points grow with the square of the iterations; of several classes each keeps its own. A job that
would grow beyond its state ends at the last iteration that fits, as it does at `max_iterations`, at all parties alike.
"""

from typing import Final

from messages.streams import chunk_count
from protocol.effects import STATE_BYTES_MAX
from protocol.facts import (
    BODY_BYTES_MAX,
    all_columns,
    budget_of,
    cipher_bytes,
    ciphertexts_per_row,
    feature_chunk_rows,
)
from protocol.state import JobState
from protocol.steps import change, expect

OTHER_BYTES: Final = 6_144
"""Contract, keys, what the alignment has left, messages that wait to be sent."""

REFERENCE_BYTES: Final = 64
"""What names a chunk of encrypted features on the disk."""

LINK_TERMS: Final = 12
"""Ciphertexts for each row and class of an iteration, about: each of its chunks has a place in two queues."""

NUMBER_BYTES: Final = 9
"""A float in msgpack."""

ROWS_BESIDE: Final = 8
"""Numbers for each class and iteration beside products and points: lengths of steps, two parties' rows of an iteration,
the step that follows, and three combinations where training may end early."""

MASKED_ROW: Final = 4
"""Numbers that one under masks takes: rows of all parties but the last to come are kept, with several providers."""

ITERATIONS_ALWAYS: Final = 30
"""What a job of one score is given whatever the count above says of its rows, which is a high one."""

FACTS_BYTES: Final = 160
"""What is kept of an iteration for history.json."""


def bounded(state: JobState) -> JobState:
    """The state with no more iterations than it has room for. Raises RemoteProtocolError where it is not one."""
    contract = state.terms_of
    if not contract.classes:
        return state
    most = _iterations(state)
    expect(
        most > 0,
        "classes_many",
        f"{contract.classes} classes of {sum(all_columns(state).values())} columns and {state.rows} "
        "rows are more than the state of a job has room for: merge rare classes, use fewer columns or larger chunks",
    )
    return change(state, iterations_max=most)


def full(state: JobState) -> bool:
    """Whether an iteration more would not fit, in a job of one score.

    Asked at the end of each iteration, so that no state of a job that ends earlier is another than it was. Loops of the
    solver block, of batches and of folds have limits of their own in the contract (`protocol.contract_rules`).
    """
    contract = state.terms_of
    squares = contract.solver == "lbfgs" and contract.sample_set != "fraction" and not contract.penalties
    if not squares or contract.classes or state.iteration < ITERATIONS_ALWAYS:
        return False
    return state.iteration >= _iterations(state)


def _iterations(state: JobState) -> int:
    room = STATE_BYTES_MAX - OTHER_BYTES - _chunks(state) - _sums(state)
    beside = ROWS_BESIDE + (MASKED_ROW * len(state.terms_of.providers) if state.several else 0)
    most, scores = state.iterations_max, _scores(state)
    while most and _loops(scores, most, beside) > room:
        most -= 1
    return most


def _scores(state: JobState) -> int:
    """Scores of a row, each of a loop of its own."""
    return max(1, state.terms_of.classes)


def _loops(classes: int, iterations: int, beside: int) -> int:
    """Bytes of all loops and of what is kept of each iteration."""
    numbers = iterations * (iterations + 1) + (iterations + 1) * beside
    return classes * numbers * NUMBER_BYTES + iterations * FACTS_BYTES


def _chunks(state: JobState) -> int:
    """Bytes of what is kept of the chunks of encrypted features and of an iteration's link terms."""
    most = max(all_columns(state).values())
    features = chunk_count(state.rows, feature_chunk_rows(state, most))
    links = state.rows * _scores(state) * LINK_TERMS * cipher_bytes(state) // BODY_BYTES_MAX
    return features * REFERENCE_BYTES + 2 * links


def _sums(state: JobState) -> int:
    """Bytes of an iteration's cross terms and own sums, of all classes."""
    columns = all_columns(state).values()
    groups = [ciphertexts_per_row(state, count) for count in columns]
    # With several providers who holds no share gets a term from both who do.
    crosses = (sum(groups) + (max(groups) if state.several else 0)) * cipher_bytes(state)
    size = (budget_of(state).share_bits + 64 + state.rows.bit_length()) // 8 + 3
    return _scores(state) * (crosses + max(columns) * size)
