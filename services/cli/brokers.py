"""`warren broker`: the topology, made by somebody who may, or written down for a broker to load at boot."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from broker import applying
from broker.definitions import PeerBroker, linked, peer_broker, shared
from broker.definitions import watcher as watcher_document
from broker.topology import NEWEST_VERSION, TopologyError, Version, parse_version
from messages.keys import AddressError, check_name
from services.cli.administrators import VARIABLE, AdministratorFile, administrators_url, check_url
from services.cli.private_broker import private
from services.cli.secret_files import read_password
from services.party.configuration import ConfigError
from services.party.plain_text import plain

app = typer.Typer(help="Topology of the broker.", no_args_is_help=True)
out = Console(highlight=False)

Parties = Annotated[list[str] | None, typer.Option("--party", help="A party at a shared broker; repeat for each.")]
Own = Annotated[str, typer.Option("--own", help="The party whose own broker this is, instead of --party.")]
Peers = Annotated[
    list[str] | None,
    typer.Option("--peer", metavar="PARTY=HOST[:PORT]", help="A peer's broker, from which the own one collects."),
]
Certificates = Annotated[
    str,
    typer.Option(help="With --peer: where the own broker finds <peer>.ca.pem, <peer>.pem and <peer>.key."),
]
Mqtt = Annotated[list[str] | None, typer.Option("--mqtt", help="One of the parties that speaks MQTT; repeat for each.")]
PasswordFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--password-file", help="party=FILE with its broker password; without it, login by client certificate alone."
    ),
]
IN_CONTAINER = "/run/secrets"


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which broker this is: shared by `parties`, or the `own` one of a party with `peers`."""

    parties: tuple[str, ...]
    own: str
    peers: tuple[PeerBroker, ...]
    certificates: PurePosixPath
    mqtt: tuple[str, ...]

    @property
    def users(self) -> tuple[str, ...]:
        """Parties that log in here."""
        return (self.own,) if self.own else self.parties

    def document(
        self, version: Version, passwords: Mapping[str, str], administrators: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        """What the broker loads. Raises ConfigError."""
        access: dict[str, Any] = {"version": version, "passwords": passwords, "administrators": administrators}
        if not self.own:
            return shared(self.parties, mqtt=self.mqtt, **access)
        try:
            return linked(self.own, self.peers, certificates=self.certificates, **access)
        except ValueError as error:
            raise ConfigError(f"--peer: {error}") from None


def shape_of(
    party: list[str] | None, own: str, peer: list[str] | None, certificates: str, mqtt: list[str] | None
) -> _Shape:
    """The shape that options say. Raises ConfigError naming the option."""
    if bool(party) == bool(own):
        raise ConfigError("give each --party of a shared broker, or --own and each --peer of an organisation's own")
    if bool(own) != bool(peer):
        raise ConfigError("--own and --peer belong together: a broker of one party is linked with its peers' brokers")
    for name in (*(party or ()), *([own] if own else [])):
        try:
            check_name(name)
        except AddressError as error:
            raise ConfigError(f"{'--own' if own else '--party'}: {error}") from None
    strangers = set(mqtt or ()) - set(party or ())
    if strangers:
        raise ConfigError(f"--mqtt: {', '.join(sorted(strangers))} is no --party")
    try:
        peers = tuple(map(peer_broker, peer or ()))
    except ValueError as error:
        raise ConfigError(f"--peer: {error}") from None
    return _Shape(tuple(party or ()), own, peers, PurePosixPath(certificates), tuple(mqtt or ()))


@app.command()
def apply(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            envvar=VARIABLE,
            help="Management URL of an administrator, https://USER@HOST:15671; or amqp URL (queues only).",
        ),
    ],
    party: Parties = None,
    own: Own = "",
    peer: Peers = None,
    certificates: Certificates = IN_CONTAINER,
    mqtt: Mqtt = None,
    password: PasswordFiles = None,
    administrator: AdministratorFile = "",
) -> None:
    """Make exchange, queues, users, permissions and shovels. A daemon never does this itself.

    The administrator's password is asked for, or comes from a file or the environment.
    """
    shape = shape_of(party, own, peer, certificates, mqtt)
    passwords = read_passwords(password, shape.users)
    url = administrators_url(context, "url", url, administrator)
    if urlsplit(url).scheme in {"amqp", "amqps"}:
        if shape.own:
            raise ConfigError("URL: shovels are made at the management URL (http...)")
        logging.getLogger("aiormq").addHandler(logging.NullHandler())  # what it would print is in the error
        told = asyncio.run(applying.apply(url, shape.parties, mqtt=shape.mqtt))
    else:
        wanted: Callable[[Version], dict[str, object]] = lambda version: shape.document(version, passwords)  # noqa: E731
        told = applying.make(url, wanted, overwrite_users=passwords)
    for line in told:
        out.print(plain(line))


@app.command()
def definitions(
    party: Parties = None,
    own: Own = "",
    peer: Peers = None,
    certificates: Certificates = IN_CONTAINER,
    mqtt: Mqtt = None,
    password: PasswordFiles = None,
    administrator: Annotated[
        list[str] | None,
        typer.Option("--administrator-file", help="user=FILE with the password of an administrator of the broker."),
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the RabbitMQ that will load it.")] = ".".join(
        map(str, NEWEST_VERSION)
    ),
) -> None:
    """Print what RabbitMQ is to load at boot (`load_definitions`), as JSON; a password appears as salted hash.

    One broker for all: each `--party`. A broker per organisation: `--own` and each `--peer`.
    """
    shape = shape_of(party, own, peer, certificates, mqtt)
    try:
        number = parse_version(version)
    except TopologyError:
        raise ConfigError(f"--version {version}: give it like 4.3") from None
    passwords = read_passwords(password, shape.users)
    administrators = dict(read_password(entry, "--administrator-file") for entry in administrator or ())
    document = shape.document(number, passwords, administrators)
    typer.echo(json.dumps(document, indent=2))


@app.command()
def watcher(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Management URL of an administrator, https://USER@HOST:15671.")],
    name: Annotated[str, typer.Argument(help="The user; not a party.")],
    password_file: Annotated[
        Path | None, typer.Option(help="FILE with its broker password; without it, login by client certificate alone.")
    ] = None,
    administrator: AdministratorFile = "",
) -> None:
    """Make a user who reads where jobs stand (`warren watch`), and can neither send nor see anything else."""
    check_url(url)
    if urlsplit(url).scheme in {"amqp", "amqps"}:
        raise ConfigError("URL: users are made at the management URL (http...)")
    try:
        check_name(name)
    except AddressError as error:
        raise ConfigError(f"NAME: {error}") from None
    password = read_password(f"{name}={password_file}", "--password-file")[1] if password_file else None
    url = administrators_url(context, "url", url, administrator)
    document = watcher_document(name, password)
    for line in applying.make(url, lambda _: document, overwrite_users=[name] if password else []):
        out.print(plain(line))


def read_passwords(entries: list[str] | None, parties: tuple[str, ...]) -> dict[str, str]:
    """Passwords by party. Raises ConfigError."""
    for entry in entries or ():
        if entry.partition("=")[0] not in parties or "=" not in entry:
            raise ConfigError(f"--password-file {entry}: not PARTY=FILE with one of {', '.join(parties)}")
    return dict(read_password(entry, "--password-file") for entry in entries or ())


app.command()(private)
