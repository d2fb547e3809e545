"""End-to-end encryption of message bodies: HPKE, RFC 9180, base mode.

Default suite: the hybrid KEM ML-KEM-768 + X25519 (X-Wing, KEM 0x647a), so that traffic recorded at a broker
today stays closed to a quantum computer later. The classical suite uses the X25519 half of the same identity
alone, for a party whose library has no ML-KEM; `open_envelope` refuses it unless the caller allows it.

What identifies the message is bound through `info`: a body moved to another job, sender, recipient, kind or
chunk does not open. The suite needs no place in `info`: RFC 9180 puts it into the key schedule.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from messages.identity import Identity, PublicIdentity
from messages.keys import shown

DEFAULT_SUITE: Final = "MLKEM768X25519-HKDF-SHA256-AES256GCM"
CLASSICAL_SUITE: Final = "X25519-HKDF-SHA256-AES256GCM"
SUITES: Final[dict[str, Suite]] = {
    DEFAULT_SUITE: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    CLASSICAL_SUITE: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
OVERHEAD_BYTES: Final = 1136
"""What the default suite adds to a body: 1088 + 32 of encapsulated key, 16 of tag. No suite adds more."""


class SealError(ValueError):
    """A body that does not open: another recipient, another message, another suite, or damaged."""


def seal_info(version: int, job: str, sender: str, recipient: str, kind: str, chunk: int, chunks: int) -> bytes:
    """The `info` that binds a body to its message: length-prefixed, so that no two messages share it."""
    words = ("warren seal", str(version), job, sender, recipient, kind, str(chunk), str(chunks))
    return b"".join(len(word.encode()).to_bytes(2, "big") + word.encode() for word in words)


def seal(plain: bytes, recipient: PublicIdentity, info: bytes, suite: str = DEFAULT_SUITE) -> bytes:
    """Encrypt to `recipient`; with the default suite OVERHEAD_BYTES longer than `plain`.

    Randomised: no two calls give the same bytes. Raises SealError for an unknown suite.
    """
    key = recipient.receive_x25519_key if suite == CLASSICAL_SUITE else recipient.receive_key
    return _suite(suite).encrypt(plain, key, info)


def unseal(sealed: bytes, identity: Identity, info: bytes, suite: str = DEFAULT_SUITE) -> bytes:
    """The plaintext. Raises SealError; the text says nothing of the content."""
    opener = _suite(suite)
    key = identity.receive_x25519_key if suite == CLASSICAL_SUITE else identity.receive_key
    try:
        return opener.decrypt(sealed, key, info)
    except (InvalidTag, ValueError):
        raise SealError("the body cannot be opened: not sealed for this party and message, or damaged") from None


def _suite(name: str) -> Suite:
    if name not in SUITES:
        raise SealError(f"suite {shown(name, 60)} is not known")
    return SUITES[name]
