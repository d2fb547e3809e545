"""Chunks of partial scores (`score.partial`), on their way from a provider to the business: in scoring jobs and in
evaluations of training jobs alike."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from messages.streams import chunk_count
from protocol.effects import BulkReceived, Compute, Computed, Consumed
from protocol.peer import Peer, PeerScores
from protocol.state import JobState, ScoresOf
from protocol.steps import change, chunk_of, compute, expect_chunk, put, task_name, whole

Scores = TypeVar("Scores", PeerScores, ScoresOf)


class Stream(NamedTuple):
    """The scores of one provider in one go: of `rows` rows of a named set, `chunk_rows` to a chunk.

    `classes`: scores of each row, for a model of several classes; 0 for a model of one score.
    """

    part: str
    iteration: int
    rows: int
    chunk_rows: int
    classes: int = 0

    @property
    def chunks(self) -> int:
        """How many there are."""
        return chunk_count(self.rows, self.chunk_rows)

    def place(self, chunk: int) -> Mapping[str, object]:
        """What the tasks of a chunk are told of its place."""
        first = chunk * self.chunk_rows
        return {
            "part": self.part,
            "iteration": self.iteration,
            "chunk": chunk,
            "chunks": self.chunks,
            "first_row": first,
            "rows": min(self.chunk_rows, self.rows - first),
        }


def received(
    state: JobState, event: BulkReceived, peer: Peer, scores: Scores, stream: Stream, *numbers: int
) -> tuple[Scores, Compute]:
    """A chunk has come: the task that opens it, whose name has `numbers` before that of the chunk."""
    expect_chunk(event, peer, "partial_sequence", due=scores.received, chunks=stream.chunks)
    task = compute(
        task_name(state, "score.open", peer, *numbers, event.chunk),
        "score.open",
        {**stream.place(event.chunk), **({"classes": stream.classes} if stream.classes else {})},
        (event.body,),
        partner=peer.name,
    )
    after = change(scores, received=scores.received + 1, opening=put(scores.opening, event.chunk, event.body))
    return after, task


def opened(event: Computed, peer: Peer, scores: Scores) -> tuple[Scores, Consumed]:
    """A chunk is checked: it is kept, and what came is used up."""
    chunk = chunk_of(event.task)
    body = scores.opening[chunk]
    assert body is not None
    after = change(
        scores,
        partials=put(scores.partials, chunk, event.blobs[0]),
        opening=put(scores.opening, chunk, None),
    )
    return after, Consumed(body=body, sender=peer.name)


def complete(scores: Scores, stream: Stream) -> bool:
    """Whether all chunks of a provider are there."""
    return whole(scores.partials, stream.chunks)
