"""One secret in, any number of independent random streams out.

Every random number of the protocol (blinding, re-randomisation, masks, windows, keys) is expanded from one
secret of the party, keyed with what it is for and with everything it depends on (docs/protocol.md, section
7): a task that is run again draws the same numbers, other inputs never share any.

Key of a stream: HMAC-SHA256 (RFC 2104) of the encoded purpose and parts. Bytes of a stream: AES-256 in
counter mode (NIST SP 800-38A) from counter zero, each key being used for one stream only.
"""

import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

SECRET_BYTES_MIN = 32

Part = int | str | bytes


class RandomStream:
    """An endless, deterministic byte stream. Reading a and then b bytes equals reading a + b bytes."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "RandomStream(<secret>)"

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes."""
        return self._cipher.update(bytes(count))

    def bits(self, count: int) -> int:
        """Uniform in [0, 2^count)."""
        return self.below(1 << count)

    def below(self, bound: int) -> int:
        """Uniform in [0, bound), by rejection. Raises ValueError for a bound under 1."""
        return self.many_below(bound, 1)[0]

    def many_below(self, bound: int, count: int) -> list[int]:
        """`count` independent numbers, uniform in [0, bound): the same as `count` calls of `below`."""
        rows = self.many_below_bytes(bound, count)
        width = rows.shape[1]
        data = rows.tobytes()
        return [int.from_bytes(data[at * width : (at + 1) * width], "little") for at in range(count)]

    def many_below_bytes(self, bound: int, count: int) -> NDArray[np.uint8]:
        """`many_below` as little-endian bytes, shape (count, bytes of bound - 1)."""
        if bound < 1 or count < 0:
            raise ValueError("a bound is at least 1 and a count at least 0")
        bits = (bound - 1).bit_length()
        width = (bits + 7) // 8
        if width == 0:
            return np.zeros((count, 0), dtype=np.uint8)
        accepted: list[NDArray[np.uint8]] = []
        missing = count
        while missing:
            # Never a candidate more than is missing: a batch must leave the stream where single draws would.
            rows = np.frombuffer(self.bytes(missing * width), dtype=np.uint8).reshape(missing, width).copy()
            rows[:, -1] &= 0xFF >> (8 * width - bits)
            if bound != 1 << bits:
                rows = rows[_below(rows, bound)]
            accepted.append(rows)
            missing -= len(rows)
        return np.concatenate(accepted) if accepted else np.zeros((0, width), dtype=np.uint8)


def _below(rows: NDArray[np.uint8], bound: int) -> NDArray[np.bool_]:
    """Which little-endian numbers are below a bound of as many bytes."""
    width = rows.shape[1]
    head = min(width, 8)
    padded = np.zeros((len(rows), 8), dtype=np.uint8)
    padded[:, :head] = rows[:, width - head :]
    heads, limit = padded.view("<u8")[:, 0], bound >> 8 * (width - head)
    keep: NDArray[np.bool_] = heads < np.uint64(limit)
    # Only a number that begins like the bound needs a closer look.
    for at in np.flatnonzero(heads == np.uint64(limit)):
        keep[at] = int.from_bytes(rows[at].tobytes(), "little") < bound
    return keep


class Randomness:
    """The secret of a party (at least 32 bytes from the operating system), as a source of streams."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(f"a secret has at least {SECRET_BYTES_MIN} bytes")
        self._secret = bytes(secret)

    def __repr__(self) -> str:
        return "Randomness(<secret>)"

    def stream(self, purpose: str, *parts: Part) -> RandomStream:
        """The stream of this purpose and these parts: the same for the same arguments, else independent."""
        return RandomStream(hmac.digest(self._secret, encode_parts(purpose, *parts), "sha256"))


def encode_parts(*parts: Part) -> bytes:
    """Parts as bytes, one to one: each with its type and its length, so that no two tuples collide.

    Raises TypeError for anything but int, str and bytes.
    """
    encoded = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            kind, data = b"b", part
        elif isinstance(part, str):
            kind, data = b"s", part.encode("utf-8")
        elif isinstance(part, int):
            kind, data = b"i", int(part).to_bytes(part.bit_length() // 8 + 1, "big", signed=True)
        else:
            raise TypeError(f"a part is an int, a str or bytes, not {type(part).__name__}")
        encoded += kind + len(data).to_bytes(8, "big") + data
    return bytes(encoded)
