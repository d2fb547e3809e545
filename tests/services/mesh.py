"""A small machine with several partners: everybody sends everybody chunks, and sums what comes.

In every iteration each party makes `chunks` chunks for each of its partners, sums those that it gets, and tells all
what the sum is. Who has all sums of an iteration goes on to the next. With `chained`, a provider makes a chunk for the
provider after it once it has taken the same one of the business, and takes a chunk of the business only once it has
the same one of the provider before it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from messages import codec, schemas, seal
from messages.envelope import PROTOCOL_VERSION
from protocol.effects import (
    AnyEffect,
    AnyEvent,
    BlobRef,
    BulkReceived,
    CancelDecided,
    Compute,
    Computed,
    ComputeFailed,
    Consumed,
    ControlReceived,
    Expired,
    Finish,
    Progress,
    RemoteProtocolError,
    Send,
    SendBulk,
    Started,
)
from services.tasks.compute import TaskContext, TaskRefused, TaskResult

Outcome = tuple["State", tuple[AnyEffect, ...]]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`parties`: the business first. `size`: bytes of a chunk, 1000 at most but from the business to the last party."""

    parties: tuple[str, ...]
    iterations: int = 2
    chunks: int = 2
    size: int = 1000
    chained: bool = False
    trouble: str = ""
    at: str = ""
    expires_at: float = 0.0


def size_of(plan: Plan, sender: str, recipient: str) -> int:
    return plan.size if (sender, recipient) == (plan.parties[0], plan.parties[-1]) else min(plan.size, 1000)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    sender: str
    number: int
    body: BlobRef


