"""Envelopes of this party: written, sealed and signed; opened and read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from messages import codec, schemas
from messages.envelope import (
    PROTOCOL_VERSION,
    Envelope,
    Header,
    check_routing,
    open_envelope,
    sign_header,
)
from messages.identity import Identity, PublicIdentity
from messages.keys import routing_key
from messages.seal import DEFAULT_SUITE, SealError, seal, seal_info, unseal
from protocol.effects import EVENT_BYTES_MAX
from services.store.limits import ENVELOPE_BYTES_MAX


class Unreadable(Exception):
    """A body whose sender signed it, and which cannot be read all the same. The text names no content."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unsendable(Exception):
    """A message of this party's machine that may not be sent: a fault of this program or its limits."""


@dataclass(frozen=True, slots=True)
class Written:
    """A message in the bytes that will travel, however often."""

    header: bytes
    signature: bytes
    body: bytes = field(repr=False)
    sha256: bytes = b""
    plain_sha256: bytes = b""


class Envelopes:
    """The one place that knows this party's keys and its partners'."""

    def __init__(self, identity: Identity, peers: Mapping[str, PublicIdentity]) -> None:
        self._identity = identity
        self._peers = dict(peers)
        self.party = identity.name

    @property
    def peers(self) -> Mapping[str, PublicIdentity]:
        """The partners this party knows, by name."""
        return self._peers

    def key(self, recipient: str, kind: str, job: str) -> str:
        """The routing key under which our message of a kind travels."""
        return routing_key(self.party, recipient, kind, job)

    def open(self, data: bytes, key: str) -> Envelope:
        """Check sender, recipient, version, size, signature, body digest and routing key.

        Raises:
            EnvelopeError: with the code of the first check that failed.

        """
        envelope = open_envelope(data, me=self.party, peers=self._peers, bytes_max=ENVELOPE_BYTES_MAX)
        check_routing(envelope.header, key)
        return envelope

    def write(
        self,
        job: str,
        recipient: str,
        message: schemas.Message,
        *,
        sequence: int = 0,
        received: int = 0,
        previous: bytes = bytes(32),
    ) -> Written:
        """Encode, seal and sign a control message. Raises Unsendable."""
        kind = codec.kind_of(message)
        if recipient not in self._peers:
            raise Unsendable(f"{kind} is for {recipient}, who is no peer of {self.party}")
        try:
            plain = codec.encode(message)
        except codec.CodecError as error:
            raise Unsendable(f"{kind} cannot be encoded ({error.code})") from None
        if len(plain) > EVENT_BYTES_MAX:
            raise Unsendable(f"{kind} would have {len(plain)} bytes, {EVENT_BYTES_MAX} at most")
        info = seal_info(PROTOCOL_VERSION, job, self.party, recipient, kind, 0, 1)
        body = seal(plain, self._peers[recipient], info)
        digest = hashlib.sha256(body).digest()
        header, signature = self.sign(
            job,
            recipient,
            kind,
            body_sha256=digest,
            sequence=sequence,
            received=received,
            previous=previous,
        )
        return Written(header, signature, body, digest, hashlib.sha256(plain).digest())

    def sign(
        self,
        job: str,
        recipient: str,
        kind: str,
        *,
        body_sha256: bytes,
        sequence: int,
        received: int,
        previous: bytes,
        chunk: int = 0,
        chunks: int = 1,
    ) -> tuple[bytes, bytes]:
        """Header bytes and signature of a message whose sealed body is known by digest."""
        signed = sign_header(
            Header(
                version=PROTOCOL_VERSION,
                job=job,
                sender=self.party,
                recipient=recipient,
                kind=kind,
                sequence=sequence,
                chunk=chunk,
                chunks=chunks,
                received=received,
                previous=previous,
                suite=DEFAULT_SUITE,
                body_sha256=body_sha256,
            ),
            self._identity,
        )
        return signed.header_bytes, signed.signature

    def read(self, header: Header, body: bytes) -> tuple[schemas.Message, bytes]:
        """A control message and its plaintext. Raises Unreadable."""
        where = f"{header.kind} (sequence {header.sequence}) from {header.sender}"
        info = seal_info(
            header.version, header.job, header.sender, header.recipient, header.kind, header.chunk, header.chunks
        )
        try:
            plain = unseal(body, self._identity, info, header.suite)
        except SealError:
            raise Unreadable("seal_broken", f"{where} cannot be opened with this party's key") from None
        if len(plain) > EVENT_BYTES_MAX:
            raise Unreadable("message_oversized", f"{where} has {len(plain)} bytes, {EVENT_BYTES_MAX} at most")
        try:
            message = codec.decode(plain)
        except codec.CodecError as error:
            raise Unreadable("message_malformed", f"{where} cannot be read ({error.code})") from None
        if codec.kind_of(message) != header.kind:
            raise Unreadable("message_malformed", f"{where} holds a {codec.kind_of(message)}")
        return message, plain
