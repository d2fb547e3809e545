"""The envelope: who said it, to whom, about what, and that nobody touched it."""

import hashlib
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.codec import pack, unpack
from messages.envelope import (
    ENVELOPE_OVERHEAD_BYTES,
    HEADER_BYTES_MAX,
    PROTOCOL_VERSION,
    Envelope,
    EnvelopeError,
    Header,
    assemble,
    check_routing,
    open_envelope,
    read_header,
    sign_header,
)
from messages.identity import Identity, PublicIdentity
from messages.keys import routing_key
from messages.seal import CLASSICAL_SUITE, DEFAULT_SUITE, SUITES, seal, seal_info, unseal

NAMES = st.from_regex(r"\A[a-z0-9-]{1,40}\Z")
COUNT = st.integers(min_value=0, max_value=2**48)
BODY = b"sealed body"
CODES = {
    "oversized",
    "malformed",
    "unknown_version",
    "unknown_suite",
    "unknown_sender",
    "wrong_recipient",
    "bad_signature",
    "body_mismatch",
    "wrong_key",
}
HEADERS = st.builds(
    Header,
    version=st.just(PROTOCOL_VERSION),
    job=NAMES,
    sender=st.just("business-a"),
    recipient=st.just("provider-a"),
    kind=st.sampled_from(["link.terms", "job.propose", "receipt"]),
    sequence=COUNT,
    chunk=COUNT,
    chunks=st.integers(min_value=1, max_value=2**32),
    received=COUNT,
    previous=st.binary(min_size=32, max_size=32),
    suite=st.just(DEFAULT_SUITE),
    body_sha256=st.just(hashlib.sha256(BODY).digest()),
)


@cache
def identity(name: str) -> Identity:
    """One identity per name and run."""
    return Identity.generate(name)


def peers() -> dict[str, PublicIdentity]:
    """Whom the provider knows."""
    return {name: identity(name).public for name in ("business-a", "business-b")}