class State(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    job: str
    me: str
    partners: tuple[str, ...]
    phase: str = "new"
    plan: Plan | None = None
    accepted: tuple[str, ...] = ()
    iteration: int = 0
    made: dict[str, dict[int, BlobRef]] = {}
    left: dict[str, int] = {}
    got: dict[str, int] = {}
    waiting: tuple[Chunk, ...] = ()
    working: dict[str, Chunk] = {}
    summed: dict[int, int] = {}
    counted: dict[int, int] = {}
    told: dict[str, tuple[int, ...]] = {}
    own: tuple[int, ...] = ()


def change(state: State, **fields: Any) -> State:
    return msgspec.structs.replace(state, **fields)


def task(name: str, function: str, arguments: dict[str, Any], *inputs: BlobRef, **fields: Any) -> Compute:
    return Compute(task=name, function=function, arguments=msgspec.msgpack.encode(arguments), inputs=inputs, **fields)


def tell(state: State, message: schemas.Message) -> tuple[Send, ...]:
    return tuple(Send(message=message, recipient=name) for name in state.partners)


def _make(plan: Plan, me: str, partner: str, iteration: int, chunk: int) -> Compute:
    size = size_of(plan, me, partner)
    arguments = {"iteration": iteration, "chunk": chunk, "chunks": plan.chunks, "size": size}
    return task(f"make/{iteration}/{partner}/{chunk}", "make", arguments, sends_bulk=True, partner=partner)


def _add(plan: Plan, item: Chunk) -> Compute:
    arguments = {"chunk": item.number % plan.chunks, "chunks": plan.chunks}
    return task(f"add/{item.sender}/{item.number}", "add", arguments, item.body, partner=item.sender)


def _next(plan: Plan, me: str) -> str:
    """The provider whose chunks wait for those of the business; empty if there is none."""
    place = plan.parties.index(me)
    return plan.parties[place + 1] if plan.chained and 0 < place < len(plan.parties) - 1 else ""


def ended(state: State, outcome: str, code: str, effects: Sequence[AnyEffect] = ()) -> Outcome:
    return change(state, phase=outcome, waiting=(), working={}), (*effects, Finish(outcome=outcome, reason_code=code))


class Mesh:
    logic_version = 1

    def __init__(self, role: str) -> None:
        self._role = role

    def initial(self, job: str, me: str, partners: tuple[str, ...]) -> State:
        return State(role=self._role, job=job, me=me, partners=partners)

    def encode(self, state: State) -> bytes:
        return msgspec.msgpack.encode(state)

    def decode(self, data: bytes) -> State:
        return msgspec.msgpack.decode(data, type=State)

    def step(self, state: State, event: AnyEvent) -> Outcome:
        if state.phase in ("done", "failed", "cancelled", "expired"):
            return state, ()
        match event:
            case Started():
                plan = msgspec.msgpack.decode(event.contract, type=Plan)
                waits = Progress(stage="propose", waits_for=", ".join(state.partners))
                state = change(state, phase="proposed", plan=plan)
                return state, (*tell(state, schemas.JobPropose(contract=event.contract)), waits)
            case ControlReceived():
                return self._control(state, event.sender, codec.decode(event.message))
            case BulkReceived():
                return self._bulk(state, event)
            case Computed():
                return self._computed(state, event)
            case ComputeFailed():
                told = tell(state, schemas.JobFailed(reason_code=event.reason_code, reason=event.reason))
                return ended(state, "failed", event.reason_code, told)
            case CancelDecided():
                return ended(state, "cancelled", "cancelled", tell(state, schemas.JobCancel(reason=event.reason)))
            case Expired():
                told = tell(state, schemas.JobFailed(reason_code="expired", reason="too late"))
                return ended(state, "expired", "expired", told)

    def _control(self, state: State, sender: str, message: schemas.Message) -> Outcome:
        match message:
            case schemas.JobPropose():
                plan = msgspec.msgpack.decode(message.contract, type=Plan)
                if sender != plan.parties[0]:
                    raise RemoteProtocolError("contract_parties", f"{sender} is not the business")
                if plan.trouble == "refuses" and plan.at == state.me:
                    raise RemoteProtocolError("contract_silly", "this contract is silly")
                accept = schemas.JobAccept(
                    contract_digest=bytes(32), data_digest=bytes(32), schema_digest=bytes(32), rows=1, columns=1
                )
                return change(state, phase="accepted", plan=plan), (Send(message=accept, recipient=sender),)
            case schemas.JobAccept():
                state = change(state, accepted=(*state.accepted, sender))
                if len(state.accepted) < len(state.partners):
                    return state, ()
                begin = schemas.CrossTerm(iteration=1, ciphertexts=b"begin")
                state, effects = self._iterate(state)
                return state, (*tell(state, begin), *effects)
            case schemas.CrossTerm(ciphertexts=b"begin"):
                return self._iterate(state)
            case schemas.CrossTerm():
                value = int.from_bytes(message.ciphertexts, "big")
                state = change(state, told={**state.told, sender: (*state.told.get(sender, ()), value)})
                return self._go_on(state)
            case schemas.JobCancel():
                return ended(state, "cancelled", "cancelled")
            case schemas.JobFailed():
                return ended(state, "failed", message.reason_code)
            case _:
                raise RemoteProtocolError("unexpected_message", "not now")

    def _iterate(self, state: State) -> Outcome:
        plan = state.plan
        assert plan is not None
        state = change(state, phase="working", iteration=state.iteration + 1)
        if plan.trouble == "refuse" and plan.at == state.me:
            return state, (task("trouble", "refuse", {}),)
        # The last partner's first: whoever lets them fill one window for all starves the others.
        tasks = tuple(
            _make(plan, state.me, partner, state.iteration, chunk)
            for partner in reversed(state.partners)
            for chunk in range(plan.chunks)
            if partner != _next(plan, state.me)
        )
        state, effects = self._take_up(state)
        return state, (*tasks, *effects)

    def _bulk(self, state: State, event: BulkReceived) -> Outcome:
        number = state.got.get(event.sender, 0)
        if event.chunk != number % event.chunks:
            raise RemoteProtocolError("chunk_sequence", f"chunk {event.chunk} of {event.sender}")
        chunk = Chunk(sender=event.sender, number=number, body=event.body)
        state = change(state, got={**state.got, event.sender: number + 1}, waiting=(*state.waiting, chunk))
        return self._take_up(state)

    def _take_up(self, state: State) -> Outcome:
        """Sum the chunks whose turn it is."""
        ready = tuple(chunk for chunk in state.waiting if self._ready(state, chunk))
        waiting = tuple(chunk for chunk in state.waiting if chunk not in ready)
        tasks = [_add(state.plan, item) for item in ready if state.plan is not None]
        working = {**state.working, **{item.task: chunk for item, chunk in zip(tasks, ready, strict=True)}}
        return change(state, waiting=waiting, working=working), tuple(tasks)

    def _ready(self, state: State, chunk: Chunk) -> bool:
        plan = state.plan
        if plan is None or not plan.chained or chunk.sender != plan.parties[0] or state.me == plan.parties[1]:
            return plan is not None
        before = plan.parties[plan.parties.index(state.me) - 1]
        return state.got.get(before, 0) > chunk.number

    def _computed(self, state: State, event: Computed) -> Outcome:
        plan = state.plan
        assert plan is not None
        if event.function == "result":
            return change(state, phase="done"), (Finish(outcome="done", results=event.blobs),)
        if event.function == "make":
            return self._send_in_order(state, plan, event)
        working = dict(state.working)
        chunk_ = working.pop(event.task)
        iteration = 1 + chunk_.number // plan.chunks
        total = state.summed.get(iteration, 0) + msgspec.msgpack.decode(event.output)["sum"]
        state = change(
            state,
            working=working,
            summed={**state.summed, iteration: total},
            counted={**state.counted, iteration: state.counted.get(iteration, 0) + 1},
        )
        consumed = Consumed(body=chunk_.body, sender=chunk_.sender)
        effects: tuple[AnyEffect, ...] = ()
        if state.counted[iteration] == plan.chunks * len(state.partners):
            state = change(state, own=(*state.own, total))
            effects = tell(state, schemas.CrossTerm(iteration=iteration, ciphertexts=total.to_bytes(8, "big")))
        after = _next(plan, state.me)
        if after and chunk_.sender == plan.parties[0]:
            effects += (_make(plan, state.me, after, iteration, chunk_.number % plan.chunks),)
        state, more = self._go_on(state)
        return state, (consumed, *effects, *more)

    @staticmethod
    def _send_in_order(state: State, plan: Plan, event: Computed) -> Outcome:
        """Tasks end in any order."""
        _, iteration, partner, chunk = event.task.split("/")
        number = (int(iteration) - 1) * plan.chunks + int(chunk)
        made, left = {**state.made.get(partner, {}), number: event.blobs[0]}, state.left.get(partner, 0)
        sends = []
        while left in made:
            body = made.pop(left)
            chunk_ = left % plan.chunks
            sends.append(SendBulk(kind="link.terms", chunk=chunk_, chunks=plan.chunks, body=body, recipient=partner))
            left += 1
        made_, left_ = {**state.made, partner: made}, {**state.left, partner: left}
        return change(state, made=made_, left=left_), tuple(sends)

    def _go_on(self, state: State) -> Outcome:
        plan = state.plan
        assert plan is not None
        missing = [name for name in state.partners if len(state.told.get(name, ())) < state.iteration]
        if missing or len(state.own) < state.iteration or state.phase != "working":
            return state, (
                Progress(
                    stage="train",
                    iteration=state.iteration,
                    iterations=plan.iterations,
                    waits_for=", ".join(missing),
                ),
            )
        if state.iteration < plan.iterations:
            return self._iterate(state)
        totals = [state.own if name == state.me else state.told[name] for name in plan.parties]
        return change(state, phase="closing"), (task("result", "result", {"totals": totals}),)


ROLES = {"business": Mesh("business"), "provider": Mesh("provider")}


def contract(*parties: str, **fields: Any) -> bytes:
    return msgspec.msgpack.encode(Plan(parties=parties, **fields))


def parties_of(data: bytes) -> tuple[str, ...]:
    try:
        return msgspec.msgpack.decode(data, type=Plan).parties
    except msgspec.MsgspecError:
        return ()


def expiry_of(data: bytes) -> float:
    return msgspec.msgpack.decode(data, type=Plan).expires_at


def body(sender: str, recipient: str, iteration: int, chunk: int, size: int) -> bytes:
    return hashlib.shake_256(f"{sender}/{recipient}/{iteration}/{chunk}".encode()).digest(size)


def expected(plan: Plan) -> bytes:
    """The result of every party, computed without any engine."""
    totals = [
        [
            sum(
                sum(body(sender, name, iteration, chunk, size_of(plan, sender, name)))
                for sender in plan.parties
                if sender != name
                for chunk in range(plan.chunks)
            )
            for iteration in range(1, plan.iterations + 1)
        ]
        for name in plan.parties
    ]
    return repr(totals).encode()


# -- compute functions ----------------------------------------------------------------------------------------


def make(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """A chunk, sealed to the partner of the task."""
    data = body(context.party, context.partner.name, arguments["iteration"], arguments["chunk"], arguments["size"])
    info = _info(context, context.party, context.partner.name, arguments)
    return TaskResult({}, ((context.seal(data, context.partner, info), len(data)),))


def add(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """The sum of a chunk's bytes."""
    info = _info(context, context.partner.name, context.party, arguments)
    return TaskResult({"sum": sum(seal.unseal(inputs[0], context.identity, info, seal.DEFAULT_SUITE))})


def _info(context: TaskContext, sender: str, recipient: str, arguments: dict[str, Any]) -> bytes:
    place = (arguments["chunk"], arguments["chunks"])
    return seal.seal_info(PROTOCOL_VERSION, context.job, sender, recipient, "link.terms", *place)


def result(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """A result blob."""
    return TaskResult({}, ((repr(arguments["totals"]).encode(), 1),))


def refuse(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    raise TaskRefused("too_odd", "the input is too odd")


FUNCTIONS = {"make": make, "add": add, "result": result, "refuse": refuse}
