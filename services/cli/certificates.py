"""`warren tls`: certificates for a trial, and what one says."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker.certificates import CERTIFICATE_DAYS, Authority, make_development, read_certificate, write_file
from broker.signing import make_request, sign_request
from services.cli.failures import FAILED
from services.party.plain_text import plain

app = typer.Typer(help="Certificates of brokers and of parties at their broker.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)


@app.command()
def dev(
    directory: Annotated[Path, typer.Argument(help="Where authority, certificates and keys go; made when missing.")],
    broker: Annotated[list[str], typer.Option("--broker", help="Host name or address of the broker; repeat for each.")],
    party: Annotated[list[str], typer.Option("--party", help="A party that logs in; repeat for each.")],
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="A party with a broker of its own that collects from this one; repeat for each."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of the certificates.")] = CERTIFICATE_DAYS,
    renew: Annotated[bool, typer.Option("--renew", help="Make them anew, signed by the authority there is.")] = False,
    for_containers: Annotated[
        bool,
        typer.Option("--for-containers", help="Let other users read the keys; the directory stays closed to them."),
    ] = False,
) -> None:
    """Make a development authority, and certificates for a broker and its parties.

    What is there is kept: run it again to add a party. For production, keys are made where they are used.
    """
    told = make_development(
        directory, broker, party, peers=peer or (), days=days, renew=renew, shared_keys=for_containers
    )
    for line in told:
        out.print(plain(line))


@app.command()
def request(
    directory: Annotated[Path, typer.Argument(help="Where key and request go; made when missing.")],
    name: Annotated[str, typer.Option("--name", help="The party, shovel.<peer>, or the broker's first host.")],
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Of a broker: host name or address; repeat for each.")
    ] = None,
) -> None:
    """Make a key where it is used, and a request for an authority to sign. The key stays; the request is no secret."""
    key, made = make_request(directory, name, host or ())
    out.print(plain(f"{key}: a new key, stays here"))
    out.print(plain(f"{made}: for the authority to sign"))


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="The request, in PEM, of `warren tls request` or of openssl.")],
    authority: Annotated[Path, typer.Option("--authority", help="Directory with ca.pem and ca.key.")],
    name: Annotated[str, typer.Option("--name", help="Whose it must be: another name is refused.")],
    out_file: Annotated[Path, typer.Option("--out", help="Where the certificate goes.")],
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Of a broker: host name or address; repeat for each.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of the certificate.")] = CERTIFICATE_DAYS,
) -> None:
    """Sign a request with an authority of `warren tls dev`: for a client, or with --host for a broker."""
    made = sign_request(file, Authority.load(authority), name, now=datetime.now(UTC), days=days, hosts=host or ())
    write_file(out_file, made, 0o644)
    said = f"hosts {', '.join(host)}" if host else f"broker user {name}"
    out.print(plain(f"{out_file}: {said}, valid until {read_certificate(out_file).not_after:%Y-%m-%d}"))


@app.command()
def show(
    file: Annotated[list[Path], typer.Argument(help="A certificate in PEM; repeat for each.")],
) -> None:
    """Show whose certificates these are, for which hosts, and until when; exit code 1 when one is over."""
    now, over = datetime.now(UTC), False
    for path in file:
        found = read_certificate(path)
        hosts = f", hosts {', '.join(found.hosts)}" if found.hosts else ""
        left = "EXPIRED" if found.expired(now) else f"{found.days_left(now)} days left"
        over = over or found.expired(now)
        line = f"{path}: {found.name}{hosts}, by {found.issuer}, until {found.not_after:%Y-%m-%d %H:%M} UTC ({left})"
        out.print(plain(line))
    if over:
        raise typer.Exit(FAILED)