def header(**changes: Any) -> Header:
    """A good header, with changes."""
    fields: dict[str, Any] = {
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
    return Header(**{**fields, **changes})


def envelope(signer: str = "business-a", body: bytes = BODY, **changes: Any) -> bytes:
    """The bytes of an envelope."""
    signed = sign_header(header(**changes), identity(signer))
    return assemble(signed.header_bytes, signed.signature, body)


def with_header(fields: object, signer: str = "business-a") -> bytes:
    """An envelope whose header is any value, correctly signed."""
    header_bytes = msgpack.packb(fields)
    return assemble(header_bytes, identity(signer).sign(b"warren header 1\x00" + header_bytes), BODY)


def good_fields() -> dict[str, Any]:
    """The good header as a map."""
    fields: dict[str, Any] = unpack(sign_header(header(), identity("business-a")).header_bytes)
    return fields


def opened(data: bytes) -> Envelope:
    """What the provider makes of it."""
    return open_envelope(data, me="provider-a", peers=peers())


def refused(data: bytes) -> EnvelopeError:
    """The error with which an envelope is refused."""
    with pytest.raises(EnvelopeError) as caught:
        opened(data)
    assert caught.value.code in CODES
    return caught.value


@given(HEADERS)
def test_any_good_envelope_opens_to_what_was_sent(sent: Header) -> None:
    signed = sign_header(sent, identity("business-a"))
    result = opened(assemble(signed.header_bytes, signed.signature, BODY))
    assert result == Envelope(sent, signed.header_bytes, signed.signature, BODY)
    assert read_header(signed.header_bytes) == sent
    assert sign_header(result.header, identity("business-a")) == signed


def test_the_bytes_on_the_wire_never_change() -> None:
    # Two parties of different age must understand each other: a change here is another protocol version.
    signed = sign_header(header(), identity("business-a"))
    by_hand = b"\x8c" + b"".join(
        [
            b"\xa7version\x01",
            b"\xa3job\xa5job-1",
            b"\xa6sender\xaabusiness-a",
            b"\xa9recipient\xaaprovider-a",
            b"\xa4kind\xaalink.terms",
            b"\xa8sequence\x07",
            b"\xa5chunk\x02",
            b"\xa6chunks\x05",
            b"\xa8received\x03",
            b"\xa8previous\xc4\x20" + bytes(32),
            b"\xa5suite\xd9\x24MLKEM768X25519-HKDF-SHA256-AES256GCM",
            b"\xabbody_sha256\xc4\x20" + hashlib.sha256(BODY).digest(),
        ]
    )
    assert signed.header_bytes == by_hand
    assert identity("business-a").public.verify(signed.signature, b"warren header 1\x00" + by_hand)
    length = bytes([len(by_hand)])
    assert assemble(by_hand, signed.signature, BODY) == (
        b"\x83\xa6header\xc4"
        + length
        + by_hand
        + b"\xa9signature\xc4\x40"
        + signed.signature
        + b"\xa4body\xc4\x0b"
        + BODY
    )


def test_a_message_stays_provable_after_its_body_is_gone() -> None:
    result = opened(envelope())
    signed_bytes = b"warren header 1\x00" + result.header_bytes
    assert identity("business-a").public.verify(result.signature, signed_bytes)
    assert read_header(result.header_bytes).body_sha256 == hashlib.sha256(BODY).digest()


def test_a_signature_made_for_another_purpose_is_none() -> None:
    data = unpack(envelope())
    signature = identity("business-a").sign(data["header"])
    assert refused(assemble(data["header"], signature, BODY)).code == "bad_signature"


@pytest.mark.parametrize("part", ["signature", "body"])
def test_every_flipped_bit_of_signature_and_body_has_the_code_of_its_part(part: str) -> None:
    parts = unpack(envelope())
    code = {"signature": "bad_signature", "body": "body_mismatch"}[part]
    for bit in range(8 * len(parts[part])):
        changed = bytearray(parts[part])
        changed[bit // 8] ^= 1 << bit % 8
        error = refused(pack({**parts, part: bytes(changed)}))
        assert (error.code, error.sender, error.header_bytes) == (code, "business-a", parts["header"])


FIELD_CODES = {
    "version": "unknown_version",
    "sender": "unknown_sender",
    "recipient": "wrong_recipient",
    "suite": "unknown_suite",
}


@pytest.mark.parametrize("field", Header.__struct_fields__)
def test_every_flipped_bit_of_a_header_field_has_the_code_of_its_field(field: str) -> None:
    parts = unpack(envelope())
    start = 1
    for name, value in unpack(parts["header"]).items():
        start += len(pack(name))
        end = start + len(pack(value))
        if name == field:
            break
        start = end
    codes = set()
    for bit in range(8 * start, 8 * end):
        changed = bytearray(parts["header"])
        changed[bit // 8] ^= 1 << bit % 8
        error = refused(pack({**parts, "header": bytes(changed)}))
        # What can no longer be read is malformed; what can be read is refused for what it says.
        assert error.code in {FIELD_CODES.get(field, "bad_signature"), "malformed"}
        codes.add(error.code)
        if field in {"previous", "body_sha256"} and bit >= 8 * (start + 2):
            assert error.code == "bad_signature"
    assert FIELD_CODES.get(field, "bad_signature") in codes


def test_every_flipped_bit_of_the_header_around_its_fields_is_malformed() -> None:
    parts = unpack(envelope())
    fields = unpack(parts["header"])
    start = 0
    spans = [range(0, 1)]
    start = 1
    for name, value in fields.items():
        spans.append(range(start, start + len(pack(name))))
        start += len(pack(name)) + len(pack(value))
    for position in (position for span in spans for position in span):
        for bit in range(8):
            changed = bytearray(parts["header"])
            changed[position] ^= 1 << bit
            assert refused(pack({**parts, "header": bytes(changed)})).code == "malformed"


def test_no_flipped_bit_of_an_envelope_goes_unnoticed() -> None:
    data = envelope()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        refused(bytes(changed))


@given(st.data())
def test_a_truncated_or_lengthened_envelope_is_malformed(data: st.DataObject) -> None:
    whole = envelope()
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    assert refused(whole[:cut]).code == "malformed"
    assert refused(whole + data.draw(st.binary(min_size=1, max_size=9))).code == "malformed"
    header_bytes = unpack(whole)["header"]
    cut = data.draw(st.integers(min_value=0, max_value=len(header_bytes) - 1))
    parts = unpack(whole)
    assert refused(assemble(header_bytes[:cut], parts["signature"], BODY)).code == "malformed"
    assert refused(assemble(header_bytes + b"\x00", parts["signature"], BODY)).code == "malformed"


@given(st.binary(max_size=400))
def test_random_bytes_are_malformed_and_nothing_worse(data: bytes) -> None:
    assert refused(data).code == "malformed"
    assert refused(assemble(data, bytes(64), BODY)).code == "malformed"


@given(
    st.sampled_from([*Header.__struct_fields__, "surprise"]),
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text("a-\n."),
)
def test_any_value_in_any_field_even_signed_is_refused_or_is_canonical(field: str, value: object) -> None:
    data = with_header({**good_fields(), field: value})
    try:
        result = opened(data)
    except EnvelopeError as error:
        assert error.code in CODES
    else:
        assert sign_header(result.header, identity("business-a")).header_bytes == result.header_bytes


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: envelope(version=2), "unknown_version"),
        (lambda: envelope(version=0), "unknown_version"),
        (lambda: envelope(suite="X25519-ROT13"), "unknown_suite"),
        (lambda: envelope(suite=CLASSICAL_SUITE), "unknown_suite"),
        (lambda: envelope(recipient="provider-b"), "wrong_recipient"),
        (lambda: envelope(sender="stranger", signer="stranger"), "unknown_sender"),
        (lambda: envelope(sender="provider-a", signer="provider-a"), "unknown_sender"),
        (lambda: envelope(signer="stranger"), "bad_signature"),
        (lambda: envelope(signer="business-b"), "bad_signature"),
        (lambda: envelope(sender="business-b"), "bad_signature"),
        (lambda: envelope(body=b"another body"), "body_mismatch"),
        (lambda: envelope(body=b""), "body_mismatch"),
        (lambda: envelope(body=b"x" * 2**21), "oversized"),
        (lambda: with_header({**good_fields(), "surprise": 1}), "malformed"),
        (lambda: with_header({**good_fields(), "job": "job-1\n"}), "malformed"),
        (lambda: with_header({**good_fields(), "kind": "link.terms\n"}), "malformed"),
        (lambda: with_header({**good_fields(), "sequence": 2**49}), "malformed"),
        (lambda: with_header({**good_fields(), "sequence": 7.0}), "malformed"),
        (lambda: with_header({**good_fields(), "version": True}), "malformed"),
        (lambda: with_header({**good_fields(), "previous": "A" * 43 + "="}), "malformed"),
        (lambda: with_header(dict(reversed(good_fields().items()))), "malformed"),
        (lambda: with_header([good_fields()]), "malformed"),
        (lambda: with_header({**good_fields(), "job": "j" * HEADER_BYTES_MAX}), "malformed"),
        (lambda: b"", "malformed"),
        (lambda: pack({"header": b"", "signature": bytes(64), "body": b"", "more": 1}), "malformed"),
        (lambda: pack({"header": b"", "signature": bytes(64)}), "malformed"),
        (lambda: pack(dict(reversed(unpack(envelope()).items()))), "malformed"),
        (lambda: pack({**unpack(envelope()), "signature": bytes(63)}), "malformed"),
        (lambda: pack({**unpack(envelope()), "body": "text"}), "malformed"),
        (lambda: pack({**unpack(envelope()), "body": []}), "malformed"),
        (lambda: pack(list(unpack(envelope()).values())), "malformed"),
        (lambda: b"\xde\x00\x03" + envelope()[1:], "malformed"),  # map 16 where fixmap would do
        (lambda: envelope().replace(b"\xa4body\xc4\x0b", b"\xa4body\xc5\x00\x0b"), "malformed"),
    ],
)
def test_every_refusal_has_its_own_code(make: Callable[[], bytes], code: str) -> None:
    assert refused(make()).code == code


