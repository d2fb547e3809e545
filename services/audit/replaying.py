"""The recorded events of a job, folded again through the same machines: no network, no partner, no data.

At every step what the machine decides is held against what the journal recorded: messages (kind, chunk, digest of
the plaintext or of the sealed body), tasks asked for and computed, and how the job ended. The first difference is
named.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from messages import schemas
from messages.envelope import Header
from protocol.effects import (
    STATE_BYTES_MAX,
    AnyEffect,
    AnyEvent,
    ApproveDecided,
    BulkReceived,
    CancelDecided,
    Compute,
    Computed,
    ComputeFailed,
    ControlReceived,
    DeclineDecided,
    Expired,
    Finish,
    RevokeDecided,
    Send,
    SendBulk,
    Started,
    UnexpectedEventError,
)
from protocol.machines import LogicUnknown, role_of
from services.audit.export_file import (
    AUDITOR,
    UNREADABLE,
    Ending,
    Entry,
    ExportError,
    ExportReader,
    Opening,
    Seal,
)
from services.audit.said import UNDIGESTED, Differs, Said, header_of
from services.engine import jobs
from services.engine.roles import Role
from services.store import chain
from services.store.limits import TASKS_PER_JOB_MAX

_OF_KIND: Final[dict[str, tuple[type, ...]]] = {
    chain.RECEIVED: (ControlReceived, BulkReceived),
    chain.COMPUTED: (Computed, ComputeFailed),
    chain.DECIDED: (Started, CancelDecided, ApproveDecided, DeclineDecided, RevokeDecided),
    chain.DEADLINE: (Expired,),
}
_UNREADABLE: Final = frozenset({"seal_broken", "message_oversized", "message_malformed", "credit_exceeded"})
"""Codes with which the engine ends a job for a message that never became an event."""
_UNDONE: Final = frozenset({"effect_impossible", "logic_unknown", "peer_unknown"})
"""Codes with which the engine undoes a step that the machine itself would take."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task whose recorded result is reached: what the machine asked for, and what the journal has of it."""

    position: int
    asked: Compute
    event: Computed | ComputeFailed


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message whose recorded event is reached."""

    header: Header
    event: ControlReceived | BulkReceived


OnTask = Callable[[Task], None]
OnArrival = Callable[[Arrival], None]
OnStart = Callable[[Started], None]


@dataclass(slots=True)
class Replay:
    """What was compared. `parameters`: digest of the final parameters; `notes`: what could not be compared."""

    opening: Opening | None = field(default=None, repr=False)
    entries: int = 0
    events: int = 0
    controls: int = 0
    bulk: int = 0
    tasks: int = 0
    outcome: str = ""
    parameters: str = ""
    notes: list[str] = field(default_factory=list)
    difference: str = ""

    @property
    def same(self) -> bool:
        """Whether the machine decided as recorded, to the end."""
        return not self.difference


def replay(
    path: Path,
    *,
    on_task: OnTask | None = None,
    on_arrival: OnArrival | None = None,
    on_start: OnStart | None = None,
) -> Replay:
    """Replay an auditor's file. The first difference is in the result; raises OSError only."""
    result = Replay()
    try:
        with ExportReader(path) as reader:
            result.opening = reader.opening
            if reader.opening.audience != AUDITOR:
                raise Differs(0, "this is a partner's file, without events: export it --for auditor to replay it")
            role = role_of(reader.opening.logic_version, reader.opening.role)
            _Replayer(result, reader, role, on_task, on_arrival, on_start).run()
    except ExportError as error:
        result.difference = f"the file cannot be read on from {error}"
    except LogicUnknown as error:
        result.difference = str(error)
    except Differs as error:
        result.difference = str(error)
    return result


