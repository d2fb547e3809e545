"""`warren console`: a link into the web console of the running daemon."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.console.access import Access, renew, secret_of
from services.daemon.control import ControlClient
from services.party.configuration import ConfigError, load_party
from services.party.listening import address_of

out = Console(highlight=False, soft_wrap=True)

PARTY = Path("party.toml")


def console(
    party: Annotated[Path, typer.Option("--party", "-p", help="party.toml of the running daemon.")] = PARTY,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser of this machine.")] = False,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="End all sessions instead: they hold until the daemon's next start.")
    ] = False,
    metrics_token: Annotated[
        bool, typer.Option("--metrics-token", help="Print the bearer token of /metrics instead.")
    ] = False,
) -> None:
    """Print a link into the web console: good for five minutes, and for one browser."""
    loaded = load_party(party)
    if not loaded.file.console:
        raise ConfigError(
            f'{party}: there is no key console; add `console = "127.0.0.1:8700"` and start the daemon again'
        )
    if new_token:
        renew(loaded.data_directory)
        out.print("there is a new token; start the daemon again, and no link or session of before is good any more")
        return
    with ControlClient(loaded.data_directory):
        pass  # says so when no daemon runs
    access = Access(secret_of(loaded.data_directory))
    if metrics_token:
        out.print(access.metrics_token)
        return
    address = address_of(loaded.file.console)
    host = address.shown if address.loopback else loaded.file.console_hosts[0]
    link = f"http://{host}/enter?ticket={access.ticket()}"
    out.print(link)
    if open_:
        webbrowser.open(link)
