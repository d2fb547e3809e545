"""The export file: frames of canonical msgpack, each behind its length, signed at the end (docs/audit.md).

Written and read as a stream, with one frame in memory. Nothing in a file is trusted: every frame is bounded, has
one spelling only and is checked against its schema before it is looked at.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, Self

import msgspec
from msgspec import Meta

from messages.codec import CodecError, pack, unpack
from messages.envelope import HEADER_BYTES_MAX
from messages.identity import Identity, PublicIdentity
from messages.schemas import Digest, Name
from services.store.limits import PARTNERS_PER_JOB_MAX

MAGIC: Final = b"warren export 1\n"
FRAME_BYTES_MAX: Final = 2**18
ENTRIES_MAX: Final = 2**22
PARTNER: Final = "partner"
AUDITOR: Final = "auditor"
Audience = Literal["partner", "auditor"]

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that nobody vouches for: its own errors, Python's for text, and for deep nesting."""

_SAID_MAX: Final = 2000
_LENGTH: Final = struct.Struct(">I")
_DOMAIN: Final = b"warren export signature 1\x00"
_Place = Annotated[int, Meta(ge=0, le=2**48)]
_Text = Annotated[str, Meta(max_length=4096)]


def printable(text: str) -> str:
    """A text with words of a file in it, fit for a terminal and a log."""
    cut = text if len(text) <= _SAID_MAX else f"{text[:_SAID_MAX]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


class ExportError(ValueError):
    """A file that cannot be read as an export. `offset`: the byte at which the unreadable frame begins."""

    def __init__(self, offset: int, reason: str) -> None:
        self.offset = offset
        self.reason = printable(reason)
        super().__init__(f"byte {offset}: {self.reason}")


class Frame(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="frame"
):
    """Base of the frames."""


class Opening(Frame, frozen=True, kw_only=True, tag="export"):
    """The first frame: whose journal, of which job. Identities are public identity files; times since 1970."""

    audience: Audience
    job: Name
    party: Name
    partner: Name
    role: Name
    logic_version: _Place
    party_identity: Annotated[str, Meta(max_length=16_384)]
    partner_identity: Annotated[str, Meta(max_length=16_384)]
    contract: Annotated[bytes, Meta(max_length=65_536)]
    software: Annotated[str, Meta(max_length=40)]
    exported_at: _Place


class FurtherPartner(Frame, frozen=True, kw_only=True, tag="partner"):
    """After the opening, in the order of the contract: a partner beside the opening's, in a job of several."""

    name: Name
    identity: Annotated[str, Meta(max_length=16_384)]


class Entry(Frame, frozen=True, kw_only=True, tag="entry"):
    """An entry of the hash chain. `digest`: salted digest of its event. Only an auditor gets salt, event and time."""

    position: _Place
    kind: Literal["received", "sent", "computed", "decided", "deadline", "fault"]
    header: Annotated[bytes, Meta(max_length=HEADER_BYTES_MAX)] = b""
    signature: Annotated[bytes, Meta(max_length=64)] = b""
    digest: Digest
    head: Digest
    salt: Annotated[bytes, Meta(max_length=64)] = b""
    event: Annotated[bytes, Meta(max_length=FRAME_BYTES_MAX)] = b""
    at: float = 0.0


class Ending(Frame, frozen=True, kw_only=True, tag="end"):
    """What the journal says of the job after its last entry. Only an auditor gets outcome, reason and results.

    `results` is msgpack of the `BlobRef`s of parameters and history.
    """

    length: _Place
    head: Digest
    status: Literal["running", "finished", "frozen"]
    outcome: Annotated[str, Meta(max_length=20)] = ""
    reason_code: Annotated[str, Meta(max_length=64)] = ""
    reason: _Text = ""
    results: Annotated[bytes, Meta(max_length=4096)] = b""


class Seal(Frame, frozen=True, kw_only=True, tag="signature"):
    """The last frame: the party's Ed25519 signature over the digest of all bytes before this frame."""

    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


AnyFrame = Opening | FurtherPartner | Entry | Ending | Seal
_ANY: Final[Any] = AnyFrame


def encode_frame(frame: AnyFrame) -> bytes:
    """A frame with its length before it."""
    data = pack(msgspec.to_builtins(frame, builtin_types=(bytes,)))
    if len(data) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(data)} bytes, {FRAME_BYTES_MAX} at most")
    return _LENGTH.pack(len(data)) + data


