"""What left the house and what came in, by kind of message, held against the contract that was signed.

A partner's file says how many messages of each kind there were; sizes, rows and numbers released are in an
auditor's file only.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from learning.release import entries_allowed
from messages import schemas
from messages.envelope import Header, read_header
from messages.seal import DEFAULT_SUITE, OVERHEAD_BYTES
from protocol.contract import INFERENCE_COLUMNS_MAX, JobContract
from protocol.effects import BulkReceived, ControlReceived
from protocol.grants import GRANTED
from protocol.scoring_contract import AnyContract, ScoringContract
from services.audit.export_file import AUDITOR, UNREADABLE, Entry, ExportError, ExportReader, Opening
from services.audit.parties import Parties
from services.audit.replaying import replay
from services.audit.seen import Seen
from services.audit.verifying import verify
from services.engine import jobs
from services.engine.jobs import SentBody
from services.store import chain
from services.store.limits import BULK_BODY_BYTES_MAX

_ONCE: Final = frozenset(
    {
        "job.propose",
        "job.accept",
        "job.pending",
        "job.decline",
        "job.agreed",
        "parts.seed",
        "job.done",
        "align.propose",
        "align.accept",
        "align.result",
        "features.codes",
        "score.ready",
        "model.part",
        "curvature.block",
    }
)
_EVERY_ITERATION: Final = frozenset({"score.range", "cross.term", "step.products", "step.masked"})
UNKNOWN: Final = "not in this file"


@dataclass(slots=True)
class Line:
    """All messages of a kind to or from one partner. None: a partner's file does not say."""

    direction: str
    kind: str
    partner: str = ""
    messages: int = 0
    bytes: int | None = None
    largest: int = 0
    rows: int | None = None
    suites: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @property
    def bytes_text(self) -> str:
        """Bytes of the sealed bodies."""
        return "-" if self.bytes is None else f"{self.bytes:,}"

    @property
    def rows_text(self) -> str:
        """Rows (or list items) that the messages speak of."""
        return "-" if self.rows is None else f"{self.rows:,}"

    @property
    def sealed_text(self) -> str:
        """Whether, and how, the bodies were sealed to the recipient."""
        return "yes" if self.suites == [DEFAULT_SUITE] else ", ".join(self.suites)


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of the job and what the contract says of it."""

    name: str
    value: str
    contract: str
    outside: bool = False


@dataclass(slots=True)
class Report:
    """See the module docstring. `findings` are those of `warren audit verify`."""

    job: str = ""
    party: str = ""
    partners: list[str] = field(default_factory=list)
    role: str = ""
    audience: str = ""
    outcome: str = ""
    exported_at: int = 0
    head: str = ""
    lines: list[Line] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def within(self) -> bool:
        """Whether nothing is outside the contract, and nothing missing or altered."""
        return (
            not self.findings
            and not any(line.outside for line in self.lines)
            and not any(fact.outside for fact in self.facts)
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "within": self.within}


def report(path: Path) -> Report:
    """The report of an export. Raises OSError only: what cannot be read is among the findings."""
    checked = verify(path)
    result = Report(findings=[str(finding) for finding in checked.findings], fingerprints=checked.fingerprints)
    opening, parties = checked.opening, checked.parties
    if opening is None or parties is None:
        return result
    result.job, result.party, result.partners = opening.job, opening.party, list(parties.partners)
    result.role, result.audience, result.exported_at = opening.role, opening.audience, opening.exported_at
    seen = Seen(opening.party, opening.partner)
    if opening.audience == AUDITOR:
        again = replay(path, on_task=seen.task, on_arrival=seen.arrival)
        if not again.same:
            result.findings.append(f"replay: {again.difference}")
    if checked.ending is not None:
        result.outcome = checked.ending.outcome or checked.ending.status
        result.head = checked.ending.head.hex()
    lines: dict[tuple[str, str, str], Line] = {}
    try:
        with ExportReader(path) as reader:
            for entry in reader.entries():
                if entry.kind in (chain.SENT, chain.RECEIVED):
                    _count(lines, entry, opening, seen)
    except ExportError:
        pass  # named by `verify`
    # In the order in which the job came to them, what left first.
    result.lines = sorted(lines.values(), key=lambda line: line.direction != chain.SENT)
    if checked.contract is not None:
        for line in result.lines:
            line.outside = outside_of(line, opening, parties, checked.contract, seen)
        result.facts = facts_of(opening, parties, checked.contract, seen)
    return result


def _count(lines: dict[tuple[str, str, str], Line], entry: Entry, opening: Opening, seen: Seen) -> None:
    try:
        header = read_header(entry.header)
    except ValueError:
        return
    partner = header.recipient if entry.kind == chain.SENT else header.sender
    line = lines.setdefault((entry.kind, header.kind, partner), Line(entry.kind, header.kind, partner))
    line.messages += 1
    if header.suite not in line.suites:
        line.suites.append(header.suite)
    if opening.audience != AUDITOR:
        return
    size = _size(entry, header, seen)
    line.bytes = (line.bytes or 0) + size
    line.largest = max(line.largest, size)
    if header.kind in schemas.BULK:
        line.rows = seen.rows[entry.kind, header.kind, partner]


def _size(entry: Entry, header: Header, seen: Seen) -> int:
    """Bytes of a message's sealed body; 0 where the journal does not have it (a late message)."""
    try:
        if entry.kind == chain.SENT:
            if header.kind in schemas.BULK:
                return seen.sizes.get(header.body_sha256, 0)
            return msgspec.msgpack.decode(entry.event, type=SentBody).bytes if entry.event else 0
        event = jobs.decode_event(entry.event) if entry.event else None
    except UNREADABLE:
        return 0
    match event:
        case BulkReceived():
            return event.body.bytes
        case ControlReceived():
            return len(event.message) + OVERHEAD_BYTES
        case _:
            return 0


