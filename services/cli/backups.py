"""`warren backup` and `warren restore`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.daemon.backup import back_up
from services.daemon.backup import restore as restored
from services.party.configuration import load_party
from services.party.plain_text import plain

out = Console(highlight=False)
PARTY = Path("party.toml")


def backup(
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The backup; it must not exist. It holds every secret.")],
    party: Annotated[Path, typer.Option("--party", "-p", help="Its party.toml; the daemon has to rest.")] = PARTY,
    without_journal: Annotated[
        bool, typer.Option("--without-journal", help="For a journal at a database server, which is backed up there.")
    ] = False,
) -> None:
    """Write a party to one file: configuration, keys, peers, and its whole data directory; not its data sets."""
    made = back_up(load_party(party), party, file, without_journal=without_journal)
    what = "" if made.journal else ", without its journal"
    out.print(plain(f"{made.party} is in {file}{what}: keep it as you keep its keys"), soft_wrap=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `warren backup` wrote.")],
    party: Annotated[Path, typer.Option("--party", "-p", help="Where party.toml goes; it must not exist.")] = PARTY,
) -> None:
    """Put a party back from a backup, here or on another host."""
    made = restored(file, party)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made.made_at))
    out.print(plain(f"{made.party} is as it was at {when} UTC; never run it beside its original"), soft_wrap=True)
