"""What a dishonest party could do with its own journal: change it, and make everything of its own fit again."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from messages.envelope import read_header, sign_header
from messages.identity import Identity
from services.audit.export_file import AnyFrame, Ending, Entry, ExportReader, ExportWriter, Opening
from services.store import chain

Change = Callable[[list[Entry]], list[Entry]]


def frames_of(path: Path) -> tuple[Opening, list[Entry], Ending]:
    """All of a file."""
    with ExportReader(path) as reader:
        frames: list[AnyFrame] = list(reader.frames())
    (ending,) = (frame for frame in frames if isinstance(frame, Ending))
    return reader.opening, [frame for frame in frames if isinstance(frame, Entry)], ending


def write(path: Path, opening: Opening, entries: list[Entry], ending: Ending, identity: Identity) -> Path:
    """A file with these frames, signed by `identity`."""
    with ExportWriter(path, opening, identity) as writer:
        for entry in entries:
            writer.entry(entry)
        writer.finish(ending)
    return path


def forge(path: Path, out: Path, identity: Identity, change: Change, *, resign: bool = True, status: str = "") -> Path:
    """The file after `change`, with digests, chain and (`resign`) own headers and numbers made to fit."""
    opening, entries, ending = frames_of(path)
    changed = change(entries)
    head = chain.genesis(opening.job, opening.party)
    fixed: list[Entry] = []
    sent = received = 0
    for position, before in enumerate(changed, start=1):
        received += before.kind == chain.RECEIVED
        digest = chain.event_digest(before.salt, before.event) if before.event else before.digest
        entry = msgspec.structs.replace(before, position=position, digest=digest)
        if entry.kind == chain.SENT and resign:
            sent += 1
            header = msgspec.structs.replace(read_header(entry.header), sequence=sent, previous=head, received=received)
            signed = sign_header(header, identity)
            entry = msgspec.structs.replace(entry, header=signed.header_bytes, signature=signed.signature)
        head = chain.next_head(head, chain.entry_digest(entry.kind, entry.header, entry.signature, entry.digest))
        fixed.append(msgspec.structs.replace(entry, head=head))
    ending = msgspec.structs.replace(ending, length=len(fixed), head=head, status=status or ending.status)
    return write(out, opening, fixed, ending, identity)


def without(position: int) -> Change:
    """Leave one entry out."""
    return lambda entries: [entry for entry in entries if entry.position != position]


def first(entries: list[Entry], kind: str, message: str = "") -> Entry:
    """The first entry of a kind, and of a kind of message."""
    return next(
        entry for entry in entries if entry.kind == kind and (not message or read_header(entry.header).kind == message)
    )
