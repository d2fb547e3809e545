"""Who may use the console: a secret in the data directory, tickets made from it, and sessions that tickets become.

- The *secret* is 32 random bytes in `<data directory>/console.token`, mode 0600. It never leaves that file.
- A *ticket* is in the link that `warren console` prints: good for five minutes, and once; a daemon that was started
  since takes none from before, as it does not know which were used. Anybody who can read the file can make one, and
  nobody else.
- A *session* is what the browser gets for a ticket: a cookie, and a *key* that the page keeps to itself. Both are
  needed: cookies go to every port of a host, so that another program on 127.0.0.1 could be shown one, a key never.

All three are names with an HMAC-SHA256 under the secret, told apart by their purpose: nothing has to be remembered but
which tickets were used, and a session outlives a restart of the daemon.
"""

import base64
import hashlib
import hmac
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.party.configuration import ConfigError, write_private

TOKEN_FILE: Final = "console.token"  # noqa: S105
SECRET_BYTES: Final = 32
TICKET_S: Final = 300.0
SESSION_S: Final = 7 * 86_400.0
TICKETS_KEPT_MAX: Final = 10_000

_TICKET: Final = b"ticket"
_SESSION: Final = b"session"
_KEY: Final = b"key"
_METRICS: Final = b"metrics"


def secret_of(data_directory: Path) -> bytes:
    """The console's secret, made when there is none. Raises ConfigError for a file that others may read."""
    path = data_directory / TOKEN_FILE
    if not path.exists():
        with suppress(ConfigError):  # another process was faster
            write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)) + b"\n")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(
            f"{path}: other users may read it and enter the console; remove it and restart the daemon, which makes "
            "a new one"
        )
    try:
        found = base64.urlsafe_b64decode(path.read_bytes().strip())
    except ValueError:
        found = b""
    if len(found) != SECRET_BYTES:
        raise ConfigError(f"{path}: this is no console token; remove it and restart the daemon, which makes a new one")
    return found


class Access:
    """Makes and judges tickets, sessions and keys. `clock`: seconds since 1970."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._used: dict[str, float] = {}
        self._since = int(clock())

    def __repr__(self) -> str:
        return "Access()"

    def ticket(self) -> str:
        """A new ticket."""
        return self._named(_TICKET, TICKET_S)

    def enter(self, ticket: str) -> str:
        """The session that a ticket becomes, or nothing: for one that is wrong, too old or used."""
        if not self._holds(_TICKET, ticket) or ticket in self._used:
            return ""
        if float(ticket.partition(".")[0]) < self._since + int(TICKET_S):
            return ""  # made before this daemon began: it may have been used
        now = self._clock()
        self._used = {name: until for name, until in self._used.items() if until > now}
        if len(self._used) >= TICKETS_KEPT_MAX:
            return ""
        self._used[ticket] = now + TICKET_S
        return self._named(_SESSION, SESSION_S)

    def session_holds(self, session: str) -> bool:
        """Whether a cookie is one of ours and not too old."""
        return self._holds(_SESSION, session)

    def key_of(self, session: str) -> str:
        """The key that belongs to a session."""
        return self._mac(_KEY, session)

    def may(self, session: str, key: str) -> bool:
        """Whether cookie and key belong together and are ours."""
        held = self._holds(_SESSION, session)
        return _same(self.key_of(session), key) and held

    @property
    def metrics_token(self) -> str:
        """The bearer token with which a monitor reads `/metrics`, and nothing else."""
        return self._mac(_METRICS, "")

    def monitor_may(self, token: str) -> bool:
        """Whether this is the monitor's token."""
        return _same(self.metrics_token, token)

    def _named(self, purpose: bytes, seconds: float) -> str:
        name = f"{int(self._clock() + seconds)}.{secrets.token_hex(16)}"
        return f"{name}.{self._mac(purpose, name)}"

    def _holds(self, purpose: bytes, text: str) -> bool:
        name, _, mac = text.rpartition(".")
        if not _same(self._mac(purpose, name), mac):
            return False
        return float(name.partition(".")[0]) > self._clock()

    def _mac(self, purpose: bytes, name: str) -> str:
        said = b"warren console " + purpose + b"\x00" + name.encode("utf-8", "replace")
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    """Compared in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def renew(data_directory: Path) -> None:
    """Make a new secret: every link and session ends when the daemon is restarted."""
    (data_directory / TOKEN_FILE).unlink(missing_ok=True)
    secret_of(data_directory)
