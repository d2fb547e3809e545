"""One party's configuration: party.toml, its policy, its identity and its peers.

```toml
name = "bank"
data_directory = "data"                  # relative to this file
broker = "amqps://broker.example:5671/warren?..."   # mqtts://... for a party that speaks MQTT only
identity = "identity/bank.private.json"  # mode 0600, made by `warren identity init`
peers = "peers"                          # directory of public identity files
policy = "policy.toml"                   # optional; see protocol.policy
workers = 1
threads = 0                              # of each worker, for the compiled back end; 0: one per core
metrics = "127.0.0.1:9464"               # optional: metrics for Prometheus, on loopback (docs/monitoring.md)
log_file = "log/warren.log"              # optional: instead of standard error (docs/upkeep.md)
retention_days = 90                      # optional: purge jobs that ended so long ago (docs/upkeep.md); 0: never
retention_full_days = 0                  # the same for jobs with retention "full"
declare = false                          # true only in demos and tests: make the broker's topology ourselves
status = false                           # true: tell where jobs stand under status.<name>.<job> (docs/mqtt.md)
console = "127.0.0.1:8700"               # optional: where the web console listens; see docs/console.md
console_hosts = []                       # further names by which browsers may call it, with port

[[dataset]]
name = "loans"
source = "loans.csv"
id = "id"
label = "defaulted"                      # at a business
columns = []                             # empty: all but id and label
                                         # or source = "postgresql://host/database", query = "SELECT ..." (docs/data.md)

[dataset.preparation]                    # or a file with the same: preparation = "loans.preparation.toml"
income = [{ step = "impute", by = "median" }, { step = "log" }]   # docs/preparation.md
```
"""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from learning.columns.preparation import PreparationError, Step, column_words, declare
from messages.identity import Identity, IdentityError, PublicIdentity
from messages.schemas import Name
from services.party.broker_url import with_files_from
from services.party.journal_address import JournalUnfit, check_journal
from services.party.listening import address_of
from services.party.quiet_hours import QuietHours, QuietHoursUnknown
from services.party.sources import ENVIRONMENT, SourceUnfit, check_source, is_database

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class ConfigError(ValueError):
    """A configuration that cannot be used: names file and key, and what to do."""

    def __init__(self, reason: str) -> None:
        # What a file says in the wrong place must not write on the terminal of whom it is told.
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in reason))


class Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table that jobs may ask for."""

    name: Name
    source: str
    id: str
    query: str = ""
    credentials: str = ""
    label: str = ""
    columns: tuple[str, ...] = ()
    preparation: dict[str, Any] | str = {}


class PartyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """party.toml as it stands in the file."""

    name: Name
    data_directory: str = "data"
    broker: str
    identity: str = ""
    peers: str = "peers"
    policy: str = ""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    declare: bool = False
    noise_seed: str = ""
    journal: str = ""
    console: str = ""
    console_hosts: tuple[str, ...] = ()
    metrics: str = ""
    log_file: str = ""
    retention_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0
    retention_full_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0
    status: bool = False
    dataset: tuple[Dataset, ...] = ()


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """A party with everything that its files say; paths are absolute."""

    file: PartyFile
    directory: Path
    data_directory: Path
    identity: Identity
    peers: dict[str, PublicIdentity]
    policy: dict[str, Any]
    steps: dict[str, dict[str, tuple[Step, ...]]] = {}

    def __repr__(self) -> str:
        return f"Party({self.file.name!r})"

    @property
    def broker_url(self) -> str:
        """Where the daemon connects, password included; files in it are absolute."""
        return with_files_from(self.directory, self.file.broker)

    @property
    def datasets(self) -> dict[str, dict[str, Any]]:
        """Data sets by name, sources absolute: what the compute functions are told."""
        return {item.name: entry_of(item, self.directory, self.steps.get(item.name, {})) for item in self.file.dataset}

    @property
    def settings(self) -> dict[str, Any]:
        """The operator's settings for compute functions."""
        return {
            "policy": self.policy,
            "datasets": self.datasets,
            "noise_seed": self.file.noise_seed,
            "threads": self.file.threads or cores(),
            "log_file": str(self.directory / self.file.log_file) if self.file.log_file else "",
        }


