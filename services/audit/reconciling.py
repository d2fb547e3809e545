"""The files of the parties of one job beside each other: what one has as sent the other has as received, and the
reverse, for each two of them."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from messages.envelope import Header, header_signed_by
from messages.identity import PublicIdentity
from services.audit.export_file import Entry, ExportError, Opening
from services.audit.parties import Parties
from services.audit.verifying import FINDINGS_MAX, Finding, Verification, messages_of, verify
from services.store import chain


@dataclass(slots=True)
class Reconciliation:
    """All files. `under_way`: sentences about messages at the end that one party has not got yet.

    `missing`: parties of the job whose file is not among them.
    """

    files: tuple[Verification, ...]
    matched: int = 0
    under_way: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the files hold and tell the same story."""
        return not self.findings and all(file.holds for file in self.files)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    opening: Opening
    parties: Parties
    over: bool


def reconcile(*paths: Path) -> Reconciliation:
    """Check all files and compare each two of them message by message. Raises OSError."""
    result = Reconciliation(tuple(map(verify, paths)))
    files = []
    for path, found in zip(paths, result.files, strict=True):
        if found.opening is None or found.parties is None:
            return result
        # A journal that has ended sends nothing more: what a partner has beyond it was taken out.
        over = found.ending is not None and found.ending.status != "running"
        files.append(_File(path, found.opening, found.parties, over))
    pairs = list(itertools.combinations(files, 2))
    for one, other in pairs:
        _same_job(result, one, other)
    if result.findings:
        return result
    everybody = {name for file in files for name in (file.parties.party, *file.parties.partners)}
    result.missing = sorted(everybody - {file.parties.party for file in files})
    for one, other in pairs:
        for sender, receiver in ((one, other), (other, one)):
            try:
                _direction(result, sender, receiver)
            except ExportError as error:
                result.findings.append(Finding(f"the files cannot be compared beyond {error}"))
    return result


def _same_job(result: Reconciliation, one: _File, other: _File) -> None:
    here, there = one.parties, other.parties
    shared = here.identities.keys() & there.identities.keys()
    checks = (
        (one.opening.job == other.opening.job, f"the files are of two jobs, {one.opening.job} and {other.opening.job}"),
        (
            {here.party, *here.partners} == {there.party, *there.partners},
            f"the files are not of two partners: {here.party} with {', '.join(here.partners)}, {there.party} with "
            f"{', '.join(there.partners)}",
        ),
        (here.party != there.party, f"both files are of a {here.role}, {here.party}"),
        (
            here.role_of(there.party) == there.role and there.role_of(here.party) == here.role,
            f"{here.party} is a {here.role} and {there.party} a {there.role}: no such two are in one job",
        ),
        (one.opening.contract == other.opening.contract, "the two files hold different contracts"),
        (
            all(here.identities[name].to_json() == there.identities[name].to_json() for name in shared),
            "the two files hold different keys of a party",
        ),
    )
    known = {finding.text for finding in result.findings}
    result.findings += [Finding(text) for holds, text in checks if not holds and text not in known]


@dataclass(frozen=True, slots=True)
class _Seen:
    position: int
    kind: str
    digest: bytes


def _seen(file: _File, partner: str) -> dict[int, _Seen]:
    return {
        header.sequence: _Seen(entry.position, header.kind, _digest(entry))
        for entry, header in messages_of(file.path, chain.SENT, partner)
    }


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.header + entry.signature).digest()


def _direction(result: Reconciliation, sender: _File, receiver: _File) -> None:
    """What one party sent against what the other received."""
    name, reader = sender.parties.party, receiver.parties.party
    sent = _seen(sender, reader)
    last_sent = max(sent, default=0)
    newest = 0
    beyond = 0
    for entry, header in messages_of(receiver.path, chain.RECEIVED, name):
        newest = max(newest, header.sequence)
        found = sent.pop(header.sequence, None)
        if found is None and header.sequence > last_sent and not sender.over:
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
            _differ(result, sender, reader, entry, header)
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


def _differ(result: Reconciliation, sender: _File, reader: str, entry: Entry, header: Header) -> None:
    name = sender.parties.party
    identity = sender.parties.identities.get(name)
    if identity is None:
        return  # named by `verify`
    theirs = header_signed_by(identity, entry.header, entry.signature)
    ours = any(_signed(identity, sender, reader, header.sequence))
    if theirs and ours:
        text = f"{name} signed two different headers of this sequence: its own signatures prove it"
    elif theirs:
        text = f"the header that {reader} received is signed by {name}, the one in {name}'s file is not: it was altered"
    else:
        text = f"the header in {reader}'s file is not signed by {name}: {reader}'s file was altered"
    _add(result, text, entry, header)


def _signed(identity: PublicIdentity, sender: _File, reader: str, sequence: int) -> Iterator[bool]:
    for entry, header in messages_of(sender.path, chain.SENT, reader):
        if header.sequence == sequence:
            yield header_signed_by(identity, entry.header, entry.signature)


def _add(result: Reconciliation, text: str, entry: Entry, header: Header) -> None:
    if len(result.findings) < FINDINGS_MAX:
        result.findings.append(Finding(text, entry.position, header.kind, header.sequence, header.sender))
