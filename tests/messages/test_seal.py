"""The seal: RFC 9180 to the letter, and a body opens for its recipient and its message only.

The oracle below is HPKE base mode written from the RFC on other primitives of the library. It is checked
against the RFC's own vector, and then has to open what `seal` made.
"""

import base64
import hashlib
import hmac
import json
from functools import cache

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.identity import Identity, PublicIdentity
from messages.seal import (
    CLASSICAL_SUITE,
    DEFAULT_SUITE,
    OVERHEAD_BYTES,
    SUITES,
    SealError,
    seal,
    seal_info,
    unseal,
)

NAMES = st.from_regex(r"\A[a-z0-9-]{1,40}\Z")
BOTH = pytest.mark.parametrize("suite", list(SUITES))
KEM_X25519, KEM_HYBRID = 0x0020, 0x647A
AES_128, AES_256 = 1, 2


@cache
def identity(name: str) -> Identity:
    """One identity per name and run."""
    return Identity.generate(name)


def private_keys(party: Identity) -> tuple[X25519PrivateKey, MLKEM768PrivateKey]:
    """Both halves of a party's receiving key, from its file."""
    fields = json.loads(party.to_bytes())
    return (
        X25519PrivateKey.from_private_bytes(base64.b64decode(fields["receive_x25519"])),
        MLKEM768PrivateKey.from_seed_bytes(base64.b64decode(fields["receive_mlkem768"])),
    )


def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """LabeledExtract, RFC 9180 section 4, with HKDF-SHA256 (RFC 5869)."""
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256).digest()


def expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand, RFC 9180 section 4; one block of HKDF-SHA256 is enough for 32 bytes."""
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.new(key, labelled + b"\x01", hashlib.sha256).digest()[:length]


def key_schedule(kem: int, aead: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of the first message, base mode: RFC 9180 section 5.1."""
    suite = b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01" + aead.to_bytes(2, "big")
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key_bytes = 16 if aead == AES_128 else 32
    return expand(suite, secret, b"key", context, key_bytes), expand(suite, secret, b"base_nonce", context, 12)


def x25519_shared(private: X25519PrivateKey, enc: bytes) -> bytes:
    """Decap of DHKEM(X25519, HKDF-SHA256): RFC 9180 section 4.1."""
    suite = b"KEM" + KEM_X25519.to_bytes(2, "big")
    agreed = private.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + private.public_key().public_bytes_raw()
    return expand(suite, extract(suite, b"", b"eae_prk", agreed), b"shared_secret", context, 32)


def hybrid_shared(x25519: X25519PrivateKey, mlkem: MLKEM768PrivateKey, enc: bytes) -> bytes:
    """Decap of X-Wing (draft-connolly-cfrg-xwing-kem, section 5.4), where both halves count."""
    agreed = x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    own = x25519.public_key().public_bytes_raw()
    return hashlib.sha3_256(mlkem.decapsulate(enc[:1088]) + agreed + enc[1088:] + own + rb"\.//^" + b"\\").digest()


def test_the_oracle_opens_the_vector_of_rfc_9180() -> None:
    # Appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode, sequence number 0.
    secret = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"
    enc = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    sealed = bytes.fromhex("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a")
    shared = x25519_shared(X25519PrivateKey.from_private_bytes(bytes.fromhex(secret)), enc)
    key, nonce = key_schedule(KEM_X25519, AES_128, shared, b"Ode on a Grecian Urn")
    assert key.hex() == "4531685d41d65f03dc48f6b8302c05b0"
    assert nonce.hex() == "56d890e5accaaf011cff4b7d"
    assert AESGCM(key).decrypt(nonce, sealed, b"Count-0") == b"Beauty is truth, truth beauty"


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_oracle_opens_what_the_classical_suite_seals(body: bytes, info: bytes) -> None:
    bob = identity("provider-a")
    sealed = seal(body, bob.public, info, CLASSICAL_SUITE)
    key, nonce = key_schedule(KEM_X25519, AES_256, x25519_shared(private_keys(bob)[0], sealed[:32]), info)
    assert AESGCM(key).decrypt(nonce, sealed[32:], b"") == body


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_oracle_opens_what_the_hybrid_suite_seals(body: bytes, info: bytes) -> None:
    bob = identity("provider-a")
    sealed = seal(body, bob.public, info)
    shared = hybrid_shared(*private_keys(bob), sealed[:1120])
    key, nonce = key_schedule(KEM_HYBRID, AES_256, shared, info)
    assert AESGCM(key).decrypt(nonce, sealed[1120:], b"") == body