def entry_of(dataset: Dataset, directory: Path, steps: dict[str, tuple[Step, ...]]) -> dict[str, Any]:
    """A data set as the readers of tables take it. Raises ConfigError for a source that cannot be."""
    try:
        check_source(dataset.source, dataset.query, dataset.credentials)
    except SourceUnfit as error:
        raise ConfigError(f"data set {dataset.name}: {error}") from None
    database: dict[str, Any] = {}
    if is_database(dataset.source):
        named = dataset.credentials
        inside = not named or named.startswith(ENVIRONMENT)
        database = {"query": dataset.query, "credentials": named if inside else str(directory / named)}
    return {
        "source": dataset.source if database else str(directory / dataset.source),
        **database,
        "id": dataset.id,
        "label": dataset.label,
        "columns": list(dataset.columns),
        "steps": steps,
    }


def check_dataset(dataset: Dataset, directory: Path, path: Path) -> None:
    """Raises ConfigError for a source that cannot be, naming the file."""
    try:
        entry_of(dataset, directory, {})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises ConfigError naming it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deep") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {_why(error)}") from None


def _why(error: OSError | ValueError) -> str:
    """Why a file cannot be read; a path with a zero byte is a ValueError of its own."""
    return (error.strerror or "unknown error") if isinstance(error, OSError) else str(error)


def read_party_file(path: Path) -> PartyFile:
    """party.toml alone, without what it names. Raises ConfigError naming file and key."""
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file; name the party.toml of this party, or go where it lies")
    try:
        return msgspec.convert(read_toml(path), PartyFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None


def load_party(path: Path) -> Party:
    """Read party.toml and all that it names. Raises ConfigError naming file and key."""
    file = read_party_file(path)
    directory = path.resolve().parent
    check_broker_url(file.broker, path)
    check_console(file, path)
    check_metrics(file, path)
    if file.journal:
        try:
            check_journal(file.journal)
        except JournalUnfit as error:
            raise ConfigError(f"{path}: key journal: {error}") from None
    names = [item.name for item in file.dataset]
    if len(names) != len(set(names)):
        raise ConfigError(f"{path}: two [[dataset]] entries have the same name; rename one")
    for item in file.dataset:
        check_dataset(item, directory, path)
    steps = {
        item.name: read_steps(item, directory, f"{path}: data set {item.name}")
        for item in file.dataset
        if item.preparation
    }
    identity = read_identity(identity_path(file, directory))
    if identity.name != file.name:
        raise ConfigError(f"{path}: name is {file.name}, but the identity file is {identity.name}'s")
    policy = read_policy_file(directory / file.policy) if file.policy else {}
    peers = read_peers(directory / file.peers)
    if file.name in peers:
        raise ConfigError(
            f"{directory / file.peers}: {file.name} is this party itself; `warren peer remove {file.name}` takes it out"
        )
    return Party(
        file=file,
        directory=directory,
        data_directory=directory / file.data_directory,
        identity=identity,
        peers=peers,
        policy=policy,
        steps=steps,
    )


def read_policy_file(path: Path) -> dict[str, Any]:
    """policy.toml as a table that protocol.policy can read. Raises ConfigError naming file, line and key."""
    # Contracts bring numpy with them, and commands that ask a running daemon read no policy.
    from protocol.policy import PolicyError, read_policy

    policy = read_toml(path)
    try:
        book = read_policy(policy)
        for one in (book.default, *book.partner.values()):
            if one.quiet_hours:
                QuietHours.parse(one.quiet_hours)
    except (PolicyError, QuietHoursUnknown) as error:
        line = line_of(path.read_text(encoding="utf-8"), str(error))
        raise ConfigError(f"{path}{f', line {line}' if line else ''}: {error}") from None
    return policy


_KEY_NAMED: Final = re.compile(r"`\$\.([A-Za-z_]+)|unknown field `([^`]*)`")


def line_of(text: str, complaint: str) -> int:
    """The line, from 1, of the key that a complaint of msgspec names; 0 for none, or when several lines have it."""
    named = _KEY_NAMED.search(complaint)
    if named is None:
        return 0
    key = re.escape(named[1] or named[2])
    form = re.compile(rf"""\s*["']?{key}["']?\s*=""")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if form.match(line)]
    return lines[0] if len(lines) == 1 else 0


