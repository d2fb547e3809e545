"""Who a party is: an Ed25519 key to sign, and a hybrid ML-KEM-768 + X25519 key to receive.

The public identity is a small JSON file that people exchange and compare by fingerprint, over the telephone.
Both halves of the receiving key are stored separately, so that either can be replaced or used alone.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from messages.keys import AddressError, check_name

FORMAT: Final = "warren identity 1"
FILE_BYTES_MAX: Final = 16_384
"""An identity file has under 2 KiB; what is far larger is another file."""

_PUBLIC: Final = {"sign": 32, "receive_x25519": 32, "receive_mlkem768": 1184}
_PRIVATE: Final = {"sign": 32, "receive_x25519": 32, "receive_mlkem768": 64}

# Ed25519 (RFC 8032, section 5.1): -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo p.
_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P

Key = TypeVar("Key")


class IdentityError(ValueError):
    """An identity file that cannot be used; the text names the field."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field, value in pairs:
        if field in fields:
            raise IdentityError(f"field {field[:40]!r} appears twice")
        fields[field] = value
    return fields


def _parse(text: str | bytes, kind: str) -> dict[str, Any]:
    """The file as a map. Raises IdentityError."""
    if len(text) > FILE_BYTES_MAX:
        raise IdentityError(f"this is no identity file: it has {len(text)} bytes, {FILE_BYTES_MAX} at most")
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except IdentityError:
        raise
    except (ValueError, RecursionError):
        raise IdentityError(f"the {kind} identity is not JSON: was the file damaged on its way?") from None
    if not isinstance(fields, dict):
        raise IdentityError(f"the {kind} identity must be one JSON object with the field format")
    return fields


def _read(text: str | bytes, kind: str, sizes: Mapping[str, int]) -> tuple[str, dict[str, bytes]]:
    """Name and raw keys of an identity file. Raises IdentityError naming the field, never showing a key."""
    fields = _parse(text, kind)
    # Format and kind come first: they say more of a wrong file than the fields that it has not.
    for field, wanted in (("format", FORMAT), ("kind", kind)):
        if field not in fields:
            raise IdentityError(f"field {field} is missing: this is no identity file")
        if fields[field] != wanted:
            raise IdentityError(f"field {field}: {str(fields[field])[:40]!r} was found, {wanted!r} is needed")
    known = {"format", "kind", "name", *sizes}
    missing, unknown = sorted(known - set(fields)), sorted(set(fields) - known)
    if missing:
        raise IdentityError(f"field {missing[0]} is missing")
    if unknown:
        raise IdentityError(f"field {unknown[0][:40]!r} is not known")
    try:
        if not isinstance(fields["name"], str):
            raise AddressError("name must be a text")
        name = check_name(fields["name"])
    except AddressError as error:
        raise IdentityError(f"field name: {error}") from None
    return name, {field: _key_bytes(field, fields[field], size) for field, size in sizes.items()}


def _key_bytes(field: str, value: Any, size: int) -> bytes:
    try:
        raw = base64.b64decode(value, validate=True)
    except (ValueError, TypeError):
        raw = None
    # The unused bits of the last letter could be anything: a second spelling of the same key.
    if raw is None or base64.b64encode(raw).decode() != value:
        raise IdentityError(f"field {field}: not base64")
    if len(raw) != size:
        raise IdentityError(f"field {field}: {len(raw)} bytes, {size} are needed")
    return raw


def _write(kind: str, name: str, keys: Mapping[str, bytes]) -> str:
    fields = {"format": FORMAT, "kind": kind, "name": name}
    encoded = {field: base64.b64encode(value).decode() for field, value in keys.items()}
    return json.dumps({**fields, **encoded}, indent=2) + "\n"


def _load(field: str, load: Callable[[bytes], Key], raw: bytes) -> Key:
    try:
        return load(raw)
    except UnsupportedAlgorithm:
        raise IdentityError(
            f"field {field}: the installed `cryptography` library cannot use keys of this kind"
        ) from None
    except ValueError:
        raise IdentityError(f"field {field}: not a valid key") from None


def _load_sign(raw: bytes) -> Ed25519PublicKey:
    """Refuses what `cryptography` takes: points off the curve, and small-order points, for which anybody can sign."""
    y = int.from_bytes(raw, "little") % 2**255
    over, under = (y * y - 1) % _P, (_D * y * y + 1) % _P  # x^2 = over / under
    on_curve = y < _P and pow(over * under, (_P - 1) // 2, _P) in {0, 1}
    # Orders 1 and 2: y = 1, -1; order 4: y = 0; order 8: the double has y = 0, so d y^4 + 2 y^2 = 1.
    if not on_curve or y * over * (_D * y**4 + 2 * y * y - 1) % _P == 0:
        raise ValueError
    return Ed25519PublicKey.from_public_bytes(raw)


def _load_x25519(raw: bytes) -> X25519PublicKey:
    """Refuses small-order points: the exchange gives zero, whatever the other key (RFC 7748, section 6.1)."""
    key = X25519PublicKey.from_public_bytes(raw)
    X25519PrivateKey.from_private_bytes(bytes(32)).exchange(key)
    return key


class PublicIdentity:
    """What everybody may know of a party."""

    __slots__ = ("_keys", "name", "receive_key", "receive_x25519_key", "sign_key")

    def __init__(self, name: str, keys: Mapping[str, bytes]) -> None:
        """From raw key bytes. Raises IdentityError naming the field of a bad key, AddressError for the name."""
        self.name = check_name(name)
        self._keys = {field: bytes(keys[field]) for field in _PUBLIC}
        self.sign_key = _load("sign", _load_sign, self._keys["sign"])
        self.receive_x25519_key = _load("receive_x25519", _load_x25519, self._keys["receive_x25519"])
        mlkem = _load("receive_mlkem768", MLKEM768PublicKey.from_public_bytes, self._keys["receive_mlkem768"])
        self.receive_key = MLKEM768X25519PublicKey(mlkem, self.receive_x25519_key)

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

    __slots__ = ("_keys", "_sign", "name", "public", "receive_key", "receive_x25519_key")

    def __init__(self, name: str, keys: Mapping[str, bytes]) -> None:
        """From raw private key bytes (ML-KEM as its 64-byte seed).

        Raises IdentityError naming the field of a bad key, AddressError for the name.
        """
        self.name = check_name(name)
        self._keys = {field: bytes(keys[field]) for field in _PRIVATE}
        self._sign = _load("sign", Ed25519PrivateKey.from_private_bytes, self._keys["sign"])
        self.receive_x25519_key = _load(
            "receive_x25519", X25519PrivateKey.from_private_bytes, self._keys["receive_x25519"]
        )
        mlkem = _load("receive_mlkem768", MLKEM768PrivateKey.from_seed_bytes, self._keys["receive_mlkem768"])
        self.receive_key = MLKEM768X25519PrivateKey(mlkem, self.receive_x25519_key)
        self.public = PublicIdentity(
            name,
            {
                "sign": self._sign.public_key().public_bytes_raw(),
                "receive_x25519": self.receive_x25519_key.public_key().public_bytes_raw(),
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
