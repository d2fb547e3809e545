"""The envelope: a canonical msgpack map of header, signature and sealed body.

The signature is over the header bytes alone, which hold the digest of the body: a message stays provable after
its body is gone, and a large body costs no signature time.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from messages.codec import CodecError, pack, unpack
from messages.identity import Identity, PublicIdentity
from messages.keys import NAME, AddressError, parse_routing_key, shown
from messages.schemas import Count, Digest, Name
from messages.seal import DEFAULT_SUITE

PROTOCOL_VERSION: Final = 1
HEADER_BYTES_MAX: Final = 2048
SIGNATURE_BYTES: Final = 64
ENVELOPE_OVERHEAD_BYTES: Final = HEADER_BYTES_MAX + SIGNATURE_BYTES + 64
_DOMAIN: Final = b"warren header 1\x00"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What everybody on the way may read. `sequence` 0: not numbered (receipts, probes).

    `received`: highest sequence of the recipient's messages of this job that the sender has journalled.
    `previous`: head of the sender's journal chain for this job.
    """

    version: Annotated[int, Meta(ge=0, le=65_535)]
    job: Name
    sender: Name
    recipient: Name
    kind: Annotated[str, Meta(pattern=r"^[a-z.]{1,40}\Z")]
    sequence: Count
    chunk: Count
    chunks: Annotated[int, Meta(ge=1, le=2**32)]
    received: Count
    previous: Digest
    suite: Annotated[str, Meta(max_length=80)]
    body_sha256: Digest


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header in the bytes that were signed."""

    header_bytes: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A checked envelope."""

    header: Header
    header_bytes: bytes
    signature: bytes
    body: bytes


class EnvelopeError(ValueError):
    """An envelope that is not applied. `code` says why; `sender` only when the header could be read (not proven).

    Codes: oversized, malformed, unknown_version, unknown_suite, unknown_sender, wrong_recipient, bad_signature,
    body_mismatch, wrong_key.
    """

    def __init__(self, code: str, reason: str, *, sender: str | None = None, header_bytes: bytes | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.sender = sender
        self.header_bytes = header_bytes


def sign_header(header: Header, identity: Identity) -> SignedHeader:
    """Encode and sign. Raises ValueError for a header that breaks its own schema."""
    plain = msgspec.to_builtins(header, builtin_types=(bytes,))
    msgspec.convert(plain, Header, strict=True, builtin_types=(bytes,))
    header_bytes = pack(plain)
    return SignedHeader(header_bytes, identity.sign(_DOMAIN + header_bytes))


def header_signed_by(sender: PublicIdentity, header_bytes: bytes, signature: bytes) -> bool:
    """Whether `signature` is the sender's over these header bytes: what an audit asks long after the body is gone."""
    return sender.verify(signature, _DOMAIN + header_bytes)


def assemble(header_bytes: bytes, signature: bytes, body: bytes) -> bytes:
    """The envelope's bytes."""
    return pack({"header": header_bytes, "signature": signature, "body": body})


def read_header(header_bytes: bytes) -> Header:
    """A header, signature not checked. Raises ValueError (CodecError or msgspec.ValidationError)."""
    return _header_of(unpack(header_bytes, bytes_max=HEADER_BYTES_MAX), header_bytes)


def _header_of(plain: Any, header_bytes: bytes) -> Header:
    """The header of `plain`, whose one and only spelling is `header_bytes`. Raises ValueError."""
    header: Header = msgspec.convert(plain, Header, strict=True, builtin_types=(bytes,))
    if pack(msgspec.to_builtins(header, builtin_types=(bytes,))) != header_bytes:
        raise CodecError("malformed", "the header is not in canonical form")
    return header


def open_envelope(
    data: bytes,
    *,
    me: str,
    peers: Mapping[str, PublicIdentity],
    bytes_max: int = 2**20 + 2**16,
    suites: Collection[str] = (DEFAULT_SUITE,),
) -> Envelope:
    """Check everything that can be checked without opening the body. Raises EnvelopeError with the first failure.

    `suites` are those that this party lets others seal with: the hybrid one alone, unless it says otherwise.
    """
    if len(data) > bytes_max:
        raise EnvelopeError("oversized", f"{len(data)} bytes, {bytes_max} at most")
    try:
        parts = unpack(data, bytes_max=bytes_max, items_max=0)
    except CodecError as error:
        raise EnvelopeError("malformed", f"no envelope: {error}") from None
    if (
        not isinstance(parts, dict)
        or list(parts) != ["header", "signature", "body"]
        or not all(isinstance(part, bytes) for part in parts.values())
        or len(parts["signature"]) != SIGNATURE_BYTES
    ):
        raise EnvelopeError("malformed", "no envelope: header, signature and body are needed")
    header_bytes, signature, body = parts["header"], parts["signature"], parts["body"]
    header = _checked_header(header_bytes, me=me, peers=peers, suites=suites)
    failure: tuple[str, str] | None = None
    if not header_signed_by(peers[header.sender], header_bytes, signature):
        failure = ("bad_signature", f"the signature is not {header.sender}'s")
    elif hashlib.sha256(body).digest() != header.body_sha256:
        failure = ("body_mismatch", "the body is not the one that was signed for")
    if failure:
        raise EnvelopeError(*failure, sender=header.sender, header_bytes=header_bytes)
    return Envelope(header, header_bytes, signature, body)


def _checked_header(
    header_bytes: bytes, *, me: str, peers: Mapping[str, PublicIdentity], suites: Collection[str]
) -> Header:
    claimed: str | None = None
    try:
        plain = unpack(header_bytes, bytes_max=HEADER_BYTES_MAX)
        # A header of another version may have other fields: only its version and its sender are asked for.
        version = plain.get("version") if isinstance(plain, dict) else None
        claimed = _claimed_sender(plain)
        if isinstance(version, int) and version != PROTOCOL_VERSION:
            raise EnvelopeError(
                "unknown_version",
                f"protocol version {version}, this software speaks {PROTOCOL_VERSION}",
                sender=claimed,
                header_bytes=header_bytes,
            )
        header = _header_of(plain, header_bytes)
    except (CodecError, msgspec.ValidationError):
        raise EnvelopeError(
            "malformed", "the header cannot be read", sender=claimed, header_bytes=header_bytes
        ) from None
    checks = (
        (header.suite not in suites, "unknown_suite", f"suite {shown(header.suite, 80)} is not accepted"),
        (header.recipient != me, "wrong_recipient", f"addressed to {header.recipient}"),
        (header.sender not in peers, "unknown_sender", f"{header.sender} is no peer"),
    )
    for failed, code, reason in checks:
        if failed:
            raise EnvelopeError(code, reason, sender=header.sender, header_bytes=header_bytes)
    return header


def _claimed_sender(plain: Any) -> str | None:
    sender = plain.get("sender") if isinstance(plain, dict) else None
    return sender if isinstance(sender, str) and NAME.fullmatch(sender) else None


def check_routing(header: Header, routing_key: str) -> None:
    """The routing key must say what the header says. Raises EnvelopeError `wrong_key`."""
    try:
        key = parse_routing_key(routing_key)
    except AddressError as error:
        raise EnvelopeError("wrong_key", str(error), sender=header.sender) from None
    if (key.sender, key.recipient, key.job, key.kind) != (
        header.sender,
        header.recipient,
        header.job,
        header.kind,
    ):
        raise EnvelopeError("wrong_key", "the routing key names another message than the header", sender=header.sender)
