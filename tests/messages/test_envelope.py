"""Envelope, seal and identity: who said it, to whom, about what, and that nobody touched it."""

import hashlib
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from messages.codec import pack, unpack
from messages.envelope import (
    Envelope,
    EnvelopeError,
    Header,
    assemble,
    check_routing,
    open_envelope,
    sign_header,
)
from messages.identity import Identity, IdentityError, PublicIdentity
from messages.keys import AddressError, Traffic, from_mqtt, parse_routing_key, routing_key, to_mqtt
from messages.schemas import BULK
from messages.seal import DEFAULT_SUITE, OVERHEAD_BYTES, SealError, seal, seal_info, unseal
from messages.streams import Stream, StreamError, accept, chunk_count, rows_per_chunk

NAMES = st.from_regex(r"\A[a-z0-9-]{1,40}\Z")
BODY = b"sealed body"


@cache
def identity(name: str) -> Identity:
    """One identity per name and run."""
    return Identity.generate(name)


def header(**changes: object) -> Header:
    """A good header, with changes."""
    fields: dict[str, object] = {
        "version": 1,
        "job": "job-1",
        "sender": "business-a",
        "recipient": "provider-a",
        "kind": "link.terms",
        "sequence": 7,
        "chunk": 2,
        "chunks": 5,
        "received": 3,
        "previous": bytes(32),
        "suite": DEFAULT_SUITE,
        "body_sha256": hashlib.sha256(BODY).digest(),
    }
    return Header(**{**fields, **changes})  # type: ignore[arg-type]


def envelope(signer: str = "business-a", body: bytes = BODY, **changes: object) -> bytes:
    """The bytes of an envelope."""
    signed = sign_header(header(**changes), identity(signer))
    return assemble(signed.header_bytes, signed.signature, body)


def opened(data: bytes, me: str = "provider-a") -> Envelope:
    """What the provider makes of it."""
    return open_envelope(data, me=me, peers={"business-a": identity("business-a").public})


def code_of(data: bytes) -> str:
    """The code with which an envelope is refused."""
    with pytest.raises(EnvelopeError) as caught:
        opened(data)
    return caught.value.code


def test_a_good_envelope_opens() -> None:
    result = opened(envelope())
    assert result.header == header()
    assert result.body == BODY


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_changed_byte_goes_unnoticed(position: int, change: int) -> None:
    data = bytearray(envelope())
    data[position % len(data)] ^= change
    assert code_of(bytes(data))


@pytest.mark.parametrize(
    ("part", "code"), [("header", None), ("signature", "bad_signature"), ("body", "body_mismatch")]
)
def test_a_flipped_byte_is_refused_with_the_code_of_its_part(part: str, code: str | None) -> None:
    parts = unpack(envelope())
    for position in range(len(parts[part])):
        changed = bytearray(parts[part])
        changed[position] ^= 1
        found = code_of(pack({**parts, part: bytes(changed)}))
        assert code is None or found == code


@given(st.integers(min_value=0, max_value=500))
def test_a_truncated_envelope_is_malformed(length: int) -> None:
    data = envelope()
    assert code_of(data[: length % len(data)]) == "malformed"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: envelope(version=2), "unknown_version"),
        (lambda: envelope(suite="X25519-ROT13"), "unknown_suite"),
        (lambda: envelope(recipient="provider-b"), "wrong_recipient"),
        (lambda: envelope(sender="stranger", signer="stranger"), "unknown_sender"),
        (lambda: envelope(signer="stranger"), "bad_signature"),
        (lambda: envelope(body=b"another body"), "body_mismatch"),
        (lambda: envelope(body=b"x" * 2**21), "oversized"),
        (lambda: b"", "malformed"),
        (lambda: pack({"header": b"", "signature": bytes(64), "body": b"", "more": 1}), "malformed"),
    ],
)
def test_every_refusal_has_its_own_code(data: object, code: str) -> None:
    assert code_of(data()) == code  # type: ignore[operator]


def test_the_routing_key_must_say_what_the_header_says() -> None:
    good = routing_key("business-a", "provider-a", "link.terms", "job-1")
    check_routing(header(), good)
    for key in (good.replace("job-1", "job-2"), good.replace("business-a", "business-b"), "nonsense", good + ".x"):
        with pytest.raises(EnvelopeError) as caught:
            check_routing(header(), key)
        assert caught.value.code == "wrong_key"


