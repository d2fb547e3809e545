"""`warren broker private`: a RabbitMQ of one's own on this machine, for trying things out and for the tutorial."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker.private import PrivateBroker
from messages.keys import AddressError, check_name
from services.party.configuration import ConfigError
from services.party.plain_text import plain

out = Console(highlight=False, soft_wrap=True)


def private(
    party: Annotated[list[str], typer.Option("--party", help="A party; repeat for each.")],
    directory: Annotated[
        Path, typer.Argument(help="Where its data go, and for each party a file <party>.url with the URL to log in at.")
    ] = Path("broker"),
) -> None:
    """Run a RabbitMQ on loopback ports of its own until Ctrl-C: for trials on one machine, never for real data."""
    for name in party:
        try:
            check_name(name)
        except AddressError as error:
            raise ConfigError(f"--party: {error}") from None
    directory.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with PrivateBroker(directory.resolve() / "rabbitmq", party) as broker:
        for name in party:
            write_url(directory / f"{name}.url", broker.amqp_url(name))
        write_url(directory / "administrator.url", broker.admin_url)
        out.print(plain(f"the broker runs; {', '.join(f'{directory}/{name}.url' for name in party)} say where"))
        stop.wait()


def write_url(path: Path, url: str) -> None:
    """A URL with a password, for its owner only; one of an earlier broker is replaced."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{url}\n", encoding="utf-8")