def outside_of(line: Line, opening: Opening, parties: Parties, contract: AnyContract, seen: Seen) -> list[str]:
    """What of a kind is not what the contract grants."""
    reader = opening.role if line.direction == chain.RECEIVED else parties.role_of(line.partner)
    rows = line.rows or 0
    items = contract.psi_quota
    if line.kind == "align.echo":
        items = 2 * contract.psi_quota
    checks = (
        (line.kind not in GRANTED.get(reader, ()), f"not granted to a {reader}"),
        (line.suites != [DEFAULT_SUITE], "not sealed by the suite of the contract"),
        (line.largest > BULK_BODY_BYTES_MAX, f"a body of {line.largest:,} bytes"),
        (line.kind in _ONCE and line.messages > 1, "said more than once"),
        (line.kind.startswith("align.") and rows > items, f"more than the {contract.psi_quota:,} of the quota"),
        (
            line.kind == "features.encrypted" and rows > seen.aligned,
            "rows that were not aligned",
        ),
        (
            line.kind == "score.partial" and rows > seen.aligned * _evaluations(contract),
            "more scores than aligned rows times evaluations",
        ),
        *(_in_training(line, contract, seen) if isinstance(contract, JobContract) else ()),
    )
    return [text for holds, text in checks if holds]


def _evaluations(contract: AnyContract) -> int:
    """How often rows are scored at most: once, and in a job that stops early once more for each evaluation."""
    return 1 + (contract.stop_evaluations_max if isinstance(contract, JobContract) else 0)


def _in_training(line: Line, contract: JobContract, seen: Seen) -> tuple[tuple[bool, str], ...]:
    """What the number of iterations bounds, and of the turns for standard errors where the contract has them."""
    turns = 0
    if contract.inference:
        theirs = max(seen.columns.values(), default=0) or INFERENCE_COLUMNS_MAX
        turns = 2 + contract.business_columns + theirs
    most = (
        contract.max_iterations
        + contract.turns_beside
        + (turns if line.kind not in ("step.products", "step.masked") else 0)
    )
    return (
        (
            line.kind in _EVERY_ITERATION and line.messages > most,
            f"more than the {most} iterations of the contract",
        ),
        (
            line.kind == "stop.decision" and line.messages > contract.stop_evaluations_max,
            f"more than the {contract.stop_evaluations_max} evaluations of the contract",
        ),
        (
            line.kind in ("link.terms", "residual.share") and (line.rows or 0) > seen.aligned * most,
            "more rows than aligned rows times iterations",
        ),
    )


