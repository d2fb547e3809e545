"""A small machine with everything the engine has to carry out: control both ways, bulk both ways, compute.

Business sends `chunks` chunks an iteration; provider sums each, sends a chunk back, and at the end the total;
business sums what came back and starts the next iteration. Both keep the totals; both write a result.
"""

from typing import Any

import msgspec

from messages import codec, schemas
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
    UnexpectedEventError,
)

Outcome = tuple["State", tuple[AnyEffect, ...]]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    seed: int = 1
    iterations: int = 1
    chunks: int = 2
    size: int = 1000
    trouble: str = ""
    times: int = 0
    expires_at: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    job: str
    partner: str
    phase: str = "new"
    plan: Plan = Plan()
    iteration: int = 0
    bodies: dict[str, BlobRef] = {}
    received: int = 0
    summed: int = 0
    total: int = 0
    theirs: int | None = None
    totals: tuple[int, ...] = ()


def change(state: State, **fields: Any) -> State:
    return msgspec.structs.replace(state, **fields)


def task(name: str, function: str, arguments: dict[str, Any], *inputs: BlobRef, bulk: bool = False) -> Compute:
    return Compute(
        task=name,
        function=function,
        arguments=msgspec.msgpack.encode(arguments),
        inputs=inputs,
        sends_bulk=bulk,
    )


def ended(state: State, outcome: str, code: str, *, tell: schemas.Message | None = None) -> Outcome:
    effects: list[AnyEffect] = [] if tell is None else [Send(message=tell)]
    return change(state, phase=outcome, bodies={}), (*effects, Finish(outcome=outcome, reason_code=code))


