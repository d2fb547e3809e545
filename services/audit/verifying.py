"""Checks of one export file: chain, signatures, sequences, contract. Every finding says where, what and whose."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from messages import schemas
from messages.envelope import PROTOCOL_VERSION, Header, header_signed_by, read_header
from messages.seal import SUITES
from protocol.contract import ContractError, contract_digest
from protocol.grants import GRANTED
from protocol.scoring_contract import AnyContract, read_any
from protocol.state import BUSINESS, PROVIDER, SIDES
from services.audit.export_file import (
    AUDITOR,
    AnyFrame,
    Ending,
    Entry,
    ExportError,
    ExportReader,
    Opening,
    Seal,
    printable,
    signature_holds,
)
from services.audit.parties import ROLES, Parties, keys_in, parties_of_file
from services.store import chain

FINDINGS_MAX: Final = 200
_MESSAGES: Final = (chain.RECEIVED, chain.SENT)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is missing or altered. `position` 0: the file as a whole; `sequence` 0: no message."""

    text: str
    position: int = 0
    kind: str = ""
    sequence: int = 0
    party: str = ""

    def __str__(self) -> str:
        where = f"entry {self.position}" if self.position else "file"
        message = f", {self.kind}" if self.kind else ""
        message += f" sequence {self.sequence}" if self.sequence else ""
        message += f" of {self.party}" if self.party else ""
        return printable(f"{where}{message}: {self.text}")


