"""How good a model is on parts of the rows: the last stage of a job whose contract says `evaluate`, and before it the
evaluations that a job stops early by (`protocol.stopping`).

The provider sends its scores of the rows of those parts, rounded as in a scoring job (`score.partial`); the business
adds its own and computes the figures (docs/protocol.md, section 5: one rounded projection of each row, counted
against the provider's score quota when the common rows are known). Of several providers the business learns the sum
alone: each adds masks that cancel between it and every other.
"""

from typing import Final

from protocol import partials
from protocol.effects import BlobRef, BulkReceived, Computed, Consumed
from protocol.facts import job_arguments, mask_arguments
from protocol.partials import Stream
from protocol.state import BUSINESS, JobState, Phase, ScoresOf
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    peer_of_task,
    send_in_order,
    sender_of,
)

PART: Final = "evaluation"
"""Name of the row set in the last stage's `score.partial`: rows of all evaluated parts, in the order of the matrix."""

VALIDATION: Final = "validation"
"""The part that a job stops by, and its name in that job's `score.partial`."""

CHUNK_ROWS: Final = 65_536
LOOKAHEAD: Final = 2


def wanted(state: JobState) -> bool:
    """Whether the job has the stage."""
    return bool(state.terms_of.evaluate)


def quota(state: JobState) -> dict[str, object]:
    """What a provider's rules are told when the common rows are known; nothing in other jobs.

    Each part as often as its rows are scored: of several classes once for each.
    """
    contract = state.terms_of
    parts = [*contract.evaluate, *[VALIDATION] * contract.stop_evaluations_max] * max(1, contract.classes)
    if not parts or state.role == BUSINESS:
        return {}
    each = {"classes": contract.classes} if contract.classes else {}
    return {"evaluated": parts, **({"stops": contract.stop_evaluations_max, **each} if contract.stop_metric else {})}


def midway(state: JobState) -> bool:
    """Whether scores are now of a model that training may go on from."""
    return bool(state.terms_of.stop_metric) and state.phase is not Phase.CLOSING


def pieces(state: JobState) -> list[tuple[str, int, int]]:
    """(part, first row in the matrix, rows) of every part evaluated now. Training rows come first, test rows last."""
    sizes = {"training": state.rows, "validation": state.parts.validation, "test": state.parts.test}
    found: list[tuple[str, int, int]] = []
    first = 0
    for part, rows in sizes.items():
        if part in ((VALIDATION,) if midway(state) else state.terms_of.evaluate) and rows:
            found.append((part, first, rows))
        first += rows
    return found


def _stream(state: JobState) -> Stream:
    rows = sum(count for _, _, count in pieces(state))
    classes = state.terms_of.classes
    # Fewer rows to a chunk where every one has a score for each of several classes.
    chunk_rows = CHUNK_ROWS // max(1, classes)
    return Stream(VALIDATION if midway(state) else PART, state.iteration, rows, chunk_rows, classes)


def start(state: JobState) -> Outcome:
    """The provider's part: round and seal its scores, chunk by chunk."""
    return _project(state, LOOKAHEAD) if wanted(state) or midway(state) else (state, ())


def _task(state: JobState, function: str, chunk: int) -> str:
    """A task of the provider's: in a job that stops early there are several evaluations."""
    return f"{function}/{state.iteration}/{chunk}" if midway(state) else f"{function}/{chunk}"


def _project(state: JobState, count: int) -> Outcome:
    current, stream = state.evaluation, _stream(state)
    last = min(stream.chunks, current.made + count)
    effects = tuple(
        compute(
            _task(state, "evaluate.partial", chunk),
            "evaluate.partial",
            {
                **stream.place(chunk),
                "combination": state.stopping.candidate if midway(state) else state.combination,
                "pieces": pieces(state),
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
    current, chunks = state.evaluation, _stream(state).chunks
    queue, sends = send_in_order(
        "score.partial", current.queue, chunk_of(event.task), chunks, event.blobs[0], state.partner
    )
    state = change(state, evaluation=change(current, queue=queue))
    state, effects = _project(state, 1)
    return state, (*sends, *effects)


def sent(state: JobState) -> bool:
    """Whether all own scores have left."""
    return state.evaluation.queue.sent == _stream(state).chunks


def _of(state: JobState, provider: str) -> ScoresOf:
    found = (one for one in state.evaluation.scores if one.provider == provider)
    return next(found, ScoresOf(provider=provider))


def _with(state: JobState, scores: ScoresOf) -> JobState:
    others = tuple(one for one in state.evaluation.scores if one.provider != scores.provider)
    return change(state, evaluation=change(state.evaluation, scores=(*others, scores)))


def received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of a provider's scores: open it."""
    peer, numbers = sender_of(state, event), (state.iteration,) if midway(state) else ()
    current, task = partials.received(state, event, peer, _of(state, peer.name), _stream(state), *numbers)
    return _with(state, current), (task,)


def opened(state: JobState, event: Computed) -> tuple[JobState, Consumed]:
    """A chunk of a provider's scores is checked."""
    peer = peer_of_task(state, event.task)
    current, consumed = partials.opened(event, peer, _of(state, peer.name))
    return _with(state, current), consumed


def complete(state: JobState) -> bool:
    """Whether all scores of all providers are there."""
    return all(partials.complete(_of(state, one.name), _stream(state)) for one in state.peers)


def told(state: JobState) -> tuple[BlobRef, ...]:
    """All scores that have come: chunk after chunk of one provider, then of the next."""
    found = (ref for one in state.peers for ref in _of(state, one.name).partials)
    return tuple(ref for ref in found if ref is not None)


def outstanding(state: JobState) -> bool:
    """Whether the business still has to learn how good the model is."""
    return wanted(state) and not state.evaluation.results
