"""Chunks of every stream of a job: each once, in order, and as many as were announced."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from messages import schemas
from protocol.effects import AnyEvent, BulkReceived, Finish, Send
from protocol.machines import ROLES
from protocol.state import Phase
from protocol.steps import change
from tests.services.pair import Side
from tests.services.test_job_machines import stage

CODES = {
    "align.list": "align_sequence",
    "align.echo": "align_sequence",
    "features.encrypted": "features_sequence",
    "link.terms": "terms_sequence",
    "residual.share": "share_sequence",
}


def out_of_turn(event: BulkReceived) -> Iterator[BulkReceived]:
    """What may not come in place of a chunk."""
    yield change(event, chunk=event.chunk + 1)
    yield change(event, chunk=event.chunk - 1)
    yield change(event, chunk=event.chunks)
    if event.kind != "link.terms" or event.chunk:  # whose first chunk says how many there are
        yield change(event, chunks=event.chunks + 1)
        yield change(event, chunks=event.chunks - 1)
        yield change(event, chunks=0)


def reason_of(side: Side, event: BulkReceived) -> str:
    """Why an event ends the job of a party, which it tells the partner too; the party itself stays as it is."""
    after, effects = ROLES[side.role].step(side.state, event)
    assert after.phase is Phase.FAILED
    told, finish = effects
    assert isinstance(told, Send)
    assert isinstance(told.message, schemas.JobFailed)
    assert isinstance(finish, Finish)
    assert told.message.reason_code == finish.reason_code
    return finish.reason_code


def test_a_chunk_out_of_turn_ends_the_job_in_every_stream_at_every_place(tmp_path: Path) -> None:
    pair, seen = stage(tmp_path, 3, chunk_rows_max=10), Counter[str]()
    apply = pair._apply

    def checked(side: Side, event: AnyEvent) -> None:
        if not isinstance(event, BulkReceived):
            apply(side, event)
            return
        seen[event.kind] += 1
        for wrong in out_of_turn(event):
            assert reason_of(side, wrong) == CODES[event.kind], (event, wrong)
        apply(side, event)
        assert reason_of(side, event) in {CODES[event.kind], "unexpected_message"}, event

    pair._apply = checked  # type: ignore[method-assign]
    pair.run()
    assert all(side.finish is not None and side.finish.outcome == "done" for side in pair.sides)
    assert set(seen) == set(CODES)
    assert min(seen.values()) > 2, "some stream has no middle"