def decode_frame(data: bytes, offset: int) -> AnyFrame:
    """The frame in `data`, in its one spelling. Raises ExportError."""
    try:
        # No list is in any frame: not even an empty one gets in.
        plain = unpack(data, bytes_max=FRAME_BYTES_MAX, items_max=0)
        frame: AnyFrame = msgspec.convert(plain, _ANY, strict=True, builtin_types=(bytes,))
    except (CodecError, msgspec.ValidationError) as error:
        raise ExportError(offset, f"no frame of an export: {error}") from None
    if pack(msgspec.to_builtins(frame, builtin_types=(bytes,))) != data:
        raise ExportError(offset, "a frame in another spelling than its own")
    return frame


def signature_holds(party: PublicIdentity, signature: bytes, digest: bytes) -> bool:
    """Whether `party` signed the bytes of an export that have this SHA-256."""
    return party.verify(signature, _DOMAIN + digest)


class ExportWriter:
    """Writes a new file, durable and of mode 0600 once it is closed well. Raises FileExistsError."""

    def __init__(
        self, path: Path, opening: Opening, identity: Identity, further: Sequence[FurtherPartner] = ()
    ) -> None:
        self._path = path
        self._fresh = path.with_name(f".{path.name}.new")
        if path.exists():
            raise FileExistsError(17, "exists already and is not overwritten", str(path))
        self._fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._fresh, flags, 0o600), "wb")
        self._digest = hashlib.sha256()
        self._identity = identity
        self._write(MAGIC)
        self._write(encode_frame(opening))
        for frame in further:
            self._write(encode_frame(frame))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def entry(self, entry: Entry) -> None:
        """Append an entry."""
        self._write(encode_frame(entry))

    def finish(self, ending: Ending) -> None:
        """Append the end and the signature, and give the file its name."""
        self._write(encode_frame(ending))
        signature = self._identity.sign(_DOMAIN + self._digest.digest())
        self._file.write(encode_frame(Seal(signature=signature)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.link(self._fresh, self._path)  # fails where a file of that name has come meanwhile
        self._fresh.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._fresh.unlink(missing_ok=True)


class ExportReader:
    """Reads a file frame by frame. `opening` and `further` are there at once.

    `signed` is the digest of all bytes before the newest frame: the one that the signature is over.
    """

    def __init__(self, path: Path) -> None:
        """Open a file. Raises ExportError, OSError."""
        self._file: BinaryIO = path.open("rb")
        self._digest = hashlib.sha256()
        self.signed = b""
        self.offset = 0
        try:
            self._read_magic()
            frame = self._next()
            if not isinstance(frame, Opening):
                raise ExportError(len(MAGIC), "the first frame does not say whose export this is")
        except BaseException:
            self._file.close()
            raise
        self.opening = frame
        self.further: tuple[FurtherPartner, ...] = ()
        self._waiting: AnyFrame | None = None
        try:
            while isinstance(found := self._next(), FurtherPartner):
                self.further = (*self.further, found)
                if len(self.further) >= PARTNERS_PER_JOB_MAX:
                    raise ExportError(self.offset, f"more than {PARTNERS_PER_JOB_MAX} partners")
        except BaseException:
            self._file.close()
            raise
        self._waiting = found

    def _read_magic(self) -> None:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise ExportError(0, f"no export: it does not begin with {MAGIC.decode().strip()!r}")
        self._digest.update(MAGIC)
        self.offset = len(MAGIC)

    def _next(self) -> AnyFrame | None:
        start = self.offset
        head = self._file.read(_LENGTH.size)
        if not head:
            return None
        if len(head) < _LENGTH.size:
            raise ExportError(start, "the file ends within a frame")
        (size,) = _LENGTH.unpack(head)
        if size > FRAME_BYTES_MAX:
            raise ExportError(start, f"a frame of {size} bytes, {FRAME_BYTES_MAX} at most")
        data = self._file.read(size)
        if len(data) < size:
            raise ExportError(start, "the file ends within a frame")
        self.signed = self._digest.digest()
        self._digest.update(head + data)
        self.offset = start + _LENGTH.size + size
        return decode_frame(data, start)

    def _taken(self) -> AnyFrame | None:
        """The frame that was read to see that it is no partner's, and then the ones after it."""
        frame, self._waiting = self._waiting, None
        return self._next() if frame is None else frame

    def frames(self) -> Iterator[AnyFrame]:
        """The frames after the opening, to the end of the file. Raises ExportError."""
        entries = 0
        while (frame := self._taken()) is not None:
            entries += isinstance(frame, Entry)
            if entries > ENTRIES_MAX:
                raise ExportError(self.offset, f"more than {ENTRIES_MAX} entries")
            yield frame

    def entries(self) -> Iterator[Entry]:
        """The entries alone. Raises ExportError."""
        for frame in self.frames():
            if isinstance(frame, Entry):
                yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