def test_what_the_oracle_seals_opens() -> None:
    bob = identity("provider-a")
    ephemeral = X25519PrivateKey.from_private_bytes(bytes(range(32)))
    enc, own = ephemeral.public_key().public_bytes_raw(), private_keys(bob)[0].public_key()
    suite = b"KEM" + KEM_X25519.to_bytes(2, "big")
    agreed = extract(suite, b"", b"eae_prk", ephemeral.exchange(own))
    shared = expand(suite, agreed, b"shared_secret", enc + own.public_bytes_raw(), 32)
    key, nonce = key_schedule(KEM_X25519, AES_256, shared, b"info")
    sealed = enc + AESGCM(key).encrypt(nonce, b"a body", b"")
    assert unseal(sealed, bob, b"info", CLASSICAL_SUITE) == b"a body"


@BOTH
@settings(max_examples=40)
@given(body=st.binary(max_size=2000), job=NAMES, chunk=st.integers(min_value=0, max_value=9))
def test_a_body_opens_for_its_recipient_and_its_message_only(suite: str, body: bytes, job: str, chunk: int) -> None:
    alice, bob = identity("business-a"), identity("provider-a")
    info = seal_info(1, job, "business-a", "provider-a", "link.terms", chunk, 10)
    sealed = seal(body, bob.public, info, suite)
    assert unseal(sealed, bob, info, suite) == body
    assert seal(body, bob.public, info, suite) != sealed
    for other in (
        seal_info(2, job, "business-a", "provider-a", "link.terms", chunk, 10),
        seal_info(1, job + "x", "business-a", "provider-a", "link.terms", chunk, 10),
        seal_info(1, job, "business-b", "provider-a", "link.terms", chunk, 10),
        seal_info(1, job, "business-a", "provider-b", "link.terms", chunk, 10),
        seal_info(1, job, "provider-a", "business-a", "link.terms", chunk, 10),
        seal_info(1, job, "business-a", "provider-a", "residual.share", chunk, 10),
        seal_info(1, job, "business-a", "provider-a", "link.terms", chunk + 1, 10),
        seal_info(1, job, "business-a", "provider-a", "link.terms", chunk, 11),
        b"",
    ):
        with pytest.raises(SealError):
            unseal(sealed, bob, other, suite)
    with pytest.raises(SealError):
        unseal(sealed, alice, info, suite)


@BOTH
def test_every_flipped_byte_of_a_sealed_body_is_noticed(suite: str) -> None:
    bob = identity("provider-a")
    sealed = seal(b"a body", bob.public, b"info", suite)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1 << position % 8
        # X25519 ignores the highest bit of a point (RFC 7748, section 5), but HPKE hashes the bytes as sent.
        with pytest.raises(SealError):
            unseal(bytes(changed), bob, b"info", suite)


@BOTH
def test_a_cut_or_lengthened_body_is_refused(suite: str) -> None:
    bob = identity("provider-a")
    sealed = seal(b"a body", bob.public, b"info", suite)
    for length in range(0, len(sealed), 7):
        with pytest.raises(SealError):
            unseal(sealed[:length], bob, b"info", suite)
        with pytest.raises(SealError):
            unseal(bytes(length), bob, b"info", suite)
    with pytest.raises(SealError):
        unseal(sealed + b"\x00", bob, b"info", suite)


