"""Long lists: neither party fills its window so that the other's answers find no room."""

from messages import schemas
from protocol import aligning
from protocol.effects import BlobRef, BulkReceived, Computed, SendBulk
from protocol.peer import PairAlignment, Peer, SendQueue
from protocol.state import BUSINESS, JobState, Phase
from services.store.limits import BULK_WINDOW_BYTES, CREDIT_WINDOW
from tests.fuzz.samples import contract

ROWS = 2_000_000
ITEMS = 8192
CHUNKS = -(-ROWS // ITEMS)
FIELDS = schemas.AlignAccept.__struct_fields__


def ref(number: int, size: int = 32) -> BlobRef:
    return BlobRef(sha256=number.to_bytes(32, "big"), rows=ITEMS, bytes=size)


def in_middle() -> JobState:
    """A business that has its own list."""
    pair = PairAlignment(sorted_list=ref(2), order=ref(3), commitment=bytes(32))
    return JobState(
        role=BUSINESS,
        job="job-1",
        me="me",
        partner="partner",
        phase=Phase.ALIGNING,
        contract=contract("me", "partner", business_rows=ROWS, psi_quota=ROWS),
        snapshot=ref(1),
        own_rows=ROWS,
        partners=("partner",),
        peers=(Peer(name="partner", rows=ROWS, align=pair),),
    )


def test_lists_wait_for_answers_and_leave_half_a_window_and_go_on_with_each_answer():
    state = in_middle()
    said = {name: getattr(aligning._opening(state, state.peers[0].align), name) for name in FIELDS}
    state, effects = aligning.opened(state, schemas.AlignAccept(**said), "partner")
    waiting = [effect for effect in effects if getattr(effect, "function", "") == "align.list"]
    sent = answered = 0
    while waiting or answered < sent:
        if waiting:
            task = waiting.pop(0)
            state, effects = aligning.listed(
                state, Computed(task=task.task, function="align.list", output=b"", blobs=(ref(10),))
            )
        else:
            body = BulkReceived(kind="align.echo", chunk=answered, chunks=CHUNKS, body=ref(20))
            state, effects = aligning.echo_received(state, body)
            answered += 1
        sent += sum(isinstance(effect, SendBulk) for effect in effects)
        waiting += [effect for effect in effects if getattr(effect, "function", "") == "align.list"]
        bodies = (sent + len(waiting) - answered) * ITEMS * 32
        assert bodies <= BULK_WINDOW_BYTES / 2
    assert (sent, answered) == (CHUNKS, CHUNKS)
    assert state.peers[0].align.lists == SendQueue(ready=(None,) * CHUNKS, sent=CHUNKS)


def test_a_list_within_the_limit_is_sealed_without_waiting():
    state = in_middle()
    limit = aligning._outstanding_max(state)
    assert limit >= CREDIT_WINDOW
    state, effects = aligning._list_more(state, "partner", limit)
    assert len(effects) == limit
    assert aligning._list_more(state, "partner", 1) == (state, ())