def read_steps(dataset: Dataset, directory: Path, where: str) -> dict[str, tuple[Step, ...]]:
    """The preparation of a data set by column, from itself or the file it names. Raises ConfigError."""
    table = dataset.preparation
    if isinstance(table, str):
        where = str(directory / table)
        table = read_toml(directory / table)
    return steps_from(table, where)


def steps_from(table: Any, where: str) -> dict[str, tuple[Step, ...]]:
    """Steps by column from a parsed table. Raises ConfigError naming column and step."""
    steps: dict[str, tuple[Step, ...]] = {}
    for column, listed in table.items():
        try:
            steps[column] = msgspec.convert(listed, tuple[Step, ...])
            declare({column: steps[column]}, (column,))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: preparation of {column_words(column)}: {error}") from None
        except PreparationError as error:
            raise ConfigError(f"{where}: {error}") from None
    return steps


def check_broker_url(url: str, path: Path) -> None:
    """TLS in every URL that leaves this machine. Raises ConfigError."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # Not the library's text: it may quote the password.
        raise ConfigError(f"{path}: key broker: this is no URL") from None
    if parts.scheme not in {"amqp", "amqps", "mqtt", "mqtts"}:
        raise ConfigError(f"{path}: key broker: {parts.scheme or 'nothing'}:// is not amqps:// or mqtts://")
    if parts.scheme in {"amqp", "mqtt"} and parts.hostname not in LOCAL_HOSTS:
        raise ConfigError(
            f"{path}: key broker: {parts.scheme}:// without TLS to {parts.hostname}; use {parts.scheme}s://"
        )


def check_console(file: PartyFile, path: Path) -> None:
    """The console is for this machine, unless its operator has named the hosts that it is called by. ConfigError."""
    if not file.console:
        return
    try:
        address = address_of(file.console)
    except ValueError as error:
        raise ConfigError(f"{path}: key console: {error}") from None
    if not address.loopback and not file.console_hosts:
        raise ConfigError(
            f"{path}: key console: {file.console} can be reached from elsewhere, without TLS; use 127.0.0.1:"
            f"{address.port}, or name in console_hosts what browsers call it (docs/console.md)"
        )


def check_metrics(file: PartyFile, path: Path) -> None:
    """Metrics are served to this machine only. Raises ConfigError."""
    if not file.metrics:
        return
    try:
        address = address_of(file.metrics)
    except ValueError as error:
        raise ConfigError(f"{path}: key metrics: {error}") from None
    if not address.loopback:
        raise ConfigError(
            f"{path}: key metrics: {file.metrics} can be reached from elsewhere, without TLS; use "
            f"127.0.0.1:{address.port}, and where others have to read it a reverse proxy with TLS and a password"
        )


def identity_path(file: PartyFile, directory: Path) -> Path:
    """Where the private identity is."""
    return directory / (file.identity or f"identity/{file.name}.private.json")


def read_identity(path: Path) -> Identity:
    """The private identity. Raises ConfigError when it is missing, damaged or open to other users."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no identity; make one with `warren identity init`") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {_why(error)}") from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: other users may read it; run `chmod 600 {path}`")
    try:
        return Identity.from_bytes(data)
    except IdentityError as error:
        raise ConfigError(f"{path}: {error}") from None


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read. Raises ConfigError when it exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already and is not overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_public(path: Path) -> PublicIdentity:
    """A public identity file. Raises ConfigError naming file and field."""
    try:
        return PublicIdentity.from_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IdentityError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {_why(error)}") from None


def read_peers(directory: Path) -> dict[str, PublicIdentity]:
    """All peers of a directory, by name. Raises ConfigError for two files of one name."""
    peers: dict[str, PublicIdentity] = {}
    for path in sorted(directory.glob("*.json")):
        peer = read_public(path)
        if peer.name in peers:
            raise ConfigError(f"{path}: {peer.name} is in another file of {directory}, too; remove one")
        peers[peer.name] = peer
    return peers
