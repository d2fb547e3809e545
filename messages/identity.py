"""Who a party is: an Ed25519 key to sign, and a hybrid ML-KEM-768 + X25519 key to receive.

The public identity is a small JSON file that people exchange and compare by fingerprint, over the telephone.
Both halves of the receiving key are stored separately, so that either can be replaced or used alone.
"""

import base64
import hashlib
import json
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from messages.keys import AddressError, check_name

FORMAT: Final = "warren identity 1"
_PUBLIC: Final = {"sign": 32, "receive_x25519": 32, "receive_mlkem768": 1184}
_PRIVATE: Final = {"sign": 32, "receive_x25519": 32, "receive_mlkem768": 64}


class IdentityError(ValueError):
    """An identity file that cannot be used; the text names the field."""


def _read(text: str | bytes, kind: str, sizes: dict[str, int]) -> tuple[str, dict[str, bytes]]:
    try:
        fields: Any = json.loads(text)
    except (ValueError, UnicodeDecodeError):
        raise IdentityError(f"the {kind} identity is not JSON: was the file damaged on its way?") from None
    wanted = {"format", "kind", "name", *sizes}
    if not isinstance(fields, dict) or set(fields) != wanted:
        found = set(fields) if isinstance(fields, dict) else set()
        wrong = ", ".join(sorted(wanted ^ found)) or "its form"
        raise IdentityError(f"the {kind} identity has a missing or unknown field: {wrong}")
    if fields["format"] != FORMAT:
        raise IdentityError(f"field format: {fields['format']!r} is not {FORMAT!r}")
    if fields["kind"] != kind:
        raise IdentityError(f"field kind: this is a {fields['kind']!r} identity, a {kind} one is needed")
    try:
        name = check_name(str(fields["name"]))
    except AddressError as error:
        raise IdentityError(f"field name: {error}") from None
    keys: dict[str, bytes] = {}
    for field, size in sizes.items():
        try:
            keys[field] = base64.b64decode(fields[field], validate=True)
        except (ValueError, TypeError):
            raise IdentityError(f"field {field}: not base64") from None
        if len(keys[field]) != size:
            raise IdentityError(f"field {field}: {len(keys[field])} bytes, {size} are needed")
    return name, keys


def _write(kind: str, name: str, keys: dict[str, bytes]) -> str:
    fields = {"format": FORMAT, "kind": kind, "name": name}
    encoded = {field: base64.b64encode(value).decode() for field, value in keys.items()}
    return json.dumps({**fields, **encoded}, indent=2) + "\n"


class PublicIdentity:
    """What everybody may know of a party."""

    __slots__ = ("_keys", "name", "receive_key", "sign_key")

    def __init__(self, name: str, keys: dict[str, bytes]) -> None:
        """From raw key bytes. Raises IdentityError naming the field of a bad key."""
        self.name = name
        self._keys = keys
        try:
            self.sign_key = Ed25519PublicKey.from_public_bytes(keys["sign"])
            self.receive_key = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(keys["receive_mlkem768"]),
                X25519PublicKey.from_public_bytes(keys["receive_x25519"]),
            )
        except (ValueError, UnsupportedAlgorithm):
            raise IdentityError("a key of the public identity is not valid: sign or receive_mlkem768") from None

    def __repr__(self) -> str:
        return f"PublicIdentity({self.name!r}, {self.fingerprint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicIdentity) and (self.name, self._keys) == (other.name, other._keys)

    def __hash__(self) -> int:
        return hash(self.digest())

    def to_json(self) -> str:
        """The text of the public identity file."""
        return _write("public", self.name, self._keys)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a public identity file. Raises IdentityError naming the field."""
        return cls(*_read(text, "public", _PUBLIC))

    def digest(self) -> bytes:
        """SHA-256 over name and keys, 32 bytes: what a contract names."""
        parts = [b"warren identity", self.name.encode(), *(self._keys[field] for field in _PUBLIC)]
        return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()

    @property
    def fingerprint(self) -> str:
        """Ten groups of five digits (about 166 bits of the digest), to be compared by telephone."""
        number = int.from_bytes(self.digest(), "big") % 10**50
        digits = f"{number:050d}"
        return " ".join(digits[at : at + 5] for at in range(0, 50, 5))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether this party signed `data` (Ed25519, RFC 8032)."""
        try:
            self.sign_key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class Identity:
    """A party's own keys. Never printed, logged or pickled by accident: repr shows the name only."""

    __slots__ = ("_keys", "_sign", "name", "public", "receive_key")

    def __init__(self, name: str, keys: dict[str, bytes]) -> None:
        """From raw private key bytes (ML-KEM as its 64-byte seed)."""
        self.name = name
        self._keys = keys
        self._sign = Ed25519PrivateKey.from_private_bytes(keys["sign"])
        x25519 = X25519PrivateKey.from_private_bytes(keys["receive_x25519"])
        mlkem = MLKEM768PrivateKey.from_seed_bytes(keys["receive_mlkem768"])
        self.receive_key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = PublicIdentity(
            name,
            {
                "sign": self._sign.public_key().public_bytes_raw(),
                "receive_x25519": x25519.public_key().public_bytes_raw(),
                "receive_mlkem768": mlkem.public_key().public_bytes_raw(),
            },
        )

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an identity is handed over as bytes, on purpose (to_bytes)")

    @classmethod
    def generate(cls, name: str) -> Self:
        """Fresh keys from the operating system. Raises AddressError for a bad name."""
        check_name(name)
        return cls(
            name,
            {
                "sign": Ed25519PrivateKey.generate().private_bytes_raw(),
                "receive_x25519": X25519PrivateKey.generate().private_bytes_raw(),
                "receive_mlkem768": MLKEM768PrivateKey.generate().private_bytes_raw(),
            },
        )

    def to_bytes(self) -> bytes:
        """The text of the private identity file (mode 0600), or for a worker process."""
        return _write("private", self.name, self._keys).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a private identity file. Raises IdentityError naming the field, never showing it."""
        return cls(*_read(data, "private", _PRIVATE))

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self._sign.sign(data)