def test_a_stranger_cannot_make_us_build_a_mebibyte_of_empty_lists() -> None:
    count = 190_000
    bomb = b"\x81\xa6header\xdd" + count.to_bytes(4, "big") + b"\x90" * count
    tracemalloc.start()
    try:
        assert refused(bomb).code == "malformed"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_header_of_another_version_is_known_for_what_it_is_whatever_it_holds() -> None:
    error = refused(with_header({"version": 2, "sender": "business-a", "parts": [1, 2], "recipient": 5}))
    assert (error.code, error.sender) == ("unknown_version", "business-a")
    assert refused(with_header({"version": 2, "sender": "Business A\n"})).sender is None


@pytest.mark.parametrize("size", [0, 2**20 + 2**16])
def test_an_envelope_may_have_exactly_the_bytes_that_were_allowed(size: int) -> None:
    data = envelope(body=bytes(size), body_sha256=hashlib.sha256(bytes(size)).digest())
    assert open_envelope(data, me="provider-a", peers=peers(), bytes_max=len(data)).body == bytes(size)
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(data, me="provider-a", peers=peers(), bytes_max=len(data) - 1)
    assert caught.value.code == "oversized"


def test_the_longest_header_fits_its_limits() -> None:
    longest = header(
        job="j" * 40, sender="s" * 40, recipient="r" * 40, kind="k" * 40, suite="x" * 80,
        sequence=2**48, chunk=2**48, chunks=2**32, received=2**48,
    )  # fmt: skip
    signed = sign_header(longest, identity("business-a"))
    assert read_header(signed.header_bytes) == longest
    assert len(assemble(signed.header_bytes, signed.signature, bytes(2**20))) <= 2**20 + ENVELOPE_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "changes",
    [{"job": "Job"}, {"job": "job-1\n"}, {"sequence": -1}, {"sequence": 2**70}, {"version": 2**70}, {"previous": b""}],
)
def test_a_header_that_breaks_its_own_schema_is_never_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        sign_header(header(**changes), identity("business-a"))


