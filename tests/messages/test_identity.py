"""Identities: files that people mail, fingerprints that they compare, keys that can be used."""

import base64
import copy
import hashlib
import json
import pickle
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.identity import FILE_BYTES_MAX, Identity, IdentityError, PublicIdentity
from messages.keys import AddressError
from messages.seal import seal, unseal

Point = tuple[int, int]

# RFC 8032, section 5.1: the curve, its order without the cofactor 8.
P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, section 7.1, tests 1 to 3: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# RFC 9180, appendix A.1.1: the recipient's key pair.
X25519_SECRET = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
X25519_PUBLIC = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")


def identity_of(sign: str) -> Identity:
    """An identity with known keys."""
    keys = {"sign": bytes.fromhex(sign), "receive_x25519": X25519_SECRET, "receive_mlkem768": bytes(range(64))}
    return Identity("business-a", keys)


@cache
def business() -> Identity:
    """One identity for the whole run."""
    return identity_of(RFC_8032[1][0])


def fields_of(text: str | bytes) -> dict[str, Any]:
    """The file as a map."""
    fields: dict[str, Any] = json.loads(text)
    return fields


def public_with(**changes: object) -> PublicIdentity:
    """The business's public file, changed and read."""
    return PublicIdentity.from_json(json.dumps({**fields_of(business().public.to_json()), **changes}))


def b64(raw: bytes) -> str:
    """Bytes as in an identity file."""
    return base64.b64encode(raw).decode()


