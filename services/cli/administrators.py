"""An administrator's login at a broker: from where others on this machine do not see it."""

import getpass
import sys
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

import typer

from services.cli.failures import warn
from services.cli.secret_files import read_password
from services.party.configuration import LOCAL_HOSTS, ConfigError

VARIABLE: Final = "WARREN_MANAGEMENT_URL"
FILE_OPTION: Final = "--administrator-file"

AdministratorFile = Annotated[
    str,
    typer.Option(
        FILE_OPTION,
        metavar="USER=FILE",
        help="The administrator's name, and a file with the password. Without it, and without a password in the URL, "
        "the password is asked for.",
    ),
]


def given_as_argument(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands in the command line, where the list of processes shows it."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def warn_of_password(context: typer.Context, name: str, url: str, instead: str) -> None:
    """Say so when a password stands in the command line. `name`: of the parameter; `instead`: what to do."""
    try:
        found = bool(urlsplit(url).password)
    except ValueError:
        found = False
    if found and given_as_argument(context, name):
        warn(f"the password in the URL stands in the command line, where others on this machine can read it; {instead}")


def check_url(url: str) -> None:
    """An administrator's password leaves this machine under TLS only. Raises ConfigError, without the URL."""
    form = "give http[s]://user@host:port or amqp[s]://user@host/vhost"
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError(f"URL: this is no URL; {form}") from None
    if parts.scheme not in {"http", "https", "amqp", "amqps"} or not parts.hostname or not port_fits:
        raise ConfigError(f"URL: {form}")
    if parts.scheme in {"http", "amqp"} and parts.hostname not in LOCAL_HOSTS:
        raise ConfigError(f"URL: {parts.scheme}:// without TLS to {parts.hostname}; use {parts.scheme}s://")


def administrators_url(context: typer.Context, name: str, url: str, file: str) -> str:
    """The URL with user and password, from itself, a file, or the terminal. Raises ConfigError, without the URL.

    Args:
        context: of the command.
        name: of its parameter with the URL.
        url: as it was given.
        file: `USER=FILE`, or empty.

    """
    check_url(url)
    warn_of_password(context, name, url, f"leave it out to be asked for it, or use {FILE_OPTION} or {VARIABLE}")
    parts = urlsplit(url)
    if file:
        user, password = read_password(file, FILE_OPTION)
        if parts.password or (parts.username and parts.username != quote(user, safe="")):
            raise ConfigError(f"URL and {FILE_OPTION} both name an administrator: leave it out of the URL")
        return _with_login(url, quote(user, safe=""), password)
    if parts.password is not None or (parts.scheme.startswith("amqp") and not parts.username):
        return url  # the second: by client certificate, or as the broker's guest
    if not parts.username:
        raise ConfigError(f"URL: whose? Name the administrator, https://USER@{parts.hostname}..., or use {FILE_OPTION}")
    if not sys.stdin.isatty():
        raise ConfigError(f"URL: no password, and no terminal to ask for it: use {FILE_OPTION} or {VARIABLE}")
    return _with_login(url, parts.username, getpass.getpass(f"Password of {parts.username} at {parts.hostname}: "))


def _with_login(url: str, user: str, password: str) -> str:
    """`user` is quoted already."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
