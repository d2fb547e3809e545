"""Changes to an envelope that its sender signs again: a fuzzer alone would never get past a digest or a signature."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import msgpack

from messages import codec
from messages.codec import CodecError
from messages.identity import IdentityError
from messages.keys import AddressError, routing_key
from messages.seal import SUITES, SealError, seal, seal_info, unseal
from tests.fuzz.identities import ME, OTHER, PARTNER, STRANGER, identity
from tests.fuzz.samples import sample_messages
from tests.fuzz.values import changed_map

Plain = Callable[[bytes, int], bytes]
_DOMAIN = b"warren header 1\x00"
_BODY_BYTES_MAX = 4096


def split(data: bytes) -> tuple[str, bytes]:
    """Routing key, and the envelope behind it. A key that is no UTF-8 keeps its bytes, as lone surrogates."""
    size = data[0] if data else 0
    return data[1 : 1 + size].decode("utf-8", "surrogateescape"), data[1 + size :]


def joined(key: str, envelope: bytes) -> bytes:
    """The inverse of `split`, with the key cut to what AMQP can say."""
    raw = key.encode("utf-8", "surrogateescape")[:255]
    return bytes([len(raw)]) + raw + envelope


def changed(data: bytes, chance: Random, plain: Plain) -> bytes:
    """Another delivery near `data`, mostly with a good signature."""
    key, envelope = split(data)
    try:
        parts = msgpack.unpackb(envelope)
        fields = msgpack.unpackb(parts["header"])
        body = parts["body"]
        assert isinstance(fields, dict)
        assert isinstance(body, bytes)
    except Exception:
        return plain(data, _BODY_BYTES_MAX)
    pick = chance.randrange(12)
    if pick < 4:
        fields = changed_map(fields, chance)
    elif pick < 5:
        body = plain(body, _BODY_BYTES_MAX)
    elif pick < 9:
        fields, body = _resealed(fields, body, chance, plain)
    elif pick < 10:
        fields = {**fields, "sender": chance.choice((PARTNER, OTHER, STRANGER, ME))}
    elif pick < 11:
        return joined(plain(key.encode("utf-8", "surrogateescape"), 255).decode("utf-8", "surrogateescape"), envelope)
    else:
        return plain(data, len(data) + 64)
    if isinstance(fields.get("body_sha256"), bytes) and chance.randrange(16):
        fields["body_sha256"] = hashlib.sha256(body).digest()
    if chance.randrange(8):
        with suppress(AddressError, KeyError, TypeError):
            key = routing_key(fields["sender"], fields["recipient"], fields["kind"], fields["job"])
    return joined(key, signed(fields, body, chance) or envelope)


def signed(fields: dict[Any, Any], body: bytes, chance: Random) -> bytes | None:
    """An envelope whose header is any map, signed by whom it names (now and then by somebody else)."""
    try:
        header = msgpack.packb(fields)
    except (ValueError, TypeError, OverflowError):
        return None
    name = fields.get("sender") if chance.randrange(16) else STRANGER
    try:
        signature = identity(str(name)).sign(_DOMAIN + header)
    except (AddressError, IdentityError):
        signature = bytes(64)
    data: bytes = msgpack.packb({"header": header, "signature": signature, "body": body})
    return data


def _resealed(fields: dict[Any, Any], body: bytes, chance: Random, plain: Plain) -> tuple[dict[Any, Any], bytes]:
    """A changed message in a body that opens."""
    try:
        words = [fields[name] for name in ("version", "job", "sender", "recipient", "kind", "chunk", "chunks")]
        suite = fields["suite"] if fields["suite"] in SUITES else next(iter(SUITES))
        opened = unseal(body, identity(fields["recipient"]), seal_info(*words), suite)
    except Exception:
        opened = b""
    if not opened or chance.randrange(4) == 0:
        message = chance.choice(list(sample_messages()))
        opened, fields = codec.encode(message), {**fields, "kind": codec.kind_of(message)}
    try:
        message_fields = codec.unpack(opened)
        assert isinstance(message_fields, dict)
        changed_bytes = msgpack.packb(changed_map(message_fields, chance))
    except (CodecError, ValueError, TypeError, OverflowError, AssertionError):
        changed_bytes = plain(opened, _BODY_BYTES_MAX)
    if chance.randrange(3) == 0:
        fields = {**fields, "sequence": chance.randrange(5)}
    with suppress(Exception):
        words = [fields[name] for name in ("version", "job", "sender", "recipient", "kind", "chunk", "chunks")]
        body = seal(changed_bytes, identity(fields["recipient"]).public, seal_info(*words), suite_of(fields))
    return fields, body


def suite_of(fields: dict[Any, Any]) -> str:
    """The suite that a header names, if there is one of that name."""
    suite = fields.get("suite")
    if not isinstance(suite, str) or suite not in SUITES:
        raise SealError("no such suite")
    return suite
