"""Two parties with real jobs, and an adversary who owns the broker between them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import aio_pika
import psutil

from broker.topology import EXCHANGE
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, processes, wait_for
from services.daemon.verbs import read_results
from services.party.configuration import Party, load_party
from tests.parties import NOWHERE, PATIENCE_S, example_tables, make_parties, until
from tests.rabbitmq import running_broker

MARKS: Final = ("small_sample", "insecure")
ROWS: Final = 150
POLL_S: Final = 0.02
JOB: Final[dict[str, Any]] = {
    "task": "logistic",
    "dataset": "labels",
    "l2": 1e-2,
    "max_iterations": 2,
    "release_noise": 0.0,
    "key_bits": 512,
    "marks": list(MARKS),
    "chunk_rows_max": 27,
}

Message = tuple[str, bytes]


async def until_async(condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """`tests.parties.until` for a condition that is awaited."""
    deadline = time.monotonic() + timeout_s
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain: {what}"
        await asyncio.sleep(POLL_S)
    return found


class Stage:
    """Two party directories. The daemons are the caller's: `services.daemon.local.embedded` or `processes`."""

    def __init__(self, directory: Path, names: Sequence[str], *, amqp: bool) -> None:
        self.names = dict(zip((BUSINESS, PROVIDER), names, strict=True))
        urls = {role: running_broker().amqp_url(name) for role, name in self.names.items()} if amqp else NOWHERE
        self.paths = make_parties(directory, example_tables(directory, ROWS), marks=MARKS, names=self.names, urls=urls)

    @property
    def pair(self) -> tuple[Path, Path]:
        """party.toml of business and provider."""
        return self.paths[BUSINESS], self.paths[PROVIDER]

    def party(self, role: str) -> Party:
        return load_party(self.paths[role])

    def console(self, role: str) -> ControlClient:
        return connect(self.party(role))

    def ask(self, role: str, verb: str, **fields: Any) -> Any:
        with self.console(role) as client:
            return client.ask(verb, **fields)

    def submit(self, dataset: str = "features", **changes: Any) -> str:
        job = {**JOB, "partner": f"{self.names[PROVIDER]}/{dataset}", **changes}
        return str(self.ask(BUSINESS, "submit", job=job)["job"])

    def end_of(self, role: str, job: str) -> dict[str, Any]:
        """The last view of a job that has been submitted."""
        until(lambda: any(view["job"] == job for view in self.ask(role, "jobs")), f"{role} knows {job}")
        with self.console(role) as client:
            return wait_for(client, job)

    def result(self, job: str) -> dict[str, bytes]:
        """Both parties' parameters.json, once the job is done."""
        found = {}
        for role in NAMES:
            view = self.end_of(role, job)
            assert view["outcome"] == "done", (role, view["status"], view["reason_code"], view["reason"])
            found[role] = read_results(Path(view["results"]))[0]
        return found

    def connected(self, role: str) -> bool:
        """Whether a party has reached its broker."""
        return bool(self.ask(role, "status")["transport"]["up"])

    def parked(self, role: str) -> dict[str, int]:
        """How often each reason code came up at a party."""
        codes: dict[str, int] = self.ask(role, "parked")["codes"]
        return codes

    def duplicates(self, role: str, job: str) -> int:
        return int(self.ask(role, "job", id=job)["statistics"].get("duplicates", 0))


class Processes:
    """The two `warren serve` of a stage."""

    def __init__(self, stage: Stage, running: Sequence[Any]) -> None:
        self._pids = {role: process.pid for role, process in zip((BUSINESS, PROVIDER), running, strict=True)}
        self.stage = stage

    @contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """Hold a party, workers and all: while it lasts no job of its partner can come to an end."""
        family = [psutil.Process(self._pids[role])]
        family += family[0].children(recursive=True)
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()


@contextmanager
def two_processes(stage: Stage) -> Iterator[Processes]:
    """Both daemons as processes, both of them answering."""
    with processes(stage.pair) as running:
        for role in NAMES:
            until(partial(stage.connected, role), f"{role} reached the broker")
        yield Processes(stage, running)


async def publish(messages: Sequence[Message]) -> None:
    """Publish as the broker's administrator, who may write anything under any key."""
    connection = await aio_pika.connect(running_broker().admin_amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(EXCHANGE)
        for key, body in messages:
            persistent = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(persistent, routing_key=key)
