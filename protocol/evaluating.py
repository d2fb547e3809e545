"""The last stage of a job whose contract says `evaluate`: how good the model is on parts of the rows.

The provider sends its scores of the rows of those parts, rounded as in a scoring job (`score.partial`); the business
adds its own and computes the figures (docs/protocol.md, section 5: one rounded projection of each row, counted
against the provider's score quota when the common rows are known).
"""

from typing import Final

from messages.streams import chunk_count
from protocol.effects import BulkReceived, Computed, Consumed
from protocol.facts import job_arguments
from protocol.state import BUSINESS, JobState
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect_chunk,
    progress,
    put,
    send_in_order,
    sender_of,
    whole,
)

PART: Final = "evaluation"
"""Name of the row set in `score.partial`: the rows of all evaluated parts, in the order of the matrix."""

CHUNK_ROWS: Final = 65_536
LOOKAHEAD: Final = 2


def wanted(state: JobState) -> bool:
    """Whether the job has the stage."""
    return bool(state.terms_of.evaluate)


def quota(state: JobState) -> dict[str, object]:
    """What a provider's rules are told when the common rows are known; nothing in other jobs."""
    parts = state.terms_of.evaluate
    return {"evaluated": list(parts)} if parts and state.role != BUSINESS else {}


def pieces(state: JobState) -> list[tuple[str, int, int]]:
    """(part, first row in the matrix, rows) of every evaluated part. Training rows come first, test rows last."""
    sizes = {"training": state.rows, "validation": state.parts.validation, "test": state.parts.test}
    found: list[tuple[str, int, int]] = []
    first = 0
    for part, rows in sizes.items():
        if part in state.terms_of.evaluate and rows:
            found.append((part, first, rows))
        first += rows
    return found


def _chunks(state: JobState) -> tuple[int, int]:
    """(rows in all, chunks)."""
    rows = sum(count for _, _, count in pieces(state))
    return rows, chunk_count(rows, CHUNK_ROWS)


def start(state: JobState) -> Outcome:
    """The provider's part: round and seal its scores, chunk by chunk."""
    return _project(state, LOOKAHEAD) if wanted(state) else (state, ())


def _project(state: JobState, count: int) -> Outcome:
    current, (rows, chunks) = state.evaluation, _chunks(state)
    last = min(chunks, current.made + count)
    effects = tuple(
        compute(
            f"evaluate.partial/{chunk}",
            "evaluate.partial",
            {
                "iteration": state.iteration,
                "combination": state.combination,
                "pieces": pieces(state),
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * CHUNK_ROWS,
                "rows": min(CHUNK_ROWS, rows - chunk * CHUNK_ROWS),
                "job": job_arguments(state),
            },
            (state.features.matrix, state.features.history),
            sends_bulk=True,
        )
        for chunk in range(current.made, last)
    )
    return change(state, evaluation=change(current, made=last)), effects


def projected(state: JobState, event: Computed) -> Outcome:
    """A chunk of the own scores is sealed: send it, take the next."""
    _, chunks = _chunks(state)
    current = state.evaluation
    queue, sends = send_in_order(
        "score.partial", current.queue, chunk_of(event.task), chunks, event.blobs[0], state.partner
    )
    state = change(state, evaluation=change(current, queue=queue))
    state, effects = _project(state, 1)
    return state, (*sends, *effects)


def received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the provider's scores: open it."""
    current, (rows, chunks) = state.evaluation, _chunks(state)
    expect_chunk(event, sender_of(state, event), "partial_sequence", due=current.received, chunks=chunks)
    first = event.chunk * CHUNK_ROWS
    task = compute(
        f"score.open/{state.iteration}/{event.chunk}",
        "score.open",
        {
            "part": PART,
            "iteration": state.iteration,
            "chunk": event.chunk,
            "chunks": chunks,
            "first_row": first,
            "rows": min(CHUNK_ROWS, rows - first),
        },
        (event.body,),
    )
    current = change(current, received=current.received + 1, opening=put(current.opening, event.chunk, event.body))
    return change(state, evaluation=current), (task,)


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of the provider's scores is checked; when all are, add the own scores and compute the figures."""
    current, chunk = state.evaluation, chunk_of(event.task)
    _, chunks = _chunks(state)
    body = current.opening[chunk]
    assert body is not None
    current = change(
        current,
        partials=put(current.partials, chunk, event.blobs[0]),
        opening=put(current.opening, chunk, None),
    )
    state = change(state, evaluation=current)
    if not whole(current.partials, chunks):
        return state, (Consumed(body=body),)
    features = state.features
    task = compute(
        "evaluate.results",
        "evaluate.results",
        {"combination": state.combination, "pieces": pieces(state), "job": job_arguments(state)},
        (state.snapshot, state.align.rows, features.matrix, features.history, features.label, *current.partials),
    )
    return state, (Consumed(body=body), task, progress(state, "finish"))


def evaluated(state: JobState, event: Computed) -> Outcome:
    """The figures are there: the job can end when everything else is."""
    from protocol import closing

    state = change(state, evaluation=change(state.evaluation, results=event.blobs))
    return closing.results_when_told(state)


def outstanding(state: JobState) -> bool:
    """Whether the business still has to learn how good the model is."""
    return wanted(state) and not state.evaluation.results
