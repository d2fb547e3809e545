"""Two daemons on a thread of their own, each with its console: real machines and tasks over an embedded broker
or RabbitMQ.

Tasks run on threads of this process, behind the gates of `tests.services.gates`, so that a job stands still where a
test wants to look at it.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from broker.amqp import AmqpTransport
from broker.embedded import EmbeddedBroker, EmbeddedTransport
from broker.private import PrivateBroker, free_ports
from broker.transport import Transport
from protocol.machines import ROLES, ROLES_BY_VERSION, answering_role
from services.console.access import Access, secret_of
from services.console.server import serve_console
from services.daemon.control import ControlClient
from services.daemon.daemon import Daemon, DaemonConfig
from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, connect
from services.daemon.party_process import run_beside
from services.daemon.serve import expiry_of, parties_of, terms_of
from services.party.configuration import Party, load_party
from services.party.logs import LogBook, remembering, write_into
from tests.parties import PARTNER, example_tables, make_parties, until
from tests.services import gates, house

HOSTILE: Final = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e'
"""What a browser must not take for markup."""

POLICY: Final = 'automatic_iterations_max = 5\nask_for = ["inference"]\n'
"""Of the provider: what the tests submit is accepted by itself, unless it has more iterations."""
ROWS: Final = 120
MARKS: Final = ("insecure", "small_sample")
JOB: Final[dict[str, Any]] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "l2": 1e-2,
    "max_iterations": 3,
    "release_noise": 0.0,
    "key_bits": 512,
    "chunk_rows_max": 27,
    "marks": list(MARKS),
}


class Office:
    """See the module docstring. A context manager."""

    def __init__(
        self, directory: Path, *, tables: LocalTables | None = None, policy: str = "", over: PrivateBroker | None = None
    ) -> None:
        """`policy`: lines that are added to the provider's policy.toml. `over`: a RabbitMQ that knows both parties."""
        self._over = over
        directory.mkdir(parents=True, exist_ok=True)
        self._paths = make_parties(directory, tables or example_tables(directory, ROWS), marks=MARKS)
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        for role, path in self._paths.items():
            head, _, rest = path.read_text().partition("\n")
            path.write_text(f'{head}\nconsole = "127.0.0.1:{self.ports[role]}"\n{rest}')
        self._add_hostile_dataset(directory / "hostile.parquet")
        if policy:
            rules = self._paths[PROVIDER].with_name("policy.toml")
            rules.write_text(rules.read_text() + policy)
        self.parties: dict[str, Party] = {role: load_party(path) for role, path in self._paths.items()}
        self._broker = EmbeddedBroker(tuple(NAMES.values()))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="office", daemon=True)
        self._daemons: dict[str, Daemon] = {}
        self._running: dict[str, Future[None]] = {}
        self._log = remembering()

    def _add_hostile_dataset(self, path: Path) -> None:
        """A data set of the provider that is refused by the name of its column."""
        rows = range(99)
        columns = {"id": map(str, rows), "a": [row % 7 for row in rows], HOSTILE: [1] * len(rows)}
        pl.DataFrame(columns).write_parquet(path)
        file = self._paths[PROVIDER]
        file.write_text(f'{file.read_text()}\n[[dataset]]\nname = "hostile"\nsource = "{path}"\nid = "id"\n')

    def __enter__(self) -> Self:
        self._log.__enter__()
        self._thread.start()
        for role in NAMES:
            self.start(role)
        return self

    def __exit__(self, *_: object) -> None:
        gates.release()
        for role in list(self._running):
            self.stop(role)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._log.__exit__(None, None, None)

    def start(self, role: str) -> None:
        """Start a party's daemon and wait until its console listens."""
        self._running[role] = asyncio.run_coroutine_threadsafe(self._run(role), self._loop)
        self.client(role).close()
        until(lambda: self._listens(role), f"the console of {role} listens")

    def stop(self, role: str) -> None:
        """Stop a party's daemon and wait until it is gone."""
        if role in self._daemons:
            self._loop.call_soon_threadsafe(self._daemons.pop(role).stop)
        with suppress(asyncio.CancelledError):
            self._running.pop(role).result(30.0)

    async def _run(self, role: str) -> None:
        party, book = self.parties[role], LogBook()
        write_into(book)
        config = DaemonConfig(
            identity=party.identity,
            peers=party.peers,
            data_directory=party.data_directory,
            roles=ROLES,
            workers=0,
            functions="tests.services.gates",
            settings=party.settings,
            expiry_of=expiry_of,
            terms_of=lambda contract: terms_of(party, contract),
            parties_of=parties_of,
            earlier_roles=ROLES_BY_VERSION,
            answering_role=answering_role,
            timing=house.TIMING,
        )
        daemon = Daemon(config, self._transport(NAMES[role], NAMES[PARTNER[role]]))
        self._daemons[role] = daemon
        await run_beside(party, daemon, book, beside=(serve_console,))

    def _transport(self, name: str, peer: str) -> Transport:
        if self._over is None:
            return EmbeddedTransport(self._broker, name, [peer])
        return AmqpTransport(self._over.amqp_url(name), name, [peer])

    def _listens(self, role: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[role])) == 0

    # -- what people do --------------------------------------------------------------------------------------

    def client(self, role: str) -> ControlClient:
        """A connection to the control socket."""
        return connect(self.parties[role])

    def ask(self, role: str, verb: str, **arguments: Any) -> Any:
        """A verb of the control socket."""
        with self.client(role) as client:
            return client.ask(verb, **arguments)

    def submit(self, **changes: Any) -> str:
        """Submit `JOB`, changed, at the business."""
        return str(self.ask(BUSINESS, "submit", job={**JOB, **changes})["job"])

    def view(self, role: str, job: str) -> dict[str, Any]:
        """A job at a party; nothing while it is not there."""
        found = [one for one in self.ask(role, "jobs") if one["job"] == job]
        return found[0] if found else {}

    def ended(self, job: str) -> None:
        """Wait until a job is over at both."""
        for role in NAMES:
            until(lambda role=role: self.view(role, job).get("status") == "finished", f"the job ends at {role}")

    def over(self, job: str, role: str = PROVIDER) -> dict[str, Any]:
        """Wait until a job is over at a party."""
        return until(lambda: (found := self.view(role, job)).get("status") == "finished" and found, f"{job} ends")

    def path(self, role: str) -> Path:
        """A party's party.toml."""
        return self._paths[role]

    def url(self, role: str) -> str:
        """The address of a console."""
        return f"http://127.0.0.1:{self.ports[role]}"

    def access(self, role: str) -> Access:
        """What `warren console` uses."""
        return Access(secret_of(self.parties[role].data_directory))

    def link(self, role: str) -> str:
        """What `warren console` prints."""
        return f"{self.url(role)}/enter?ticket={self.access(role).ticket()}"