def facts_of(opening: Opening, parties: Parties, contract: AnyContract, seen: Seen) -> list[Fact]:
    """Numbers of the job, and what the contract says of each."""
    if isinstance(contract, ScoringContract):
        return _scored(opening, contract, seen)
    return _trained(opening, parties, contract, seen)


def _scored(opening: Opening, contract: ScoringContract, seen: Seen) -> list[Fact]:
    """What a scoring job released: one rounded projection of each row, or the right to ask for it."""
    facts = [
        Fact("model", contract.model, f"rules {contract.logic_version}, leakage table {contract.leakage_version}"),
        Fact("mode", contract.mode, "batch: all common rows, once; lookup: single rows until the job ends"),
        Fact("purpose", contract.purpose or "none given", "as the business stated it"),
        Fact("retention", contract.retention, "what each party keeps after the end"),
    ]
    if opening.audience != AUDITOR:
        return [*facts, Fact("rows scored", UNKNOWN, "a partner's file holds headers only")]
    rows = f"{seen.aligned:,}"
    return [
        *facts,
        Fact("rows scored at most", rows, f"quota {contract.score_quota:,}", seen.aligned > contract.score_quota),
    ]


def _trained(opening: Opening, parties: Parties, contract: JobContract, seen: Seen) -> list[Fact]:
    marks = ", ".join(contract.marks) or "none"
    facts = [
        Fact("task", contract.task, f"rules {contract.logic_version}, leakage table {contract.leakage_version}"),
        Fact("marks", marks, "accepted by all parties"),
        Fact("release noise", f"{contract.release_noise:g} of a record", "on every gradient entry"),
        Fact("retention", contract.retention, "what each party keeps after the end"),
    ]
    if opening.audience != AUDITOR:
        return [*facts, Fact("sizes, rows, numbers released", UNKNOWN, "a partner's file holds headers only")]
    columns = columns_of(contract, seen)
    facts.append(
        Fact(
            "aligned rows",
            f"{seen.aligned:,}",
            f"of {contract.business_rows:,} at {contract.business}",
            outside=seen.aligned > contract.business_rows,
        )
    )
    for name in (opening.party, *parties.partners):
        if name in seen.moduli:
            bits = seen.moduli[name]
            wrong = bits != contract.key_bits
            facts.append(Fact(f"key of {name}", f"{bits} bits", f"contract: {contract.key_bits}", outside=wrong))
    for name in parties.partners:
        for released in (released_to(name, columns, seen), _received_from(name, columns, opening, seen)):
            facts.append(released.fact(contract, seen))
    return facts


@dataclass(frozen=True, slots=True)
class Released:
    """Numbers that one party could read of another: gradients of `columns` entries, and numbers of Gram rows."""

    name: str
    gradients: int
    columns: int
    numbers: int

    @property
    def total(self) -> int:
        """All of them, which is what the cap is on."""
        return self.gradients * self.columns + self.numbers

    def fact(self, contract: JobContract, seen: Seen) -> Fact:
        """Held against the cap."""
        gradients = f"{self.gradients} gradients of {self.columns} entries"
        value = f"{self.total:,}: {gradients}, {self.numbers} numbers of Gram rows"
        if contract.small_sample:
            return Fact(self.name, value, "no cap: both accepted small_sample", outside=False)
        allowed = entries_allowed(seen.aligned)
        text = f"at most {allowed:,}: one for every 16 aligned rows"
        return Fact(self.name, value, text, outside=self.total > allowed)


def columns_of(contract: JobContract, seen: Seen) -> dict[str, int]:
    """Columns of every party that are known here, the business's with its intercept."""
    told = dict(zip(contract.providers, seen.agreed, strict=False))
    return {**told, **seen.columns, contract.business: contract.business_columns + 1}


def released_to(name: str, columns: dict[str, int], seen: Seen) -> Released:
    """What this party has released to a partner."""
    # The same row goes to every partner.
    numbers = seen.numbers[chain.SENT, ""]
    return Released(f"numbers released to {name}", seen.gradients[chain.SENT, name], columns.get(name, 0), numbers)


def _received_from(name: str, columns: dict[str, int], opening: Opening, seen: Seen) -> Released:
    got, numbers = seen.gradients[chain.RECEIVED, name], seen.numbers[chain.RECEIVED, name]
    return Released(f"numbers received from {name}", got, columns.get(opening.party, 0), numbers)