@given(st.binary(max_size=2000), NAMES, st.integers(min_value=0, max_value=9))
def test_a_body_opens_for_its_recipient_and_its_message_only(body: bytes, job: str, chunk: int) -> None:
    alice, bob = identity("business-a"), identity("provider-a")
    info = seal_info(1, job, "business-a", "provider-a", "link.terms", chunk, 10)
    sealed = seal(body, bob.public, info)
    assert len(sealed) == len(body) + OVERHEAD_BYTES
    assert unseal(sealed, bob, info) == body
    for other in (
        seal_info(1, job, "business-a", "provider-a", "link.terms", chunk + 1, 10),
        seal_info(1, job + "x", "business-a", "provider-a", "link.terms", chunk, 10),
        seal_info(2, job, "business-a", "provider-a", "link.terms", chunk, 10),
        seal_info(1, job, "provider-a", "business-a", "link.terms", chunk, 10),
    ):
        with pytest.raises(SealError):
            unseal(sealed, bob, other)
    with pytest.raises(SealError):
        unseal(sealed, alice, info)
    with pytest.raises(SealError):
        unseal(sealed[:-1], bob, info)


def test_two_messages_never_share_their_info() -> None:
    assert seal_info(1, "a", "bc", "d", "k", 0, 1) != seal_info(1, "ab", "c", "d", "k", 0, 1)


def test_signatures_are_those_of_rfc_8032() -> None:
    # RFC 8032, section 7.1, test 2.
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    expected = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert Ed25519PrivateKey.from_private_bytes(secret).sign(b"\x72") == expected


def test_identity_files_survive_and_show_nothing() -> None:
    mine = identity("business-a")
    again = Identity.from_bytes(mine.to_bytes())
    assert again.public == mine.public
    assert PublicIdentity.from_json(mine.public.to_json()) == mine.public
    assert repr(mine) == "Identity('business-a')"
    assert mine.public.fingerprint != identity("provider-a").public.fingerprint
    with pytest.raises(TypeError):
        mine.__reduce__()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"name": "business-a"', '"name": "Business A"', "name"),
        ('"format": "warren identity 1"', '"format": "warren identity 9"', "format"),
        ('"kind": "public"', '"kind": "private"', "kind"),
        ('"sign": "', '"sign": "!', "sign"),
        ('"receive_x25519": "', '"receive_x25519": "AAAA', "receive_x25519"),
        ('"receive_mlkem768"', '"receive_mlkem"', "receive_mlkem768"),
    ],
)
def test_a_damaged_identity_file_is_refused_by_field(old: str, new: str, field: str) -> None:
    text = identity("business-a").public.to_json()
    assert old in text
    with pytest.raises(IdentityError, match=field):
        PublicIdentity.from_json(text.replace(old, new, 1))


@given(NAMES, NAMES, NAMES, st.sampled_from(["link.terms", "job.propose", "receipt", "residual.share"]))
def test_routing_keys_survive_parsing_and_mqtt(sender: str, recipient: str, job: str, kind: str) -> None:
    key = routing_key(sender, recipient, kind, job)
    parsed = parse_routing_key(key)
    assert parsed == (sender, recipient, Traffic.BULK if kind in BULK else Traffic.CONTROL, job, kind)
    assert from_mqtt(to_mqtt(key)) == key


@given(st.text(max_size=60))
def test_a_name_that_is_none_cannot_become_an_address(name: str) -> None:
    if parse_safe := all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name) and 1 <= len(name) <= 40:
        assert routing_key(name, "b", "receipt", "j")
    else:
        assert not parse_safe
        with pytest.raises(AddressError):
            routing_key(name, "b", "receipt", "j")


def test_chunks_come_one_by_one_and_once() -> None:
    stream = Stream()
    for chunk in range(3):
        stream = accept(stream, chunk, 3)
    assert stream.complete
    for chunk, chunks in ((0, 3), (2, 3), (3, 3), (1, 4), (0, 0)):
        with pytest.raises(StreamError):
            accept(Stream(chunks=3, next=1) if (chunk, chunks) != (1, 3) else stream, chunk, chunks)


@given(st.integers(1, 10**6), st.integers(1, 5000), st.integers(1, 60))
def test_rows_are_cut_into_chunks_that_fit(rows: int, bytes_per_row: int, multiple: int) -> None:
    per_chunk = rows_per_chunk(bytes_per_row, multiple)
    assert per_chunk % multiple == 0
    assert per_chunk * bytes_per_row <= 2**20
    assert (chunk_count(rows, per_chunk) - 1) * per_chunk < rows <= chunk_count(rows, per_chunk) * per_chunk


def test_rows_that_fit_no_chunk_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        rows_per_chunk(2**20, 2)
