"""What parties tell of their jobs to whoever subscribes, and who may."""

import asyncio
import functools
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import jsonschema
import msgspec
import pytest
from aiormq.exceptions import ChannelAccessRefused

from broker import applying
from broker.definitions import watcher
from broker.mqtt_line import LineLost, MqttAddress, MqttLine
from broker.watching import watch
from services.cli.watching import Board
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.party_process import Running, run_party
from services.daemon.status import JobStatus, StatusReports, place_of, schema
from services.party.configuration import load_party
from services.party.logs import LogBook
from tests.broker.stories import comes_true
from tests.parties import PATIENCE_S
from tests.rabbitmq import fresh_parties, running_broker
from tests.services.test_local import JOB, parties

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "status.json"
INTERVAL_S, LOOK_S = 0.5, 0.02
STATUS = JobStatus(
    party="a", job="j-1", role="business", partners=("b",), status="running", outcome="", reason_code="",
    stage="train", iteration=2, iterations=5, fraction=0.5, rate=1234.5, eta_s=3.0, waits_for="b", why="partner_turn",
    since=100.0, at=110.0, every_s=30.0,
)  # fmt: skip


def watcher_url(scheme: str, name: str = "dashboard") -> str:
    """A URL of a user who may read status and nothing else."""
    broker = running_broker()
    applying.make(broker.admin_url, lambda _: watcher(name, "secret"), overwrite_users=[name])
    port = broker.mqtt_port if scheme == "mqtt" else broker.amqp_port
    return f"{scheme}://{name}:secret@127.0.0.1:{port}/warren"


@asynccontextmanager
async def dashboard(scheme: str) -> AsyncIterator[tuple[Board, list[JobStatus]]]:
    """A subscriber from now on: its board, and every status that came."""
    board, came = Board(), []

    def take(routing_key: str, body: bytes) -> None:
        jsonschema.validate(json.loads(body), schema())
        status = board.take(routing_key, body)
        assert status is not None
        came.append(status)

    watching = asyncio.create_task(watch(watcher_url(scheme), take, board.tell))
    await comes_true(lambda: board.broker.startswith("connected"))
    yield board, came
    watching.cancel()
    await asyncio.wait([watching])


def test_a_dashboard_that_subscribes_at_any_time_knows_every_job_of_every_party_within_one_interval(
    tmp_path: Path,
) -> None:
    names = dict(zip(NAMES, fresh_parties(*NAMES.values(), mqtt=[NAMES[PROVIDER]]), strict=True))
    broker = running_broker()
    urls = {BUSINESS: broker.amqp_url(names[BUSINESS]), PROVIDER: broker.mqtt_url(names[PROVIDER])}
    paths = parties(tmp_path / "parties", urls, names)

    async def story() -> None:
        ready: dict[str, asyncio.Future[Running]] = {role: asyncio.Future() for role in NAMES}

        async def serve(role: str, running: Running) -> None:
            ready[role].set_result(running)
            party, daemon = running.party.file.name, running.daemon
            await StatusReports(party, daemon, interval_s=INTERVAL_S, look_s=LOOK_S).run()

        async def run(role: str, path: Path) -> None:
            party = load_party(path)
            party.data_directory.mkdir(parents=True, mode=0o700)
            await run_party(party, LogBook(), beside=[functools.partial(serve, role)])

        async with asyncio.TaskGroup() as group, dashboard("amqp") as (early, came):
            daemons = [group.create_task(run(role, path)) for role, path in zip(NAMES, paths, strict=True)]
            business = await ready[BUSINESS]
            job = {**JOB, "partner": f"{names[PROVIDER]}/features"}
            name = (await business.verbs["submit"]({"job": job, "where": "job"}))["job"]
            keys = {f"status.{party}.{name}" for party in names.values()}
            await comes_true(lambda: {key for key, each in early.statuses.items() if each.outcome == "done"} == keys)
            for party in names.values():
                told = [each for each in came if each.party == party]
                assert {"align", "train"} <= {each.stage for each in told}
                assert {1, 2} <= {each.iteration for each in told}
                assert any(each.waits_for for each in told)
                # On change and once an interval, not at every look.
                for one, following in itertools.pairwise(told):
                    assert place_of(one) != place_of(following) or following.at - one.at > INTERVAL_S / 2
            # Nothing changes any more, and whoever comes now is told all the same.
            async with dashboard("mqtt") as (late, _):
                subscribed = asyncio.get_running_loop().time()
                await comes_true(lambda: set(late.statuses) == keys)
                assert asyncio.get_running_loop().time() - subscribed < 10 * INTERVAL_S
            for task in daemons:
                task.cancel()

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_the_published_schema_is_that_of_the_program_and_knows_no_further_field() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()
    body = json.loads(msgspec.json.encode(STATUS))
    jsonschema.validate(body, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**body, "loss": 0.5}, schema())


def test_who_watches_can_neither_send_nor_see_anything_but_status() -> None:
    async def story() -> None:
        address = MqttAddress.parse(watcher_url("mqtt"), "", allow_plain=False)
        for topics in ("#", "from/#", "status/+/j-1", "from/+/to/a/control/#"):
            line = MqttLine(address, "warren-watch.dashboard.1", tls=None, persistent=False, keepalive_s=5, answer_s=5)
            await line.open()
            with pytest.raises(LineLost, match="does not grant"):
                await line.read(topics)
            await line.close()
        async with await aio_pika.connect(watcher_url("amqp")) as connection:
            for key in ("status.dashboard.j-1", "from.a.to.b.control.j-1.job.accept"):
                exchange = await (await connection.channel()).get_exchange("warren", ensure=False)
                with pytest.raises(ChannelAccessRefused):
                    await exchange.publish(aio_pika.Message(b"forged"), key, timeout=PATIENCE_S)

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_a_board_takes_no_status_of_one_party_from_another_and_none_that_is_none() -> None:
    board, body = Board(), msgspec.json.encode(STATUS)
    assert board.take("status.a.j-1", body) == STATUS
    for key, bad in (
        ("status.b.j-1", body),
        ("status.a.j-2", body),
        ("status.a.j-1", b"\xff"),
        ("status.a.j-1", b"{}"),
        ("status.a.j-1", body.replace(b'"version":1', b'"version":2')),
    ):
        assert board.take(key, bad) is None
    assert board.statuses == {"status.a.j-1": STATUS}
    assert board.refused == 5
