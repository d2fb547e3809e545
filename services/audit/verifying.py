"""Checks of one export file: chain, signatures, sequences, contract. Every finding says where, what and whose."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from messages import schemas
from messages.envelope import PROTOCOL_VERSION, Header, header_signed_by, read_header
from messages.identity import IdentityError, PublicIdentity
from messages.keys import AddressError
from messages.seal import SUITES
from protocol.contract import ContractError, contract_digest
from protocol.grants import GRANTED
from protocol.scoring_contract import AnyContract, read_any
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER, SIDES
from services import chain
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

FINDINGS_MAX: Final = 200
OPPOSITE: Final = {
    BUSINESS: PROVIDER,
    PROVIDER: BUSINESS,
    SCORING_BUSINESS: SCORING_PROVIDER,
    SCORING_PROVIDER: SCORING_BUSINESS,
}
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


def identities_of(opening: Opening) -> dict[str, PublicIdentity]:
    """The public identities in a file, by name. Raises IdentityError, AddressError."""
    found = {}
    for name, text in ((opening.party, opening.party_identity), (opening.partner, opening.partner_identity)):
        identity = PublicIdentity.from_json(text)
        if identity.name != name:
            raise IdentityError(f"the identity given for {name} is {identity.name}'s")
        found[name] = identity
    return found


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
        self._head = chain.genesis(self._opening.job, self._opening.party)
        self._last = {chain.RECEIVED: 0, chain.SENT: 0}
        self._counts = {chain.RECEIVED: 0, chain.SENT: 0}
        self._acknowledged = 0
        self._identities: dict[str, PublicIdentity] = {}
        self._over = False

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
        opening = self._opening
        try:
            self._identities = identities_of(opening)
        except (IdentityError, AddressError) as error:
            self._find(f"an identity in the file cannot be used: {error}")
        self._result.fingerprints = {name: found.fingerprint for name, found in self._identities.items()}
        if opening.role not in OPPOSITE:
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
        business, provider = opening.party, opening.partner
        if SIDES.get(opening.role) == PROVIDER:
            business, provider = provider, business
        if (contract.business, contract.provider) != (business, provider):
            self._find("the contract names other parties than the file")
        for name, key in ((contract.business, contract.business_key), (contract.provider, contract.provider_key)):
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
        sender, recipient = opening.party, opening.partner
        if not sent:
            sender, recipient = recipient, sender
        if (header.sender, header.recipient) != (sender, recipient):
            self._find(f"a {entry.kind} message from {header.sender} to {header.recipient}", entry, header)
        if header.job != opening.job:
            self._find(f"belongs to job {header.job}", entry, header)
        identity = self._identities.get(sender)
        if identity is not None and not header_signed_by(identity, entry.header, entry.signature):
            self._find(f"the signature is not {sender}'s over this header", entry, header)
        if header.version != PROTOCOL_VERSION or header.suite not in SUITES:
            self._find(f"version {header.version}, suite {header.suite} are not known", entry, header)
        reader = OPPOSITE.get(opening.role, "") if sent else opening.role
        if reader in GRANTED and header.kind not in GRANTED[reader]:
            self._find(f"the contract grants {recipient} no {header.kind}", entry, header)
        if header.chunk >= header.chunks or (header.kind not in schemas.BULK and header.chunks != 1):
            self._find(f"is chunk {header.chunk} of {header.chunks}", entry, header)
        self._in_sequence(entry, header)
        self._in_time(entry, header)

    def _in_sequence(self, entry: Entry, header: Header) -> None:
        due = self._last[entry.kind] + 1
        if header.sequence > due:
            last = header.sequence - 1
            missing = f"sequence {due} is" if last == due else f"sequences {due} to {last} are"
            self._find(f"{missing} missing before it", entry, header)
        elif header.sequence < due:
            self._find(f"comes after sequence {due - 1}: messages were repeated or swapped", entry, header)
        self._last[entry.kind] = max(header.sequence, self._last[entry.kind])
        self._counts[entry.kind] += 1
        self._result.sent, self._result.received = self._counts[chain.SENT], self._counts[chain.RECEIVED]

    def _in_time(self, entry: Entry, header: Header) -> None:
        """What a header says of the state in which it was signed."""
        if entry.kind == chain.SENT:
            if header.previous != self._head:
                self._find(
                    "was signed over another chain: an entry before it was altered, added or removed", entry, header
                )
            if header.received != self._counts[chain.RECEIVED]:
                self._find(
                    f"was signed when {header.received} messages of {header.recipient} were in the journal, before it "
                    f"the file has {self._counts[chain.RECEIVED]}",
                    entry,
                    header,
                )
            return
        if header.received > self._last[chain.SENT]:
            self._find(
                f"{header.sender} had {header.received} messages of {header.recipient} by then, the file has "
                f"{self._last[chain.SENT]} as sent",
                entry,
                header,
            )
        elif header.received < self._acknowledged:
            self._find(
                f"{header.sender} had {self._acknowledged} messages before, now {header.received}", entry, header
            )
        self._acknowledged = max(header.received, self._acknowledged)


def messages_of(path: Path, kind: str) -> Iterator[tuple[Entry, Header]]:
    """The sent or received messages of a file that can be read at all. Raises ExportError."""
    with ExportReader(path) as reader:
        for entry in reader.entries():
            if entry.kind == kind:
                try:
                    yield entry, read_header(entry.header)
                except ValueError:
                    continue
