"""Deliveries: routing key, envelope, header, signature, seal.

An input is a byte of options, then the routing key with one byte of length before it, then the envelope.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

import msgpack

from messages import codec
from messages.codec import CodecError, unpack
from messages.envelope import (
    Envelope,
    EnvelopeError,
    Header,
    assemble,
    check_routing,
    open_envelope,
    read_header,
    sign_header,
)
from messages.keys import (
    AddressError,
    check_kind,
    check_name,
    from_mqtt,
    parse_routing_key,
    routing_key,
    status_key,
    to_mqtt,
)
from messages.seal import CLASSICAL_SUITE, DEFAULT_SUITE, SUITES, SealError, seal, seal_info, unseal
from tests.fuzz import resigning
from tests.fuzz.identities import ME, OTHER, PARTNER, STRANGER, identity, peers
from tests.fuzz.oracle import MSGPACK_ERRORS, bounded_memory, check_text
from tests.fuzz.samples import delivery, envelope, sample_messages

MODULES: Final = ("messages/envelope.py", "messages/keys.py", "messages/seal.py")
HELD: Final = True
INPUT_BYTES_MAX: Final = 16_384

SMALL_BYTES_MAX: Final = 512
CODES: Final = {
    "oversized", "malformed", "unknown_version", "unknown_suite", "unknown_sender", "wrong_recipient",
    "bad_signature", "body_mismatch", "wrong_key",
}  # fmt: skip
_SOURCES: Final = (*MODULES, "messages/codec.py", "messages/schemas.py", "messages/unsequenced.py")


def seeds() -> Iterator[bytes]:
    for message in sample_messages():
        kind = codec.kind_of(message)
        yield b"\x00" + delivery(envelope(message), kind)
    cancel = next(message for message in sample_messages() if codec.kind_of(message) == "job.cancel")
    yield b"\x02" + delivery(envelope(cancel, suite=CLASSICAL_SUITE), "job.cancel")
    yield b"\x00" + delivery(envelope(cancel, sender=STRANGER), "job.cancel", sender=STRANGER)
    yield b"\x00" + delivery(envelope(cancel, signer=OTHER), "job.cancel")
    yield b"\x00" + delivery(envelope(cancel, recipient=OTHER), "job.cancel", recipient=OTHER)
    yield b"\x00" + delivery(envelope(cancel), "job.failed")
    yield b"\x00" + delivery(envelope(cancel, body_sha256=bytes(32)), "job.cancel")
    yield b"\x01" + delivery(envelope(cancel), "job.cancel")


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    if not data or chance.randrange(6) == 0:
        return plain(data, size_max)
    options = bytes([chance.randrange(4)]) if chance.randrange(8) == 0 else data[:1]
    return (options + resigning.changed(data[1:], chance, plain))[:size_max]


def fuzz_one(data: bytes) -> None:
    options, (key, body) = data[0] if data else 0, resigning.split(data[1:])
    bytes_max = SMALL_BYTES_MAX if options & 1 else 2**20 + 2**16
    suites = (DEFAULT_SUITE, CLASSICAL_SUITE) if options & 2 else (DEFAULT_SUITE,)
    with bounded_memory():
        _address(key)
        _suite(key)
        _sign_unchecked(body)
        try:
            opened = open_envelope(body, me=ME, peers=peers(), bytes_max=bytes_max, suites=suites)
        except EnvelopeError as error:
            _check(error, body)
            return
        _accepted(opened, body, key)


def _accepted(opened: Envelope, body: bytes, key: str) -> None:
    header = opened.header
    assert assemble(opened.header_bytes, opened.signature, opened.body) == body
    assert read_header(opened.header_bytes) == header
    assert hashlib.sha256(opened.body).digest() == header.body_sha256
    assert header.recipient == ME
    # Ed25519 gives one signature for one text: whoever signed, it was the sender.
    signed = sign_header(header, identity(header.sender))
    assert (signed.header_bytes, signed.signature) == (opened.header_bytes, opened.signature)
    try:
        check_routing(header, key)
    except EnvelopeError as error:
        assert error.code == "wrong_key"
        _check(error, body, key)
    else:
        assert key == routing_key(header.sender, header.recipient, header.kind, header.job)
    words = (header.version, header.job, header.sender, header.recipient, header.kind, header.chunk, header.chunks)
    try:
        plain = unseal(opened.body, identity(ME), seal_info(*words), header.suite)
    except SealError as error:
        check_text(str(error), modules=_SOURCES, chars_max=300)
        return
    with suppress(CodecError):
        assert codec.encode(codec.decode(plain)) == plain
    again = seal(plain, identity(ME).public, seal_info(*words), header.suite)
    assert again != opened.body
    assert unseal(again, identity(ME), seal_info(*words), header.suite) == plain
    other = seal_info(*words[:6], header.chunks + 1)
    try:
        unseal(opened.body, identity(ME), other, header.suite)
    except SealError:
        return
    raise AssertionError("a body opens as another chunk")


def _address(key: str) -> None:
    """A text is refused, or is the address of its parts and nothing else."""
    for read in (check_name, check_kind):
        try:
            assert read(key) == key
        except AddressError as error:
            check_text(str(error), modules=_SOURCES, names=(key,), chars_max=400)
    try:
        parts = parse_routing_key(key)
    except AddressError as error:
        check_text(str(error), modules=_SOURCES, names=_pieces(key), chars_max=400)
    else:
        assert routing_key(parts.sender, parts.recipient, parts.kind, parts.job) == key
        assert from_mqtt(to_mqtt(key)) == key
        assert status_key(parts.sender, parts.job) == f"status.{parts.sender}.{parts.job}"
    for there, back in ((to_mqtt, from_mqtt), (from_mqtt, to_mqtt)):
        try:
            assert back(there(key)) == key
        except AddressError as error:
            check_text(str(error), modules=_SOURCES, names=(key,), chars_max=400)
    words = key.split(".")
    for build in (
        lambda: routing_key(words[0], PARTNER, "receipt", words[-1]),
        lambda: status_key(words[0], words[-1]),
    ):
        with suppress(AddressError):
            assert words[0] in build()


def _suite(name: str) -> None:
    """No suite but ours, whatever it is called."""
    if name not in SUITES:
        try:
            unseal(b"", identity(ME), b"", name)
        except SealError as error:
            check_text(str(error), modules=_SOURCES, names=(name,), chars_max=300)
            return
        raise AssertionError("a suite that nobody knows")


def _pieces(key: str) -> list[str]:
    words = key.split(".", 6)
    return [key, *words, key[:200]]


def _sign_unchecked(body: bytes) -> None:
    """A header that breaks its own schema is not signed; one that does not is read as it was."""
    fields: Any = None
    with suppress(CodecError, KeyError, TypeError):
        fields = unpack(unpack(body)["header"])
    if not isinstance(fields, dict) or set(fields) != set(Header.__struct_fields__):
        return
    header = Header(**fields)
    try:
        signed = sign_header(header, identity(PARTNER))
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert read_header(signed.header_bytes) == header


def _check(error: EnvelopeError, body: bytes, key: str = "") -> None:
    assert error.code in CODES
    assert error.sender is None or check_name(error.sender) == error.sender
    names = [ME, PARTNER, *MSGPACK_ERRORS, *_pieces(key)]
    with suppress(Exception):
        fields = msgpack.unpackb(msgpack.unpackb(body)["header"])
        names += [str(value) for value in fields.values() if isinstance(value, str | int)]
    check_text(str(error), modules=_SOURCES, names=names, chars_max=400)