class _Replayer:
    def __init__(
        self,
        result: Replay,
        reader: ExportReader,
        role: Role,
        on_task: OnTask | None,
        on_arrival: OnArrival | None,
        on_start: OnStart | None,
    ) -> None:
        self._result = result
        self._reader = reader
        self._role = role
        self._on_task, self._on_arrival, self._on_start = on_task, on_arrival, on_start
        opening = reader.opening
        self._partners = (opening.partner, *(item.name for item in reader.further))
        self._state: Any = role.initial(opening.job, opening.party, self._partners)
        self._said = Said(self._partners)
        self._tasks: dict[str, Compute] = {}
        self._finish: Finish | None = None
        self._judged = 0
        """Position of the last fault, which is judged together with the entry before it."""

    def run(self) -> None:
        """All entries; each event waits for the entry after it, which may be the fault that undid its step."""
        waiting: Entry | None = None
        ending: Ending | None = None
        for frame in self._reader.frames():
            match frame:
                case Entry():
                    if waiting is not None:
                        self._take(waiting, frame)
                    waiting = frame
                    self._result.entries += 1
                case Ending():
                    ending = frame
                case Seal():
                    break
        if waiting is not None:
            self._take(waiting, None)
        if ending is None:
            raise Differs(0, "the file has no end: it was cut off")
        self._end(ending)

    def _take(self, entry: Entry, after: Entry | None) -> None:
        if entry.kind == chain.SENT:
            self._said.sent(entry)
            return
        if entry.kind == chain.FAULT and entry.position == self._judged:
            return
        self._said.silent(entry.position)
        if entry.kind == chain.FAULT:
            self._alone(entry)
            return
        fault = after if after is not None and after.kind == chain.FAULT else None
        if fault is not None and _fault(fault).code in chain.OWN_WORD:
            fault = None
        if self._finish is not None:
            self._late(entry)
            return
        if not entry.event:
            self._unreadable(entry, fault)
            return
        event = self._event(entry)
        self._settle(entry, event)
        self._guard(entry, event)
        if fault is None:
            for effect in self._step(entry, event):
                self._expect(entry, effect)
        else:
            self._faulted(entry, event, fault)
        self._result.events += 1

    # -- events ---------------------------------------------------------------------------------------------

    def _event(self, entry: Entry) -> AnyEvent:
        try:
            event = jobs.decode_event(entry.event)
        except UNREADABLE:
            raise Differs(entry.position, f"the event of a {entry.kind} entry cannot be read") from None
        if not isinstance(event, _OF_KIND[entry.kind]):
            raise Differs(entry.position, f"a {entry.kind} entry holds another event")
        return event

    def _settle(self, entry: Entry, event: AnyEvent) -> None:
        """An event must fit what the machine knows of: its header, or a task that was asked for."""
        if isinstance(event, ControlReceived | BulkReceived):
            header = header_of(entry)
            # Events of jobs that could have one partner only do not name it.
            stated: tuple[object, ...] = (event.kind, event.sender or self._partners[0])
            signed: tuple[object, ...] = (header.kind, header.sender)
            if isinstance(event, BulkReceived):
                stated += (event.chunk, event.chunks, event.body.sha256)
                signed += (header.chunk, header.chunks, header.body_sha256)
            if stated != signed:
                raise Differs(entry.position, f"the event is not the {header.kind} that its header was signed for")
            if self._on_arrival is not None:
                self._on_arrival(Arrival(header, event))
        elif isinstance(event, Computed | ComputeFailed):
            asked = self._tasks.pop(event.task, None)
            if asked is None or asked.function != event.function:
                raise Differs(entry.position, f"task {event.task[:200]} was computed and never asked for")
            self._result.tasks += 1
            if self._on_task is not None:
                self._on_task(Task(entry.position, asked, event))
        elif isinstance(event, Started) and self._on_start is not None:
            self._on_start(event)

    def _guard(self, entry: Entry, event: AnyEvent) -> None:
        """A file that nobody vouches for must not make the machine ask for more than any journal would take."""
        contract = getattr(self._state, "contract", b"")
        try:
            if isinstance(event, Started):
                contract = event.contract
            rows, items = _rows_and_items(event, contract)
        except (*UNREADABLE, ArithmeticError, TypeError, KeyError, ValueError):
            return
        if rows > items * TASKS_PER_JOB_MAX:
            raise Differs(entry.position, f"{rows} rows would take more tasks than a journal has room for")

    def _step(self, entry: Entry, event: AnyEvent) -> tuple[AnyEffect, ...]:
        try:
            state, effects = self._role.step(self._state, event)
            if len(self._role.encode(state)) > STATE_BYTES_MAX:
                raise Differs(entry.position, "the machine's state grows beyond its limit")
        except UnexpectedEventError as error:
            raise Differs(entry.position, f"the machine does not take this event: {error}") from None
        except Differs:
            raise
        except Exception as error:
            # Its text may hold private values.
            raise Differs(entry.position, f"the machine fails at this event: {type(error).__name__}") from None
        self._state = state
        return effects

    def _expect(self, entry: Entry, effect: AnyEffect) -> None:
        match effect:
            case Send() | SendBulk():
                self._said.say(entry.position, effect)
            case Compute():
                if effect.task in self._tasks:
                    raise Differs(entry.position, f"the machine asks for task {effect.task} twice")
                self._tasks[effect.task] = effect
            case Finish():
                self._finish = effect
            case _:
                pass

    # -- what the engine decides itself ---------------------------------------------------------------------

    def _late(self, entry: Entry) -> None:
        """After the end there may be messages that were still under way, and nothing else."""
        self._said.forget_bulk()
        self._tasks.clear()
        if entry.kind != chain.RECEIVED or entry.event:
            raise Differs(entry.position, f"a {entry.kind} entry after the machine had ended the job")

    def _unreadable(self, entry: Entry, fault: Entry | None) -> None:
        if entry.kind != chain.RECEIVED or fault is None:
            raise Differs(entry.position, f"a {entry.kind} entry without an event while the job ran")
        code = _fault(fault).code
        self._judged = fault.position
        if code not in _UNREADABLE:
            raise Differs(fault.position, f"the job failed with {code}, which no unreadable message leads to")
        self._failed(fault)

    def _alone(self, fault: Entry) -> None:
        """A fault that is not the end of a step."""
        code = _fault(fault).code
        if code not in chain.OWN_WORD or self._finish is not None:
            raise Differs(fault.position, f"the job failed with {code}, which no entry before it leads to")
        self._result.notes.append(f"entry {fault.position}: {code} is this party's engine's word; it is not replayed")
        self._said.forget_bulk()
        self._failed(fault)

    def _faulted(self, entry: Entry, event: AnyEvent, fault: Entry) -> None:
        """The journal says that this step was undone: it must fail here, too, or ask for what cannot be done."""
        code = _fault(fault).code
        self._judged = fault.position
        try:
            self._step(entry, event)
        except Differs:
            self._failed(fault)
            return
        if code not in _UNDONE:
            raise Differs(fault.position, f"the job failed with {code}, but the machine takes the event before it")
        self._result.notes.append(f"entry {fault.position}: {code} is this party's engine's word; it is not replayed")
        self._failed(fault)

    def _failed(self, entry: Entry) -> None:
        fault = _fault(entry)
        if fault.told:
            self._said.say_all(schemas.JobFailed(reason_code=fault.code, reason=fault.told), fault.untold)
        self._finish = Finish(outcome="failed", reason_code=fault.code, reason=fault.reason)

    def _note(self, text: str) -> None:
        if text not in self._result.notes:
            self._result.notes.append(text)

    # -- the end --------------------------------------------------------------------------------------------

    def _end(self, ending: Ending) -> None:
        self._said.silent(ending.length)
        self._result.controls, self._result.bulk = self._said.controls, self._said.bulk
        if self._said.undigested:
            self._note(UNDIGESTED)
        finish = self._finish
        recorded = (ending.outcome, ending.reason_code, ending.reason)
        if finish is None:
            if ending.status == "finished":
                raise Differs(ending.length, f"the job ended as {ending.outcome}, the machine goes on")
            if ending.status == "frozen":
                self._note(f"the job is frozen ({ending.reason_code}): its journal could not be trusted any more")
            self._result.outcome = ending.status
            return
        if ending.status == "running":
            raise Differs(ending.length, f"the machine ends the job as {finish.outcome}, the journal says it runs")
        if ending.status == "finished" and recorded != (finish.outcome, finish.reason_code, finish.reason[:4096]):
            raise Differs(
                ending.length,
                f"the job ended as {ending.outcome} {ending.reason_code}, the machine ends it as {finish.outcome} "
                f"{finish.reason_code}",
            )
        if ending.status == "finished" and ending.results != jobs.encode_refs(finish.results):
            raise Differs(ending.length, "the parameters in the journal are not those that the machine ended with")
        self._result.outcome = finish.outcome
        self._result.parameters = finish.results[0].sha256.hex() if finish.results else ""


@dataclass(frozen=True, slots=True)
class _Fault:
    """What an entry says that the engine made. `told`: what all partners but `untold` read of it."""

    code: str
    reason: str
    told: str
    untold: tuple[str, ...]


def _fault(entry: Entry) -> _Fault:
    try:
        found = msgspec.msgpack.decode(entry.event, type=dict[str, str])
        untold = tuple(found.get("untold", "").split(","))
        return _Fault(found["code"], found["reason"], found.get("told", found["reason"]), untold)
    except (*UNREADABLE, KeyError):
        raise Differs(entry.position, "the reason of a fault cannot be read") from None


def _rows_and_items(event: AnyEvent, contract: bytes) -> tuple[int, int]:
    """The rows that an event makes the machine cut into chunks of so many items; (0, 1) for any other event."""
    if not isinstance(event, Started) and not (isinstance(event, Computed) and event.function == "admit"):
        return 0, 1
    terms = msgspec.msgpack.decode(contract, type=dict[str, Any])
    rows = terms["business_rows"]
    if isinstance(event, Computed):
        rows = msgspec.msgpack.decode(event.output, type=dict[str, Any]).get("rows", 0)
    return int(rows), max(1, int(terms["align_chunk_items"]))