def add(a: Point, b: Point) -> Point:
    """The sum of two points of Ed25519 in affine coordinates (RFC 8032, section 5.1.4)."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P,
    )


def times(scalar: int, point: Point) -> Point:
    """A multiple of a point."""
    total = (0, 1)
    for bit in f"{scalar:b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def decompressed(raw: bytes) -> Point | None:
    """RFC 8032, section 5.1.3, word for word."""
    number = int.from_bytes(raw, "little")
    y, sign = number % 2**255, number >> 255
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    elif v * x * x % P != u:
        return None
    if x == 0 and sign:
        return None
    return (P - x if x % 2 != sign else x), y


def compressed(point: Point) -> bytes:
    """A point as 32 bytes."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def small_order_points() -> list[Point]:
    """The eight points whose order divides 8."""
    for y in range(2, 100):
        point = decompressed(y.to_bytes(32, "little"))
        if point is not None and times(4, torsion := times(ORDER, point)) != (0, 1):
            return [times(factor, torsion) for factor in range(8)]
    raise AssertionError


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    mine = identity_of(secret)
    data, expected = bytes.fromhex(message), bytes.fromhex(signature)
    assert fields_of(mine.public.to_json())["sign"] == b64(bytes.fromhex(public))
    assert mine.sign(data) == expected
    assert mine.public.verify(expected, data)
    for bit in range(0, 512, 5):
        changed = bytearray(expected)
        changed[bit // 8] ^= 1 << bit % 8
        assert not mine.public.verify(bytes(changed), data)
    assert not mine.public.verify(expected, data + b"x")
    assert not mine.public.verify(expected[:-1], data)
    assert not mine.public.verify(b"", data)
    # The same signature with S + L: RFC 8032, section 5.1.7, asks for S < L.
    more = (int.from_bytes(expected[32:], "little") + ORDER).to_bytes(32, "little")
    assert not mine.public.verify(expected[:32] + more, data)


def test_an_identity_file_survives() -> None:
    fresh = Identity.generate("provider-a")
    again = Identity.from_bytes(fresh.to_bytes())
    assert again.to_bytes() == fresh.to_bytes()
    assert again.public == fresh.public
    assert hash(again.public) == hash(fresh.public)
    assert fresh.public.verify(again.sign(b"data"), b"data")
    assert unseal(seal(b"body", fresh.public, b"i"), again, b"i") == b"body"
    assert Identity.generate("provider-a").public != fresh.public


def test_a_public_file_survives_being_mailed() -> None:
    public = business().public
    text = public.to_json()
    assert text.isascii()
    for mailed in (text, text.encode(), text.replace("\n", "\r\n"), f"\n {text}\n\n", b"\xef\xbb\xbf" + text.encode()):
        assert PublicIdentity.from_json(mailed) == public
    assert PublicIdentity.from_json(text).to_json() == text


def test_both_halves_of_the_receiving_key_are_stored_separately() -> None:
    fields = fields_of(business().public.to_json())
    assert list(fields) == ["format", "kind", "name", "sign", "receive_x25519", "receive_mlkem768"]
    assert base64.b64decode(fields["receive_x25519"]) == X25519_PUBLIC
    assert len(base64.b64decode(fields["receive_mlkem768"])) == 1184  # FIPS 203, table 3


def test_digest_and_fingerprint_of_given_keys_never_change() -> None:
    # Contracts name the digest and people have the fingerprint on paper.
    public = business().public
    keys = [base64.b64decode(value) for value in list(fields_of(public.to_json()).values())[3:]]
    parts = [b"warren identity", b"business-a", *keys]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
    assert public.digest() == digest
    assert public.digest().hex() == "1d42827d80833554dd6de56ad5233e52efe68551650e53ff2a6c1d6f0ac07cad"
    assert public.fingerprint == "19965 20554 91285 39533 26582 17379 83858 37832 81142 32493"
    assert public.fingerprint.replace(" ", "") == str(int.from_bytes(digest, "big"))[-50:]


@pytest.mark.parametrize("field", ["name", "sign", "receive_x25519", "receive_mlkem768"])
def test_the_fingerprint_depends_on_the_name_and_every_key(field: str) -> None:
    other = fields_of(Identity.generate("provider-b").public.to_json())[field]
    changed = public_with(**{field: other})
    assert changed.fingerprint != business().public.fingerprint
    assert changed != business().public


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "warren identity 9"}, "field format: 'warren identity 9'"),
        ({"format": None}, "field format"),
        ({"kind": "private"}, "field kind: 'private' was found, 'public' is needed"),
        ({"name": "Business A"}, "field name: name 'Business A'"),
        ({"name": "business-a\n"}, "field name"),
        ({"name": 123}, "field name"),
        ({"name": ["a"]}, "field name"),
        ({"surprise": 1}, "field 'surprise' is not known"),
        ({"sign": "!"}, "field sign: not base64"),
        ({"sign": None}, "field sign: not base64"),
        ({"sign": 5}, "field sign: not base64"),
        ({"sign": "é" * 44}, "field sign: not base64"),
        ({"sign": b64(bytes(31))}, "field sign: 31 bytes, 32 are needed"),
        ({"sign": b64(b"\xff" * 32)}, "field sign: not a valid key"),
        ({"receive_x25519": b64(bytes(33))}, "field receive_x25519: 33 bytes, 32 are needed"),
        ({"receive_mlkem768": b64(bytes(64))}, "field receive_mlkem768: 64 bytes, 1184 are needed"),
        # FIPS 203, section 7.2: every coefficient must be below q = 3329.
        ({"receive_mlkem768": b64(b"\xff" * 1184)}, "field receive_mlkem768: not a valid key"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_field(changes: dict[str, object], said: str) -> None:
    with pytest.raises(IdentityError) as caught:
        public_with(**changes)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("field", ["format", "kind", "name", "sign", "receive_x25519", "receive_mlkem768"])
def test_a_missing_field_is_named(field: str) -> None:
    fields = fields_of(business().public.to_json())
    del fields[field]
    with pytest.raises(IdentityError, match=f"^field {field} is missing"):
        PublicIdentity.from_json(json.dumps(fields))


def test_a_field_that_appears_twice_is_named() -> None:
    text = business().public.to_json().replace('"name":', '"name": "provider-a", "name":')
    with pytest.raises(IdentityError, match="'name' appears twice"):
        PublicIdentity.from_json(text)


def test_a_key_has_one_spelling_only() -> None:
    good = fields_of(business().public.to_json())["sign"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spellings = {f"{good[:-2]}{letter}=" for letter in letters} | {
        good.rstrip("="),
        good + "=",
        f" {good}",
        f"{good}\n",
    }
    same = [text for text in spellings - {good} if base64.b64decode(text + "==") == base64.b64decode(good)]
    assert len(same) >= 6  # two bits of the last letter are not used, and b64decode is easy-going
    for text in same:
        with pytest.raises(IdentityError, match="field sign: not base64"):
            public_with(sign=text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"warren identity 1"',
        "{}",
        b"\xff\xfe\x00",
        "[" * 9000,
        "{" * 9000,
        '{"a":' * 3000,
        "x" * 20_000,
    ],
)
def test_what_is_no_identity_file_is_refused_in_few_words(text: str | bytes) -> None:
    with pytest.raises(IdentityError) as caught:
        PublicIdentity.from_json(text)
    assert len(str(caught.value)) < 200


def test_a_file_that_is_far_too_large_is_not_even_parsed() -> None:
    text = business().public.to_json()
    assert PublicIdentity.from_json(text + " " * (FILE_BYTES_MAX - len(text)))
    with pytest.raises(IdentityError, match="no identity file"):
        PublicIdentity.from_json(text + " " * (FILE_BYTES_MAX - len(text) + 1))


@settings(max_examples=60)
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_file_damaged_in_one_byte_is_refused_or_has_another_fingerprint(at: int, change: int) -> None:
    data = bytearray(business().public.to_json().encode())
    data[at % len(data)] ^= change
    try:
        other = PublicIdentity.from_json(bytes(data))
    except IdentityError:
        return
    # White space may become other white space; nothing else may change unseen.
    only_space = bytes(data).split() == business().public.to_json().encode().split()
    assert only_space or other.fingerprint != business().public.fingerprint


def test_a_signing_key_for_which_anybody_could_sign_is_refused() -> None:
    points = small_order_points()
    assert len(set(points)) == 8
    for point in points:
        raw = compressed(point)
        for spelling in {raw, raw[:31] + bytes([raw[31] ^ 0x80])}:
            with pytest.raises(IdentityError, match="field sign: not a valid key"):
                public_with(sign=b64(spelling))
    for y in (P, P + 1):  # 0 and 1 once more, not reduced
        with pytest.raises(IdentityError, match="field sign"):
            public_with(sign=b64(y.to_bytes(32, "little")))


@settings(max_examples=60)
@given(st.binary(min_size=32, max_size=32))
def test_a_signing_key_is_taken_exactly_when_rfc_8032_decodes_it(raw: bytes) -> None:
    point = decompressed(raw)
    if point is None or times(8, point) == (0, 1):
        with pytest.raises(IdentityError, match="field sign"):
            public_with(sign=b64(raw))
    else:
        assert public_with(sign=b64(raw))


@pytest.mark.parametrize(
    "u",
    [
        # The small-order points of Curve25519 and its twist, reduced and not.
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        P - 1,
        P,
        P + 1,
    ],
)
def test_a_receiving_key_that_gives_everybody_the_same_secret_is_refused(u: int) -> None:
    with pytest.raises(IdentityError, match="field receive_x25519: not a valid key"):
        public_with(receive_x25519=b64(u.to_bytes(32, "little")))


def test_a_name_is_checked_whoever_makes_the_identity() -> None:
    keys = {field: base64.b64decode(value) for field, value in list(fields_of(business().to_bytes()).items())[3:]}
    for make in (lambda: Identity.generate("A"), lambda: Identity("a b", keys), lambda: PublicIdentity("", {})):
        with pytest.raises(AddressError):
            make()


def test_nothing_secret_shows() -> None:
    mine = business()
    secrets = [value for value in list(fields_of(mine.to_bytes()).values())[3:]]
    shown = [
        repr(mine),
        str(mine),
        repr(mine.public),
        mine.public.to_json(),
        f"{[mine]}",
        repr(mine.__class__.__dict__),
    ]
    for secret in secrets:
        assert not any(secret in text or base64.b64decode(secret).hex() in text for text in shown)
    assert repr(mine) == "Identity('business-a')"
    assert not hasattr(mine, "__dict__")


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_an_identity_does_not_leave_by_accident(leave: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="on purpose"):
        leave(business())


@pytest.mark.parametrize("field", ["sign", "receive_x25519", "receive_mlkem768"])
@pytest.mark.parametrize("damage", [lambda text: text[:-4], lambda text: text[:-4] + "!!!!", lambda text: [text]])
def test_a_damaged_private_file_is_refused_without_being_shown(field: str, damage: Callable[[str], object]) -> None:
    fields = fields_of(business().to_bytes())
    secret = fields[field]
    with pytest.raises(IdentityError) as caught:
        Identity.from_bytes(json.dumps({**fields, field: damage(secret)}).encode())
    assert str(caught.value).startswith(f"field {field}")
    said = "".join(traceback.format_exception(caught.value))
    assert secret[:12] not in said


def test_a_public_file_is_no_private_one_and_the_other_way_round() -> None:
    with pytest.raises(IdentityError, match="field kind: 'public' was found, 'private' is needed"):
        Identity.from_bytes(business().public.to_json().encode())
    with pytest.raises(IdentityError, match="field kind: 'private' was found, 'public' is needed"):
        PublicIdentity.from_json(business().to_bytes())
