"""One private PostgreSQL per test session, reached through a socket in its own directory and by nobody else.

Where it cannot be started the tests that need it fail: they are never left out.
"""

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, text

from tests.parties import until

USER: Final = "warren"
DEBIAN: Final = Path("/usr/lib/postgresql")
_HINT: Final = "install it as root with `apt-get install postgresql`, or run this as root"
_databases = itertools.count(1)


def programs() -> Path:
    """Where `initdb` and `pg_ctl` are; installs Debian's package when we are root and they are nowhere."""
    for attempt in ("as it is", "installed"):
        found = sorted(DEBIAN.glob("*/bin/pg_ctl")) or [Path(name) for name in (shutil.which("pg_ctl"),) if name]
        if found:
            return found[-1].resolve().parent
        if attempt == "as it is":
            assert os.geteuid() == 0, f"there is no PostgreSQL: {_HINT}"
            for command in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
                environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
                subprocess.run(["apt-get", *command], env=environment, check=True, capture_output=True)
    raise AssertionError(f"there is no PostgreSQL: {_HINT}")


@functools.cache
def running_server() -> str:
    """The directory of the session's server, started at the first call and removed when Python ends."""
    where = Path(tempfile.mkdtemp(prefix="warren-postgresql-"))
    atexit.register(shutil.rmtree, where, ignore_errors=True)
    # PostgreSQL refuses to run as root.
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(where, account.pw_uid, account.pw_gid)
        who = {"user": account.pw_uid, "group": account.pw_gid}
    place = programs()

    def run(program: str, *arguments: str) -> None:
        log = (where / "said").open("ab")
        with log:
            subprocess.run([place / program, *arguments], cwd=where, check=True, stdout=log, stderr=log, **who)

    run("initdb", "-D", "data", "-U", USER, "-A", "trust", "--no-sync")
    server = subprocess.Popen(
        # Tests that are killed leave no server behind.
        [
            "setpriv",
            "--pdeathsig",
            "QUIT",
            place / "postgres",
            "-D",
            "data",
            "-k",
            where,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ],
        cwd=where,
        stdout=subprocess.DEVNULL,
        stderr=(where / "log").open("ab"),
        **who,
    )
    atexit.register(server.wait)
    atexit.register(server.send_signal, signal.SIGQUIT)
    ready = [place / "pg_isready", "-q", "-h", where]
    until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL starts")
    return str(where)


def url(database: str = "postgres") -> str:
    """The SQLAlchemy URL of a database."""
    return f"postgresql+psycopg://{USER}@/{database}?host={running_server()}"


def do(statement: str, **values: Any) -> None:
    """Run a statement as the server's administrator, outside of any transaction."""
    engine = create_engine(url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def fresh_database() -> str:
    """A database that no other test knows."""
    name = f"journal{next(_databases)}"
    do(f"CREATE DATABASE {name}")
    return name


def guarded_user(password: str) -> str:
    """A user that is let in with a password only, who may read everything in databases where it is granted."""
    name = f"reader{next(_databases)}"
    do(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE pg_read_all_data")
    rules = Path(running_server()) / "data" / "pg_hba.conf"
    rules.write_text(f"local all {name} scram-sha-256\n{rules.read_text()}")
    do("SELECT pg_reload_conf()")
    return name
