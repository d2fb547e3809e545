"""Where a journal may be: the key `journal` of party.toml, told before anything of it is opened."""

import importlib.util
from pathlib import Path
from typing import Final

from services.party.sources import UNCHECKED, open_to_others

DRIVERS: Final = {"sqlite": ("sqlite", "sqlite+pysqlite"), "postgresql": ("postgresql", "postgresql+psycopg")}
_EXAMPLE: Final = "postgresql+psycopg://user@host/database"


class JournalUnfit(ValueError):
    """A URL that names no journal; the text says why and what to write. The URL, with its password, is not in it."""


def check_journal(url: str) -> None:
    """Raises JournalUnfit."""
    # Commands that ask a running daemon know of no journal but that in the data directory, and start without this.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise JournalUnfit(f"this is no URL; write {_EXAMPLE}") from None
    kind = parsed.get_backend_name()
    if parsed.drivername not in DRIVERS.get(kind, ()):
        raise JournalUnfit(f"{parsed.drivername}:// is not {_EXAMPLE}")
    if kind == "sqlite":
        _check_file(parsed.database or "")
        return
    if not parsed.database:
        raise JournalUnfit(f"no database is named; write {_EXAMPLE}")
    mode = _all(parsed.query.get("sslmode", ""))[-1]
    for host in _all(parsed.query.get("host", parsed.host or "")):
        if open_to_others(host, mode):
            raise JournalUnfit(f"{host} {UNCHECKED}")
    if importlib.util.find_spec("psycopg") is None:
        raise JournalUnfit("PostgreSQL needs the package psycopg: pip install 'warren[postgresql]'")


def _all(values: str | tuple[str, ...]) -> list[str]:
    """Hosts may be repeated, or stand in one text with commas."""
    return (values if isinstance(values, str) else ",".join(values)).split(",")


def _check_file(name: str) -> None:
    path = Path(name)
    if not path.is_absolute():
        raise JournalUnfit("a file is named by its whole path, sqlite:////var/lib/...; without the key there is one")
    if not path.parent.is_dir():
        raise JournalUnfit(f"there is no directory {path.parent}: make it, or correct the path")