@pytest.mark.parametrize("suite", list(SUITES))
def test_another_suite_is_accepted_only_when_the_caller_says_so(suite: str) -> None:
    bob = identity("provider-a")
    info = seal_info(1, "job-1", "business-a", "provider-a", "link.terms", 2, 5)
    body = seal(b"plain", bob.public, info, suite)
    data = envelope(body=body, suite=suite, body_sha256=hashlib.sha256(body).digest())
    result = open_envelope(data, me="provider-a", peers=peers(), suites=[suite])
    assert unseal(result.body, bob, info, result.header.suite) == b"plain"
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(data, me="provider-a", peers=peers(), suites=[])
    assert caught.value.code == "unknown_suite"


def test_the_routing_key_must_say_what_the_header_says() -> None:
    good = routing_key("business-a", "provider-a", "link.terms", "job-1")
    check_routing(header(), good)
    for key in (
        good.replace("job-1", "job-2"),
        good.replace("business-a", "business-b"),
        good.replace("provider-a", "provider-b"),
        good.replace("bulk", "control"),
        good.replace("link.terms", "align.list"),
        "nonsense",
        "",
        good + ".x",
        good + "\n",
    ):
        with pytest.raises(EnvelopeError) as caught:
            check_routing(header(), key)
        assert (caught.value.code, caught.value.sender) == ("wrong_key", "business-a")
