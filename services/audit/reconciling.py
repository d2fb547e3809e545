"""Both parties' files of one job beside each other: what one has as sent the other has as received, and the reverse."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from messages.envelope import Header, header_signed_by
from messages.identity import IdentityError, PublicIdentity
from messages.keys import AddressError
from services import chain
from services.audit.export_file import Entry, ExportError, ExportReader, Opening
from services.audit.verifying import FINDINGS_MAX, OPPOSITE, Finding, Verification, identities_of, messages_of, verify


@dataclass(slots=True)
class Reconciliation:
    """Both files. `under_way`: sentences about messages at the end that one party has not got yet."""

    files: tuple[Verification, Verification]
    matched: int = 0
    under_way: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether both files hold and tell the same story."""
        return not self.findings and all(file.holds for file in self.files)


def reconcile(first: Path, second: Path) -> Reconciliation:
    """Check both files and compare them message by message. Raises OSError."""
    result = Reconciliation((verify(first), verify(second)))
    here, there = (found.opening for found in result.files)
    if here is None or there is None:
        return result
    _same_job(result, here, there)
    if result.findings:
        return result
    for path, other, own, its in ((first, second, *result.files), (second, first, *result.files[::-1])):
        try:
            _direction(result, path, other, own, its)
        except (ExportError, IdentityError, AddressError) as error:
            result.findings.append(Finding(f"the files cannot be compared beyond {error}"))
    return result


def _same_job(result: Reconciliation, here: Opening, there: Opening) -> None:
    checks = (
        (here.job == there.job, f"the files are of two jobs, {here.job} and {there.job}"),
        (
            (here.party, here.partner) == (there.partner, there.party),
            f"the files are not of two partners: {here.party} with {here.partner}, {there.party} with {there.partner}",
        ),
        (OPPOSITE.get(here.role) == there.role, f"both files are of a {here.role}"),
        (here.contract == there.contract, "the two files hold different contracts"),
        (
            (here.party_identity, here.partner_identity) == (there.partner_identity, there.party_identity),
            "the two files hold different keys of a party",
        ),
    )
    result.findings += [Finding(text) for holds, text in checks if not holds]


@dataclass(frozen=True, slots=True)
class _Seen:
    position: int
    kind: str
    digest: bytes


def _seen(path: Path, kind: str) -> dict[int, _Seen]:
    return {
        header.sequence: _Seen(entry.position, header.kind, _digest(entry)) for entry, header in messages_of(path, kind)
    }


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.header + entry.signature).digest()


def _direction(
    result: Reconciliation, sender: Path, receiver: Path, sending: Verification, receiving: Verification
) -> None:
    """What one party sent against what the other received."""
    assert sending.opening is not None
    name, reader = sending.opening.party, sending.opening.partner
    sent = _seen(sender, chain.SENT)
    last_sent = max(sent, default=0)
    # A journal that has ended sends nothing more: what the partner has beyond it was taken out.
    over = sending.ending is not None and sending.ending.status != "running"
    newest = 0
    beyond = 0
    for entry, header in messages_of(receiver, chain.RECEIVED):
        newest = max(newest, header.sequence)
        found = sent.pop(header.sequence, None)
        if found is None and header.sequence > last_sent and not over:
            beyond += 1
        elif found is None:
            _add(
                result,
                f"{reader} has received it and {name}'s file does not have it as sent: {name}'s signature proves that "
                "it was",
                entry,
                header,
            )
        elif found.digest != _digest(entry):
            _differ(result, sender, sending.opening, entry, header)
        else:
            result.matched += 1
    if beyond:
        result.under_way.append(f"{name}'s file ends before the last {beyond} messages that {reader} has of it")
    _not_received(result, sent, newest, name, reader)


def _not_received(result: Reconciliation, left: dict[int, _Seen], newest: int, name: str, reader: str) -> None:
    for sequence in sorted(left):
        if sequence <= newest and len(result.findings) < FINDINGS_MAX:
            seen = left[sequence]
            text = f"{name} has it as sent and {reader}'s file does not have it as received, but later ones"
            result.findings.append(Finding(text, seen.position, seen.kind, sequence, name))
    tail = sorted(sequence for sequence in left if sequence > newest)
    if tail:
        which = f"sequence {tail[0]} is" if len(tail) == 1 else f"sequences {tail[0]} to {tail[-1]} are"
        result.under_way.append(f"{which} of {name}, still under way to {reader} when {reader}'s file was written")


def _differ(result: Reconciliation, sender: Path, opening: Opening, entry: Entry, header: Header) -> None:
    identity = identities_of(opening)[opening.party]
    theirs = header_signed_by(identity, entry.header, entry.signature)
    ours = any(_signed(identity, sender, header.sequence))
    name, reader = opening.party, opening.partner
    if theirs and ours:
        text = f"{name} signed two different headers of this sequence: its own signatures prove it"
    elif theirs:
        text = f"the header that {reader} received is signed by {name}, the one in {name}'s file is not: it was altered"
    else:
        text = f"the header in {reader}'s file is not signed by {name}: {reader}'s file was altered"
    _add(result, text, entry, header)


def _signed(identity: PublicIdentity, path: Path, sequence: int) -> Iterator[bool]:
    for entry, header in messages_of(path, chain.SENT):
        if header.sequence == sequence:
            yield header_signed_by(identity, entry.header, entry.signature)


def _add(result: Reconciliation, text: str, entry: Entry, header: Header) -> None:
    if len(result.findings) < FINDINGS_MAX:
        result.findings.append(Finding(text, entry.position, header.kind, header.sequence, header.sender))


def opening_of(path: Path) -> Opening:
    """The first frame of a file. Raises ExportError, OSError."""
    with ExportReader(path) as reader:
        return reader.opening
