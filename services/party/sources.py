"""Where the rows of a data set come from: a file, or a query to a PostgreSQL. What party.toml may say of it."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

SCHEMES: Final = ("postgresql", "postgres")
ENVIRONMENT: Final = "env:"
_LOCAL: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})
_ENCRYPTED: Final = frozenset({"verify-full", "verify-ca"})
UNCHECKED: Final = (
    "is another machine and its certificate would not be checked; add ?sslmode=verify-full&sslrootcert=FILE"
)
"""What is said of a host that is `open_to_others`."""


class SourceUnfit(ValueError):
    """A source or its credentials that cannot be used; the text says what to do and holds no secret."""


def is_database(source: str) -> bool:
    """Whether a source is a database and no file."""
    return source.partition(":")[0] in SCHEMES


def check_source(source: str, query: str, credentials: str) -> None:
    """Refuse what party.toml must not say. Raises SourceUnfit."""
    if not is_database(source):
        if query or credentials:
            raise SourceUnfit("key query: belongs to a source that begins with postgresql:// ; name a file or a query")
        return
    if not query.strip():
        raise SourceUnfit('key query: is missing; write query = "SELECT ..." beside the source')
    try:
        parts = urlsplit(source)
        options = parse_qs(parts.query)
        host = (options.get("host") or [parts.hostname or ""])[-1]
        secret = parts.password or options.get("password") or options.get("passfile")
    except ValueError:
        # Not the library's text: it may quote the password.
        raise SourceUnfit("key source: this is no URL; write postgresql://host/database") from None
    if secret:
        raise SourceUnfit(
            "key source: no password may stand in party.toml; put it in a file of mode 0600 and name that with "
            '`credentials = "FILE"`, or in the environment with `credentials = "env:NAME"`'
        )
    mode = (options.get("sslmode") or [""])[-1]
    if open_to_others(host, mode):
        raise SourceUnfit(f"key source: {host} {UNCHECKED}")


def open_to_others(host: str, sslmode: str) -> bool:
    """Whether a PostgreSQL's client would send what it has over a network to whoever answers there."""
    return host not in _LOCAL and not host.startswith("/") and sslmode not in _ENCRYPTED


def read_credentials(credentials: str) -> tuple[str, str]:
    """(user, password) from `env:NAME` (user:password), or from a file with both keys in TOML. Raises SourceUnfit."""
    if credentials.startswith(ENVIRONMENT):
        name = credentials.removeprefix(ENVIRONMENT)
        user_of, colon, password_of = os.environ.get(name, "").partition(":")
        if not user_of or not colon:
            raise SourceUnfit(f"the environment variable {name} is not user:password; set it where the daemon starts")
        return user_of, password_of
    path = Path(credentials)
    try:
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceUnfit(f"{path}: cannot be read ({(error.strerror or 'unknown error').lower()})") from None
    except ValueError:
        raise SourceUnfit(f'{path}: is not TOML; write user = "..." and password = "..."') from None
    if open_to_others:
        raise SourceUnfit(f"{path}: other users may read it; run `chmod 600 {path}`")
    user, password = found.get("user"), found.get("password")
    if not isinstance(user, str) or not isinstance(password, str):
        raise SourceUnfit(f'{path}: needs user = "..." and password = "..."')
    return user, password