class Toy:
    logic_version = 1

    def __init__(self, role: str) -> None:
        self._role = role

    def initial(self, job: str, me: str, partners: tuple[str, ...]) -> State:
        return State(role=self._role, job=job, partner=partners[0])

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
                send = Send(message=schemas.JobPropose(contract=event.contract))
                waiting = Progress(stage="propose", waits_for=state.partner)
                return change(state, phase="proposed", plan=plan), (send, waiting)
            case ControlReceived():
                return self._control(state, codec.decode(event.message))
            case BulkReceived():
                return self._bulk(state, event)
            case Computed():
                return self._computed(state, event)
            case ComputeFailed():
                tell = schemas.JobFailed(reason_code=event.reason_code, reason=event.reason)
                return ended(state, "failed", event.reason_code, tell=tell)
            case CancelDecided():
                return ended(state, "cancelled", "cancelled", tell=schemas.JobCancel(reason=event.reason))
            case Expired():
                return ended(state, "expired", "expired")

    def _control(self, state: State, message: schemas.Message) -> Outcome:
        match message:
            case schemas.JobPropose():
                plan = msgspec.msgpack.decode(message.contract, type=Plan)
                if plan.trouble == "provider_refuses":
                    raise RemoteProtocolError("contract_silly", "this contract is silly")
                if plan.trouble == "provider_breaks":
                    raise ValueError("secret value 42")
                accept = schemas.JobAccept(
                    contract_digest=bytes(32), data_digest=bytes(32), schema_digest=bytes(32), rows=1, columns=1
                )
                return change(state, phase="working", plan=plan, iteration=1), (Send(message=accept),)
            case schemas.JobAccept():
                if state.phase != "proposed":
                    raise UnexpectedEventError("accepted twice")
                return self._iterate(change(state, phase="working"))
            case schemas.CrossTerm():
                state = change(state, theirs=int.from_bytes(message.ciphertexts, "big"))
                return self._close(state)
            case schemas.JobDone():
                return self._result(state)
            case schemas.JobCancel():
                return ended(state, "cancelled", "cancelled")
            case schemas.JobFailed():
                return ended(state, "failed", message.reason_code)
            case _:
                raise RemoteProtocolError("unexpected_message", "not now")

    def _iterate(self, state: State) -> Outcome:
        plan = state.plan
        state = change(state, iteration=state.iteration + 1, received=0, summed=0, total=0, theirs=None)
        if plan.trouble in ("refuse", "die", "die_writing", "stumble", "hoard", "spin"):
            arguments = {"times": plan.times, "seconds": plan.times}
            return state, (task("trouble/0", plan.trouble, arguments),)
        if plan.trouble in ("note", "cached"):
            return state, tuple(
                task(f"trouble/{number}", plan.trouble, {"name": number}) for number in range(plan.times)
            )
        tasks = tuple(
            task(
                f"make/{state.iteration}/{chunk}",
                "make",
                {"seed": plan.seed, "iteration": state.iteration, "chunk": chunk, "size": plan.size},
                bulk=True,
            )
            for chunk in range(plan.chunks)
        )
        stage = Progress(stage="train", iteration=state.iteration, iterations=plan.iterations)
        return state, (*tasks, stage)

    def _bulk(self, state: State, event: BulkReceived) -> Outcome:
        if event.chunks != state.plan.chunks:
            raise RemoteProtocolError("chunks_differ", "the plan says otherwise")
        iteration = state.iteration
        if state.role == "provider":
            iteration = 1 + state.received // state.plan.chunks
            name, function, bulk = f"answer/{iteration}/{event.chunk}", "answer", True
        else:
            name, function, bulk = f"add/{iteration}/{event.chunk}", "add", False
        state = change(state, received=state.received + 1, bodies={**state.bodies, name: event.body})
        return state, (task(name, function, {}, event.body, bulk=bulk),)

    def _computed(self, state: State, event: Computed) -> Outcome:
        if event.function == "result":
            finish = Finish(outcome="done", results=event.blobs)
            return change(state, phase="done", bodies={}), (finish,)
        if event.function == "make":
            chunk = int(event.task.rsplit("/", 1)[1])
            send = SendBulk(kind="link.terms", chunk=chunk, chunks=state.plan.chunks, body=event.blobs[0])
            return state, (send,)
        total = state.total + msgspec.msgpack.decode(event.output)["sum"]
        state = change(state, total=total, summed=state.summed + 1)
        if event.function not in ("answer", "add"):
            last = state.summed == (state.plan.times if event.function in ("note", "cached") else 1)
            return self._done(change(state, totals=(total,))) if last else (state, ())
        bodies = dict(state.bodies)
        effects: list[AnyEffect] = [Consumed(body=bodies.pop(event.task))]
        state = change(state, bodies=bodies)
        if event.function == "answer":
            chunk = int(event.task.rsplit("/", 1)[1])
            effects.append(SendBulk(kind="residual.share", chunk=chunk, chunks=state.plan.chunks, body=event.blobs[0]))
            if state.summed == state.plan.chunks:
                data = state.total.to_bytes(8, "big")
                effects.append(Send(message=schemas.CrossTerm(iteration=state.iteration, ciphertexts=data)))
                totals = (*state.totals, state.total)
                state = change(state, totals=totals, iteration=state.iteration + 1, summed=0, total=0)
            return state, tuple(effects)
        state, more = self._close(state)
        return state, (*effects, *more)

    def _close(self, state: State) -> Outcome:
        if state.theirs is None or state.summed < state.plan.chunks:
            return state, ()
        state = change(state, totals=(*state.totals, state.theirs, state.total))
        if state.iteration < state.plan.iterations:
            return self._iterate(state)
        return self._done(state)

    def _done(self, state: State) -> Outcome:
        done = schemas.JobDone(iterations=state.iteration, converged=True, agreement=bytes(32), constant=0.0)
        state, effects = self._result(state)
        return state, (Send(message=done), *effects)

    def _result(self, state: State) -> Outcome:
        state = change(state, phase="closing")
        return state, (task("result", "result", {"totals": state.totals}),)


ROLES = {"business": Toy("business"), "provider": Toy("provider")}


def contract(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(Plan(**fields))


def expiry_of(data: bytes) -> float:
    return msgspec.msgpack.decode(data, type=Plan).expires_at


def expected(plan: Plan) -> tuple[int, ...]:
    """The totals at the business, computed without any engine."""
    import hashlib

    totals: list[int] = []
    for iteration in range(1, plan.iterations + 1):
        there = back = 0
        for chunk in range(plan.chunks):
            body = hashlib.shake_256(f"{plan.seed}/{iteration}/{chunk}".encode()).digest(plan.size)
            there += sum(body)
            back += sum(255 - byte for byte in body[:4096])
        totals += [there, back]
    return tuple(totals)
