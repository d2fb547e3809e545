"""The last stage of a job whose contract says `evaluate`: how good the model is on parts of the rows.

The provider sends its scores of the rows of those parts, rounded as in a scoring job (`score.partial`); the business
adds its own and computes the figures (docs/protocol.md, section 5: one rounded projection of each row, counted
against the provider's score quota when the common rows are known). Of several providers the business learns the sum
alone: each adds masks that cancel between it and every other.
"""

from typing import Final

from messages.streams import chunk_count
from protocol.effects import BulkReceived, Computed, Consumed
from protocol.facts import job_arguments, mask_arguments
from protocol.state import BUSINESS, JobState, ScoresOf
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect_chunk,
    peer_of_task,
    progress,
    put,
    send_in_order,
    sender_of,
    task_name,
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
                "part": PART,
                "job": job_arguments(state),
                **({"masks": mask_arguments(state, providers_only=True)} if state.several else {}),
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


def _of(state: JobState, provider: str) -> ScoresOf:
    found = (one for one in state.evaluation.scores if one.provider == provider)
    return next(found, ScoresOf(provider=provider))


def _with(state: JobState, scores: ScoresOf) -> JobState:
    others = tuple(one for one in state.evaluation.scores if one.provider != scores.provider)
    return change(state, evaluation=change(state.evaluation, scores=(*others, scores)))


def received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of a provider's scores: open it."""
    peer, (rows, chunks) = sender_of(state, event), _chunks(state)
    current = _of(state, peer.name)
    expect_chunk(event, peer, "partial_sequence", due=current.received, chunks=chunks)
    first = event.chunk * CHUNK_ROWS
    task = compute(
        task_name(state, "score.open", peer, event.chunk),
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
        partner=peer.name,
    )
    current = change(current, received=current.received + 1, opening=put(current.opening, event.chunk, event.body))
    return _with(state, current), (task,)


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of a provider's scores is checked; when all are, add the own scores and compute the figures."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    current, (_, chunks) = _of(state, peer.name), _chunks(state)
    body = current.opening[chunk]
    assert body is not None
    current = change(
        current,
        partials=put(current.partials, chunk, event.blobs[0]),
        opening=put(current.opening, chunk, None),
    )
    state = _with(state, current)
    consumed, providers = Consumed(body=body, sender=peer.name), [_of(state, one.name) for one in state.peers]
    if not all(whole(one.partials, chunks) for one in providers):
        return state, (consumed,)
    features = state.features
    task = compute(
        "evaluate.results",
        "evaluate.results",
        {
            "combination": state.combination,
            "pieces": pieces(state),
            "providers": len(providers),
            "job": job_arguments(state),
        },
        (
            *(state.snapshot, state.align.rows, features.matrix, features.history, features.label),
            *(ref for one in providers for ref in one.partials),
        ),
    )
    return state, (consumed, task, progress(state, "finish"))


def evaluated(state: JobState, event: Computed) -> Outcome:
    """The figures are there: the job can end when everything else is."""
    from protocol import closing

    state = change(state, evaluation=change(state.evaluation, results=event.blobs))
    return closing.results_when_told(state)


def outstanding(state: JobState) -> bool:
    """Whether the business still has to learn how good the model is."""
    return wanted(state) and not state.evaluation.results
