"""Machines and their real compute functions, wired together without daemons, journals or brokers.

The order of events is chosen by a seeded generator: whatever a transport and an executor may do within the
rules (order per sender kept, results in any order), some seed does.
"""

import hashlib
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from messages import codec
from messages.identity import Identity
from protocol.effects import (
    AnyEvent,
    BlobRef,
    BulkReceived,
    Compute,
    Computed,
    ComputeFailed,
    Consumed,
    ControlReceived,
    Finish,
    Release,
    Send,
    SendBulk,
    Started,
)
from protocol.machines import ROLES
from services.tasks import FUNCTIONS
from services.tasks.compute import TaskContext, TaskRefused


@dataclass
class Side:
    """One party: state, blobs, work to do."""

    name: str
    role: str
    identity: Identity
    directory: Path
    settings: dict[str, Any]
    secret: bytes
    state: Any = None
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    references: dict[bytes, int] = field(default_factory=dict)
    inbox: dict[str, deque[AnyEvent]] = field(default_factory=lambda: defaultdict(deque))
    tasks: list[Compute] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)
    finish: Finish | None = None
    sent: list[Any] = field(default_factory=list)
    said: list[tuple[str, Any]] = field(default_factory=list)
    bodies: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    handed: list[tuple[str, str, int, int, bytes]] = field(default_factory=list)

    def store(self, data: bytes, rows: int) -> BlobRef:
        """Keep bytes as a blob."""
        key = hashlib.sha256(data).digest()
        self.blobs[key] = data
        self.references[key] = self.references.get(key, 0) + 1
        return BlobRef(sha256=key, rows=rows, bytes=len(data))

    def drop(self, ref: BlobRef) -> None:
        """Forget one reference."""
        self.references[ref.sha256] -= 1
        if not self.references[ref.sha256]:
            del self.references[ref.sha256], self.blobs[ref.sha256]


def two_sides(directory: Path, settings: dict[str, Any], label: str) -> list[Side]:
    """A business and a provider with fresh identities; their job secrets derive from `label`."""
    return [
        a_side(directory / role, name, role, settings, f"{label}/{role}")
        for name, role in (("business-a", "business"), ("provider-a", "provider"))
    ]


def a_side(directory: Path, name: str, role: str, settings: dict[str, Any], label: str) -> Side:
    """A party with a fresh identity; its job secret derives from `label`."""
    secret = hashlib.sha256(label.encode()).digest()
    identity = Identity.generate(name)
    return Side(name=name, role=role, identity=identity, directory=directory, settings=settings, secret=secret)


class Pair:
    """A business and one or more providers, in the contract's order, in one process."""

    def __init__(self, business: Side, *providers: Side, seed: int = 0) -> None:
        """Wire them; `seed` chooses the order of events."""
        self.sides = (business, *providers)
        self._by_name = {side.name: side for side in self.sides}
        self.random = random.Random(seed)
        self.on_effect: Callable[[Side, Any], None] | None = None

    def start(
        self, job: str, contract: bytes, snapshot: bytes, rows: int, facts: bytes = b"", more: tuple[bytes, ...] = ()
    ) -> None:
        """Submit the job at the business, with the `facts` that it keeps of it; `more`: blobs beside the snapshot."""
        for side in self.sides:
            others = tuple(other.name for other in self.sides if other is not side)
            side.state = ROLES[side.role].initial(job, side.name, others)
        business = self.sides[0]
        refs = tuple(business.store(data, rows) for data in (snapshot, *more))
        self._apply(business, Started(contract=contract, blobs=refs, facts=facts))

    def run(self) -> None:
        """Until nothing is left to do."""
        while True:
            choices = [
                (side, what)
                for side in self.sides
                for what in (*side.inbox, "")
                if (side.inbox[what] if what else side.tasks)
            ]
            if not choices:
                return
            side, what = self.random.choice(choices)
            if what:
                self._apply(side, side.inbox[what].popleft())
            else:
                self._compute(side, side.tasks.pop(self.random.randrange(len(side.tasks))))

    def _apply(self, side: Side, event: AnyEvent) -> None:
        role = ROLES[side.role]
        state = role.decode(role.encode(side.state))
        side.state, effects = role.step(state, event)
        for effect in effects:
            if self.on_effect is not None:
                self.on_effect(side, effect)
            self._carry_out(side, effect)

    def _carry_out(self, side: Side, effect: Any) -> None:
        match effect:
            case Send(message=message):
                data, kind = codec.encode(message), codec.kind_of(message)
                other = self.named(side, effect.recipient)
                side.sent.append(message)
                side.said.append((other.name, message))
                other.inbox[side.name].append(ControlReceived(kind=kind, message=data, sender=side.name))
            case SendBulk():
                data = side.blobs[effect.body.sha256]
                side.bodies.append((effect.kind, effect.chunk, effect.chunks, data))
                side.handed.append((effect.recipient or side.state.partner, *side.bodies[-1]))
                other = self.named(side, effect.recipient)
                ref = other.store(data, effect.body.rows)
                side.drop(effect.body)
                received = BulkReceived(
                    kind=effect.kind, chunk=effect.chunk, chunks=effect.chunks, body=ref, sender=side.name
                )
                other.inbox[side.name].append(received)
            case Compute():
                side.tasks.append(effect)
            case Consumed(body=body) | Release(body=body):
                side.drop(body)
            case Finish():
                side.finish = effect

    def named(self, side: Side, partner: str) -> Side:
        """A partner of a side; `""` is its first."""
        return self._by_name[partner or side.state.partner]

    def context(self, side: Side, partner: str) -> TaskContext:
        """What is around a side's task that concerns a partner."""
        return TaskContext(
            job=side.state.job,
            party=side.name,
            partner=self.named(side, partner).identity.public,
            data_directory=side.directory,
            job_secret=side.secret,
            identity=side.identity,
            settings=side.settings,
            cache=side.cache,
            log=structlog.get_logger(),
            peers={one.name: one.identity.public for one in self.sides if one is not side},
        )

    def _compute(self, side: Side, task: Compute) -> None:
        context = self.context(side, task.partner)
        inputs = tuple(side.blobs[ref.sha256] for ref in task.inputs)
        arguments = msgspec.msgpack.decode(task.arguments)
        try:
            result = FUNCTIONS[task.function](context, arguments, inputs)
        except TaskRefused as refused:
            self._apply(
                side,
                ComputeFailed(task=task.task, function=task.function, reason_code=refused.code, reason=refused.reason),
            )
            return
        refs = tuple(side.store(data, rows) for data, rows in result.blobs)
        output = msgspec.msgpack.encode(result.output)
        self._apply(side, Computed(task=task.task, function=task.function, output=output, blobs=refs))