def test_both_halves_of_the_hybrid_key_are_needed() -> None:
    bob, eve = json.loads(identity("provider-a").to_bytes()), json.loads(identity("eve").to_bytes())
    sealed = seal(b"a body", identity("provider-a").public, b"info")
    for half in ("receive_x25519", "receive_mlkem768"):
        one_half = Identity.from_bytes(json.dumps({**eve, half: bob[half]}).encode())
        with pytest.raises(SealError):
            unseal(sealed, one_half, b"info")
    both = Identity.from_bytes(
        json.dumps({**eve, **{k: v for k, v in bob.items() if k.startswith("receive")}}).encode()
    )
    assert unseal(sealed, both, b"info") == b"a body"


def test_a_body_of_one_suite_does_not_open_as_another() -> None:
    bob = identity("provider-a")
    for made, read in ((DEFAULT_SUITE, CLASSICAL_SUITE), (CLASSICAL_SUITE, DEFAULT_SUITE)):
        with pytest.raises(SealError):
            unseal(seal(bytes(2000), bob.public, b"info", made), bob, b"info", read)


@pytest.mark.parametrize("suite", ["", "X25519", "MLKEM768X25519-HKDF-SHA256-AES128GCM", "x" * 1000])
def test_an_unknown_suite_is_refused(suite: str) -> None:
    bob = identity("provider-a")
    for use in (lambda: seal(b"", bob.public, b"", suite), lambda: unseal(bytes(2000), bob, b"", suite)):
        with pytest.raises(SealError, match="is not known") as caught:
            use()
        assert len(str(caught.value)) < 100


@pytest.mark.parametrize(("suite", "overhead"), [(DEFAULT_SUITE, 1088 + 32 + 16), (CLASSICAL_SUITE, 32 + 16)])
@pytest.mark.parametrize("size", [0, 1, 2**20])
def test_a_seal_adds_a_known_number_of_bytes(suite: str, overhead: int, size: int) -> None:
    public = PublicIdentity.from_json(identity("provider-a").public.to_json())
    assert len(seal(bytes(size), public, b"", suite)) == size + overhead
    assert overhead <= OVERHEAD_BYTES


def test_an_encapsulated_key_that_gives_everybody_the_same_secret_is_refused() -> None:
    bob = identity("provider-a")
    for enc in (bytes(32), (1).to_bytes(32, "little")):
        with pytest.raises(SealError):
            unseal(enc + bytes(16), bob, b"", CLASSICAL_SUITE)
        with pytest.raises(SealError):
            unseal(bytes(1088) + enc + bytes(16), bob, b"")


def test_the_text_of_a_refusal_says_nothing_of_the_body() -> None:
    bob = identity("provider-a")
    sealed = seal(b"a private value", bob.public, b"info")
    with pytest.raises(SealError) as caught:
        unseal(sealed, bob, b"other")
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.__context__, InvalidTag | ValueError)


Fields = tuple[int, str, str, str, str, int, int]
NUMBERS = st.integers(min_value=0, max_value=200)
WORDS = st.text(st.sampled_from("ab1"), max_size=3)
FIELDS: st.SearchStrategy[Fields] = st.tuples(NUMBERS, WORDS, WORDS, WORDS, WORDS, NUMBERS, NUMBERS)


@given(FIELDS, FIELDS)
def test_two_messages_never_share_their_info(one: Fields, two: Fields) -> None:
    assert (seal_info(*one) == seal_info(*two)) == (one == two)


def test_words_never_move_from_one_field_of_the_info_to_the_next() -> None:
    assert seal_info(1, "a", "bc", "d", "k", 0, 1) != seal_info(1, "ab", "c", "d", "k", 0, 1)
    assert seal_info(1, "a", "b", "c", "k", 1, 11) != seal_info(1, "a", "b", "c", "k", 11, 1)
    assert seal_info(1, "a", "b", "c", "k1", 1, 1) != seal_info(1, "a", "b", "c", "k", 11, 1)
