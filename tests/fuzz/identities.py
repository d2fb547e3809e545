"""Parties whose keys never change, so that a kept input stays correctly signed. They are for tests only."""

import functools
import hashlib
from typing import Final

from messages.identity import Identity, PublicIdentity

ME: Final = "bank"
PARTNER: Final = "shop"
OTHER: Final = "tower"
STRANGER: Final = "mallory"


@functools.cache
def identity(name: str) -> Identity:
    def raw(field: str, size: int) -> bytes:
        return hashlib.shake_256(f"warren fuzzing {name} {field}".encode()).digest(size)

    return Identity(
        name,
        {"sign": raw("sign", 32), "receive_x25519": raw("x25519", 32), "receive_mlkem768": raw("mlkem768", 64)},
    )


@functools.cache
def peers() -> dict[str, PublicIdentity]:
    """Whom `ME` knows."""
    return {name: identity(name).public for name in (PARTNER, OTHER)}
