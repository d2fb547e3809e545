"""`warren broker`: the topology, made by somebody who may."""

import asyncio
import logging
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from broker import applying
from messages.keys import AddressError, check_name
from services.party.configuration import LOCAL_HOSTS, ConfigError
from services.party.plain_text import plain

app = typer.Typer(help="Topology of the broker.", no_args_is_help=True)
out = Console(highlight=False)


@app.command()
def apply(
    url: Annotated[
        str, typer.Argument(help="Management URL (http...) with an administrator, or amqp URL (queues only).")
    ],
    party: Annotated[list[str], typer.Option("--party", help="A party; repeat for each.")],
    password: Annotated[
        list[str] | None, typer.Option("--password-file", help="party=FILE with the party's broker password.")
    ] = None,
) -> None:
    """Make exchange, queues, users and permissions. A daemon never does this itself."""
    check_url(url)
    for name in party:
        try:
            check_name(name)
        except AddressError as error:
            raise ConfigError(f"--party: {error}") from None
    passwords = dict(read_password(entry, party) for entry in password or [])
    logging.getLogger("aiormq").addHandler(logging.NullHandler())  # what it would print is in the error
    for line in asyncio.run(applying.apply(url, party, passwords=passwords or None)):
        out.print(plain(line))


def check_url(url: str) -> None:
    """An administrator's password leaves this machine under TLS only. Raises ConfigError, without the URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "amqp", "amqps"} or not parts.hostname:
        raise ConfigError("URL: give http[s]://user:password@host:port or amqp[s]://user:password@host/vhost")
    if parts.scheme in {"http", "amqp"} and parts.hostname not in LOCAL_HOSTS:
        raise ConfigError(f"URL: {parts.scheme}:// without TLS to {parts.hostname}; use {parts.scheme}s://")


def read_password(entry: str, parties: list[str]) -> tuple[str, str]:
    """(party, password) of `party=FILE`. Raises ConfigError."""
    name, _, file = entry.partition("=")
    if name not in parties or not file:
        raise ConfigError(f"--password-file {entry}: not PARTY=FILE with one of {', '.join(parties)}")
    found = Path(file).read_text(encoding="utf-8").strip()
    if not found:
        raise ConfigError(f"--password-file {entry}: the file is empty")
    return name, found