@dataclass(slots=True)
class Verification:
    """What one file proves. `sent` and `received` count messages; `fingerprints` are to be compared by telephone."""

    opening: Opening | None = None
    parties: Parties | None = None
    ending: Ending | None = None
    contract: AnyContract | None = None
    entries: int = 0
    sent: int = 0
    received: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is missing or altered."""
        return not self.findings


def verify(path: Path) -> Verification:
    """Check a file. What is wrong with it is in the findings; raises OSError only."""
    result = Verification()
    try:
        with ExportReader(path) as reader:
            _Verifier(result, reader).run()
    except ExportError as error:
        result.findings.append(Finding(f"cannot be read on from {error}", position=result.entries + 1))
    return result


class _Verifier:
    def __init__(self, result: Verification, reader: ExportReader) -> None:
        self._result = result
        self._reader = reader
        self._opening = result.opening = reader.opening
        self._parties = result.parties = parties_of_file(reader.opening, reader.further)
        self._head = chain.genesis(self._opening.job, self._opening.party)
        self._last: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        """By direction and partner, as the sequences are."""
        self._acknowledged: Counter[str] = Counter()
        self._identities = self._parties.identities

    def _find(self, text: str, entry: Entry | None = None, header: Header | None = None, *, party: str = "") -> None:
        if len(self._result.findings) < FINDINGS_MAX:
            kind = header.kind if header else entry.kind if entry else ""
            self._result.findings.append(
                Finding(
                    text,
                    position=entry.position if entry else 0,
                    kind=kind,
                    sequence=header.sequence if header else 0,
                    party=header.sender if header else party,
                )
            )

    def run(self) -> None:
        """Walk the whole file."""
        self._begin()
        seal: Seal | None = None
        signed = b""
        for frame in self._reader.frames():
            if seal is not None:
                self._find("something follows the signature: it was added later")
                break
            if isinstance(frame, Seal):
                seal, signed = frame, self._reader.signed
            else:
                self._frame(frame)
        self._end(seal, signed)

    def _frame(self, frame: AnyFrame) -> None:
        match frame:
            case Entry() if self._result.ending is None:
                self._entry(frame)
            case Ending() if self._result.ending is None:
                self._result.ending = frame
            case _:
                self._find("a frame stands where none may be: frames were added or moved")

    # -- beginning and end ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        opening, parties = self._opening, self._parties
        for error in parties.unusable:
            self._find(f"an identity in the file cannot be used: {error}")
        if len({parties.party, *parties.partners}) <= len(parties.partners):
            self._find("the file names a party twice")
        self._result.fingerprints = {name: found.fingerprint for name, found in self._identities.items()}
        if opening.role not in ROLES:
            self._find(f"there is no role {opening.role}: a job has a {BUSINESS} and a {PROVIDER}")
        if contract_digest(opening.contract).hex()[:16] != opening.job.rpartition("-")[2]:
            self._find("the contract is not the one that the job's identifier names")
        try:
            contract = self._result.contract = read_any(opening.contract)
        except ContractError as error:
            self._find(f"the contract cannot be read: {error}")
            return
        if contract.nonce.hex() != opening.job.partition("-")[0]:
            self._find("the contract's nonce is not the one in the job's identifier")
        keys = keys_in(contract)
        others = tuple(name for name in keys if name != opening.party)
        mine = BUSINESS if opening.party == contract.business else PROVIDER
        if opening.party not in keys or others != parties.partners or mine != SIDES.get(opening.role):
            self._find("the contract names other parties than the file")
        for name, key in keys.items():
            if name in self._identities and self._identities[name].digest() != key:
                self._find("these are other keys than those that the contract names", party=name)

    def _end(self, seal: Seal | None, signed: bytes) -> None:
        ending, result = self._result.ending, self._result
        if ending is None:
            self._find("the file has no end: it was cut off")
        else:
            if ending.length != result.entries:
                self._find(f"the journal had {ending.length} entries, the file has {result.entries}")
            if ending.head != self._head:
                self._find("the last entry's head is not the one that was signed: the end was cut off or altered")
            private = (ending.outcome, ending.reason_code, ending.reason, ending.results)
            if self._opening.audience != AUDITOR and any(private):
                self._find("the end holds what a partner must not be shown")
        party = self._identities.get(self._opening.party)
        if seal is None:
            self._find(f"{self._opening.party}'s signature over the file is missing")
        elif party is not None and not signature_holds(party, seal.signature, signed):
            self._find(
                "its signature is not over these bytes: the file was altered after it was signed, or signed with "
                "another key",
                party=party.name,
            )

    # -- entries --------------------------------------------------------------------------------------------

    def _entry(self, entry: Entry) -> None:
        result = self._result
        result.entries += 1
        if entry.position != result.entries:
            self._find(f"stands in place {result.entries}: entries were removed, added or moved", entry)
        message = entry.kind in _MESSAGES
        header = self._header(entry) if message else None
        digest = chain.entry_digest(entry.kind, entry.header, entry.signature, entry.digest)
        if chain.next_head(self._head, digest) != entry.head:
            self._find(
                "its head does not follow from the entry before and its own content: one of the two was altered, or "
                "something between them removed",
                entry,
                header,
            )
        self._event(entry, header)
        if message:
            if header is not None:
                self._message(entry, header)
        elif entry.header or entry.signature:
            self._find("an entry that is no message has a header", entry)
        if result.entries == 1 and not self._opens(entry, header):
            self._find("a job cannot begin with this entry: what was before it is missing", entry, header)
        # From the recorded head on, so that each alteration is named once.
        self._head = entry.head

    def _opens(self, entry: Entry, header: Header | None) -> bool:
        if SIDES.get(self._opening.role) == BUSINESS:
            return entry.kind == chain.DECIDED
        return header is not None and (entry.kind, header.kind) == (chain.RECEIVED, "job.propose")

    def _event(self, entry: Entry, header: Header | None) -> None:
        if self._opening.audience == AUDITOR:
            if chain.event_digest(entry.salt, entry.event) != entry.digest:
                self._find("its event is not the one that its digest was made of: it was altered", entry, header)
        elif entry.salt or entry.event or entry.at:
            self._find("holds what a partner must not be shown", entry, header)
        if entry.kind not in _MESSAGES and entry.digest == bytes(32):
            self._find("has no event", entry)

    def _header(self, entry: Entry) -> Header | None:
        try:
            return read_header(entry.header)
        except ValueError:
            self._find(f"the header of a {entry.kind} message cannot be read", entry)
            return None

    def _message(self, entry: Entry, header: Header) -> None:
        opening, sent = self._opening, entry.kind == chain.SENT
        own, other = (header.sender, header.recipient) if sent else (header.recipient, header.sender)
        if own != opening.party or other not in self._parties.partners:
            self._find(f"a {entry.kind} message from {header.sender} to {header.recipient}", entry, header)
            return
        sender, recipient = header.sender, header.recipient
        if header.job != opening.job:
            self._find(f"belongs to job {header.job}", entry, header)
        identity = self._identities.get(sender)
        if identity is not None and not header_signed_by(identity, entry.header, entry.signature):
            self._find(f"the signature is not {sender}'s over this header", entry, header)
        if header.version != PROTOCOL_VERSION or header.suite not in SUITES:
            self._find(f"version {header.version}, suite {header.suite} are not known", entry, header)
        reader = self._parties.role_of(recipient)
        if reader in GRANTED and header.kind not in GRANTED[reader]:
            self._find(f"the contract grants {recipient} no {header.kind}", entry, header)
        if header.chunk >= header.chunks or (header.kind not in schemas.BULK and header.chunks != 1):
            self._find(f"is chunk {header.chunk} of {header.chunks}", entry, header)
        self._in_sequence(entry, header, other)
        self._in_time(entry, header, other)

    def _in_sequence(self, entry: Entry, header: Header, partner: str) -> None:
        line = (entry.kind, partner)
        due = self._last[line] + 1
        if header.sequence > due:
            last = header.sequence - 1
            missing = f"sequence {due} is" if last == due else f"sequences {due} to {last} are"
            self._find(f"{missing} missing before it", entry, header)
        elif header.sequence < due:
            self._find(f"comes after sequence {due - 1}: messages were repeated or swapped", entry, header)
        self._last[line] = max(header.sequence, self._last[line])
        self._counts[line] += 1
        self._result.sent += entry.kind == chain.SENT
        self._result.received += entry.kind == chain.RECEIVED

    def _in_time(self, entry: Entry, header: Header, partner: str) -> None:
        """What a header says of the state in which it was signed."""
        if entry.kind == chain.SENT:
            if header.previous != self._head:
                self._find(
                    "was signed over another chain: an entry before it was altered, added or removed", entry, header
                )
            had = self._counts[chain.RECEIVED, partner]
            if header.received != had:
                self._find(
                    f"was signed when {header.received} messages of {header.recipient} were in the journal, before it "
                    f"the file has {had}",
                    entry,
                    header,
                )
            return
        sent = self._last[chain.SENT, partner]
        if header.received > sent:
            self._find(
                f"{header.sender} had {header.received} messages of {header.recipient} by then, the file has "
                f"{sent} as sent",
                entry,
                header,
            )
        elif header.received < self._acknowledged[partner]:
            self._find(
                f"{header.sender} had {self._acknowledged[partner]} messages before, now {header.received}",
                entry,
                header,
            )
        self._acknowledged[partner] = max(header.received, self._acknowledged[partner])


def messages_of(path: Path, kind: str, partner: str) -> Iterator[tuple[Entry, Header]]:
    """The messages sent to or received from a partner that can be read at all. Raises ExportError."""
    with ExportReader(path) as reader:
        for entry in reader.entries():
            if entry.kind != kind:
                continue
            try:
                header = read_header(entry.header)
            except ValueError:
                continue
            if partner == (header.recipient if kind == chain.SENT else header.sender):
                yield entry, header
