"""What the machines share: packing of arguments, progress, ending a job."""

from typing import Any, TypeVar

import msgspec

from messages import codec, schemas
from protocol.effects import (
    AnyEffect,
    BlobRef,
    BulkReceived,
    Compute,
    ControlReceived,
    Finish,
    Progress,
    RemoteProtocolError,
    Send,
    SendBulk,
)
from protocol.peer import Peer, SendQueue
from protocol.state import BUSINESS, SIDES, JobState, Phase

Outcome = tuple[JobState, tuple[AnyEffect, ...]]


R = TypeVar("R", bound=msgspec.Struct)


def change(record: R, **fields: Any) -> R:
    """`msgspec.structs.replace`, in one short word."""
    return msgspec.structs.replace(record, **fields)


def compute(
    task: str,
    function: str,
    arguments: dict[str, Any],
    inputs: tuple[BlobRef | None, ...] = (),
    *,
    sends_bulk: bool = False,
    partner: str = "",
) -> Compute:
    """A compute effect with its arguments packed. `partner`: whom the task seals to, the first by default."""
    return Compute(
        task=task,
        function=function,
        arguments=msgspec.msgpack.encode(arguments),
        inputs=tuple(ref for ref in inputs if ref is not None),
        sends_bulk=sends_bulk,
        partner=partner,
    )


def task_name(state: JobState, function: str, peer: Peer, *numbers: int) -> str:
    """The name of a task that concerns one partner: with its name where there are several."""
    parts = (function, peer.name) if state.several else (function,)
    return "/".join([*parts, *map(str, numbers)])


def peer_of_task(state: JobState, task: str) -> Peer:
    """The partner that `task_name` named."""
    return state.peer(task.split("/")[1] if state.several else "")


def with_peer(state: JobState, peer: Peer) -> JobState:
    """The state with what is known of a partner replaced."""
    return change(state, peers=tuple(peer if one.name == peer.name else one for one in state.peers))


def output_of(data: bytes) -> dict[str, Any]:
    """The output map of a compute task."""
    output: dict[str, Any] = msgspec.msgpack.decode(data, type=dict)
    return output


def chunk_of(task: str) -> int:
    """The chunk number at the end of a task's name (`link.terms/3/17` is chunk 17)."""
    return int(task.rsplit("/", 1)[1])


def message_of(data: bytes) -> schemas.Message:
    """The message of a control event."""
    return codec.decode(data)


def expect(condition: bool, code: str, reason: str) -> None:
    """Check what the partner said; raises RemoteProtocolError."""
    if not condition:
        raise RemoteProtocolError(code, reason)


def sender_of(state: JobState, event: ControlReceived | BulkReceived) -> Peer:
    """The partner that a message is from."""
    return state.peer(event.sender)


def expect_chunk(event: BulkReceived, sender: Peer, code: str, *, due: int, chunks: int) -> None:
    """Check that a chunk is the one that is due in its stream of `chunks`: no gap, no repeat, no other total.

    Raises RemoteProtocolError.
    """
    expect(
        event.chunk == due < chunks == event.chunks,
        code,
        f"{event.kind} chunk {event.chunk} of {event.chunks} from {sender.name}, expected chunk {due} of {chunks}",
    )


def put(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    """The tuple with `item` at `index`, lengthened with None where it is too short."""
    longer = items + (None,) * (index + 1 - len(items))
    return (*longer[:index], item, *longer[index + 1 :])


def whole(items: tuple[Any, ...], count: int) -> bool:
    """Whether all `count` places are filled."""
    return len(items) == count and all(item is not None for item in items)


def send_in_order(
    kind: str, queue: SendQueue, chunk: int, chunks: int, body: BlobRef, recipient: str
) -> tuple[SendQueue, tuple[SendBulk, ...]]:
    """A computed chunk leaves when all chunks before it have left: tasks may end in any order."""
    ready = put(queue.ready, chunk, body)
    sent = queue.sent
    effects: list[SendBulk] = []
    while sent < len(ready) and (ref := ready[sent]) is not None:
        effects.append(SendBulk(kind=kind, chunk=sent, chunks=chunks, body=ref, recipient=recipient))
        ready = put(ready, sent, None)
        sent += 1
    return change(queue, ready=ready, sent=sent), tuple(effects)


def progress(state: JobState, stage: str, *, done: int = 0, total: int = 0, waits_for: str = "") -> Progress:
    """A progress effect with the iteration filled in; the turns of the inference stage count by themselves."""
    current = state.inference
    if current is not None and stage == "train":
        return Progress(
            stage="infer",
            iteration=current.turn + 1,
            iterations=current.turns,
            done=done,
            total=total,
            waits_for=waits_for,
        )
    return Progress(
        stage=stage,
        iteration=state.iteration,
        iterations=state.iterations_max + state.turns_beside,
        done=done,
        total=total,
        waits_for=waits_for,
    )


def tell_all(state: JobState, message: schemas.Message) -> tuple[Send, ...]:
    """The same message to every partner: of a provider to the business alone while not all have agreed."""
    told = state.partners if state.agreed or is_business(state) else state.partners[:1]
    return tuple(Send(message=message, recipient=partner) for partner in told)


def waits_for(names: list[str]) -> str:
    """The parties that a job waits for, for people."""
    return ", ".join(names)


def fail(state: JobState, code: str, reason: str, *, tell: bool = True, told: str = "") -> Outcome:
    """End the job as failed and, unless a partner said so itself, tell the partners.

    `reason` stays here: it may name a file or a column. `told` is what the partners read instead.
    """
    message = schemas.JobFailed(reason_code=code, reason=(told or reason)[:2000])
    effects: tuple[AnyEffect, ...] = tell_all(state, message) if tell else ()
    return (
        change(state, phase=Phase.FAILED),
        (*effects, Finish(outcome="failed", reason_code=code, reason=reason)),
    )


def is_business(state: JobState) -> bool:
    """Whether this party is the business of the job."""
    return SIDES[state.role] == BUSINESS
