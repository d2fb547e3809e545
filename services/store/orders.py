"""Decisions of an operator that hold until they are taken back, over all jobs: `orders.json` in the data directory.

What is decided of one job and ends it is an event of that job; what stands here outlives jobs, and a restart.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from messages.schemas import Name
from services.store.data_directory import sync_directory

FILE: Final = "orders.json"


class OrdersDamaged(Exception):
    """The file cannot be read: names it, and what to do."""


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No job with `partner` uses the data set (empty: any of them). `at`: seconds since 1970, UTC."""

    partner: Name
    dataset: str = ""
    reason: str
    at: float

    def covers(self, parties: tuple[str, ...], dataset: str) -> bool:
        """Whether a job of these parties on the own data set is meant."""
        return self.partner in parties and self.dataset in ("", dataset)


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds at present."""

    revoked: tuple[Revocation, ...] = ()
    paused_jobs: tuple[Name, ...] = ()
    paused_partners: tuple[Name, ...] = ()


def read_orders(data_directory: Path) -> Orders:
    """What stands; nothing where nothing was ever decided. Raises OrdersDamaged."""
    path = data_directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Orders)
    except FileNotFoundError:
        return Orders()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OrdersDamaged(
            f"{path}: cannot be read ({error}): revocations and pauses stand in it; restore it from a backup, or "
            "remove it and decide them anew"
        ) from None


def write_orders(data_directory: Path, orders: Orders) -> None:
    """Make it durable, before anybody acts on it. Raises OSError."""
    fresh = data_directory / f"{FILE}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(orders), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(data_directory / FILE)
    sync_directory(data_directory)
