"""`warren identity` and `warren peer`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from messages.identity import Identity, PublicIdentity
from services.daemon.rotation import change_keys, keep_former, update_peer
from services.party.configuration import (
    ConfigError,
    load_party,
    read_identity,
    read_peers,
    read_public,
    write_private,
)
from services.party.plain_text import plain

identity = typer.Typer(help="This party's own keys.", no_args_is_help=True)
peer = typer.Typer(help="The partners this party knows.", no_args_is_help=True)
out = Console(highlight=False)

PARTY = Path("party.toml")
PartyOption = Annotated[Path, typer.Option("--party", "-p", help="party.toml")]
Peers = Annotated[Path, typer.Option("--peers", help="Directory of the peers' public identity files.")]


@identity.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where the two files go.")] = Path("identity"),
    name: Annotated[str, typer.Option("--name", help="The party's name: a-z, 0-9 and -, at most 40.")] = "",
) -> None:
    """Make an identity: a private file (mode 0600, never leaves) and a public one (for the partners)."""
    if not name:
        raise ConfigError("--name: every party needs a name, such as --name bank")
    fresh = Identity.generate(name)
    private, public = directory / f"{name}.private.json", directory / f"{name}.public.json"
    write_private(private, fresh.to_bytes())
    public.write_text(fresh.public.to_json(), encoding="utf-8")
    out.print(plain(f"private identity  {private}  (keep it; nobody else needs it)"), soft_wrap=True)
    out.print(plain(f"public identity   {public}  (give it to your partners)"), soft_wrap=True)
    out.print(f"fingerprint       [bold]{fresh.public.fingerprint}[/]  (compare it by telephone)")


@identity.command()
def show(file: Annotated[Path, typer.Argument(help="A private or public identity file.")]) -> None:
    """Show a party's name and fingerprint."""
    found = read_identity(file).public if ".private." in file.name else read_public(file)
    out.print(f"{found.name}  {found.fingerprint}")


@identity.command()
def rotate(
    party: PartyOption = PARTY,
    end_running: Annotated[
        bool, typer.Option("--end-running", help="End jobs that run; without it they keep the keys from being changed.")
    ] = False,
) -> None:
    """Make new keys, signed for by the present ones, with the daemon stopped; partners run `warren peer update`."""
    changed = change_keys(load_party(party), end_running=end_running, chained=True)
    out.print(
        plain(f"hand-over    {changed.handover}  (give it to your partners: `warren peer update FILE`)"), soft_wrap=True
    )
    out.print(f"fingerprint  [bold]{changed.public.fingerprint}[/]")


@identity.command()
def revoke(party: PartyOption = PARTY) -> None:
    """Make new keys that nothing vouches for: the present ones are known to others. Jobs that run end."""
    changed = change_keys(load_party(party), end_running=True, chained=False)
    out.print(
        plain(
            "tell your partners by telephone NOW: each runs `warren peer remove`, then `warren peer add` with the new "
            f"public file {changed.public_file}"
        ),
        soft_wrap=True,
    )
    out.print(f"fingerprint  [bold]{changed.public.fingerprint}[/]  (compare it by telephone)")


@peer.command()
def update(
    file: Annotated[Path, typer.Argument(help="The partner's hand-over file.")], peers: Peers = Path("peers")
) -> None:
    """Take a partner's new keys, if its former ones signed for them. They hold from the daemon's next start on."""
    fresh = update_peer(file, peers)
    out.print(f"{fresh.name} has new keys from the daemon's next start on: [bold]{fresh.fingerprint}[/]")


@peer.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The partners' public files.")],
    peers: Peers = Path("peers"),
) -> None:
    """Add partners. Compare the fingerprint with each of them by telephone before the first job."""
    for found in [read_public(file) for file in files]:
        _add(found, peers)


def _add(found: PublicIdentity, peers: Path) -> None:
    known = read_peers(peers)
    if found.name in known:
        if known[found.name] == found:
            out.print(f"{found.name} is known already")
            return
        raise ConfigError(
            f"{peers}: {found.name} is known with other keys ({known[found.name].fingerprint}); if the partner "
            f"really has a new identity, run `warren peer remove {found.name}` first"
        )
    peers.mkdir(parents=True, exist_ok=True)
    (peers / f"{found.name}.public.json").write_text(found.to_json(), encoding="utf-8")
    out.print(f"added {found.name}: compare by telephone  [bold]{found.fingerprint}[/]")


@peer.command(name="list")
def list_(peers: Peers = Path("peers")) -> None:
    """All partners and their fingerprints."""
    table = Table("name", "fingerprint", box=None)
    for found in read_peers(peers).values():
        table.add_row(found.name, found.fingerprint)
    out.print(table)


@peer.command()
def remove(name: Annotated[str, typer.Argument(help="The partner's name.")], peers: Peers = Path("peers")) -> None:
    """Forget a partner; from the daemon's next start on its jobs are over and its messages parked."""
    for path in sorted(peers.glob("*.json")):
        if read_public(path).name == name:
            keep_former(peers, read_public(path))
            path.unlink()
            out.print(f"removed {name}")
            return
    raise ConfigError(f"{peers}: there is no peer {name!r}; `warren peer list` shows them")
