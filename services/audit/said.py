"""What the machine says in a replay against what the journal has as sent: one line of messages for each partner."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

import msgspec

from messages import codec, schemas
from messages.envelope import Header, read_header
from protocol.effects import Send, SendBulk
from services.audit.export_file import UNREADABLE, Entry, printable
from services.engine.jobs import SentBody

UNDIGESTED: Final = "the digest of some control messages was not recorded: only their kinds were compared"


class Differs(Exception):
    """The first place where record and machine part."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(printable(f"entry {position}: {text}" if position else text))
        self.position = position
        self.text = text


class Said:
    """Takes the machine's words, gives them up to the entries that sent them. `partners`: the first one first.

    Control messages leave with the step that said them, to whomever in the order in which they were said. Bulk leaves
    when its partner has given credit: only among the chunks of one partner is there an order.
    """

    def __init__(self, partners: Sequence[str]) -> None:
        self._partners = tuple(partners)
        self._control: deque[tuple[str, schemas.Message]] = deque()
        self._bulk: defaultdict[str, deque[SendBulk]] = defaultdict(deque)
        self.controls = 0
        self.bulk = 0
        self.undigested = False

    def say(self, position: int, effect: Send | SendBulk) -> None:
        """An effect of the machine. Raises Differs for one that no journal would carry out."""
        recipient = effect.recipient or self._partners[0]
        if recipient not in self._partners:
            raise Differs(position, f"the machine says something to {recipient}, no party of the job")
        if isinstance(effect, Send):
            self._control.append((recipient, effect.message))
        else:
            self._bulk[recipient].append(effect)

    def say_all(self, message: schemas.Message, untold: Sequence[str]) -> None:
        """The engine's own word to every partner but some."""
        self._control += [(name, message) for name in self._partners if name not in untold]

    def forget_bulk(self) -> None:
        """The job is over: chunks without a sequence never get one."""
        self._bulk.clear()

    def silent(self, position: int) -> None:
        """None of the machine's words may be left when the entry after its step comes. Raises Differs."""
        if self._control:
            kind = codec.kind_of(self._control[0][1])
            raise Differs(position, f"before this entry the machine says {kind}, which was not sent")

    def sent(self, entry: Entry) -> None:
        """An entry that sent something. Raises Differs."""
        header = header_of(entry)
        if header.kind in schemas.BULK:
            self._sent_bulk(entry, header)
        else:
            self._sent_control(entry, header)

    def _sent_control(self, entry: Entry, header: Header) -> None:
        what = f"{header.kind} (sequence {header.sequence})"
        if not self._control:
            raise Differs(entry.position, f"{what} was sent, the machine says nothing")
        recipient, message = self._control.popleft()
        kind = codec.kind_of(message)
        if kind != header.kind:
            raise Differs(entry.position, f"{what} was sent, the machine says {kind}")
        if recipient != header.recipient:
            raise Differs(entry.position, f"{what} was sent to {header.recipient}, the machine says it to {recipient}")
        if not entry.event:
            self.undigested = True
        elif _plain_digest(entry) != hashlib.sha256(_encoded(entry, message)).digest():
            raise Differs(entry.position, f"{what} was sent with other content than the machine's")
        self.controls += 1

    def _sent_bulk(self, entry: Entry, header: Header) -> None:
        line = self._bulk[header.recipient]
        if not line:
            raise Differs(entry.position, f"{header.kind} (sequence {header.sequence}) was sent, the machine says none")
        effect = line.popleft()
        recorded = (header.kind, header.chunk, header.chunks)
        if recorded != (effect.kind, effect.chunk, effect.chunks):
            raise Differs(
                entry.position,
                f"{header.kind} chunk {header.chunk} of {header.chunks} was sent, the machine says "
                f"{effect.kind} chunk {effect.chunk} of {effect.chunks}",
            )
        if header.body_sha256 != effect.body.sha256:
            raise Differs(
                entry.position,
                f"{header.kind} chunk {header.chunk} (sequence {header.sequence}) was sent with another body than "
                "the one that was computed",
            )
        self.bulk += 1


def header_of(entry: Entry) -> Header:
    """The header of a message's entry. Raises Differs."""
    try:
        return read_header(entry.header)
    except ValueError:
        raise Differs(entry.position, f"the header of a {entry.kind} message cannot be read") from None


def _encoded(entry: Entry, message: schemas.Message) -> bytes:
    """What the machine says, in bytes. Its words are made of recorded outputs, which may be anything."""
    try:
        return codec.encode(message)
    except codec.CodecError as error:
        raise Differs(entry.position, f"the machine says what is no message: {error}") from None


def _plain_digest(entry: Entry) -> bytes:
    try:
        return msgspec.msgpack.decode(entry.event, type=SentBody).plain_sha256
    except UNREADABLE:
        raise Differs(entry.position, "the recorded digest of a sent message cannot be read") from None
