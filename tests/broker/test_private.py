"""The private RabbitMQ: nothing of it stays, nothing of it is reachable from outside, and its absence is said."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import aio_pika
import psutil
import pytest

from broker.installation import PrivateBrokerError, ensure_installed
from broker.private import PrivateBroker
from broker.topology import EXCHANGE, queue_name
from tests.broker.stories import TIME_LIMIT_S
from tests.rabbitmq import running_broker

NOBODY = 65534


def test_without_rabbitmq_and_without_root_it_is_said_what_to_do() -> None:
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(PrivateBrokerError, match="apt-get install rabbitmq-server"):
            ensure_installed(Path("/nowhere"))
    finally:
        os.seteuid(was)


def test_a_node_that_ends_while_it_starts_is_reported_with_its_last_words() -> None:
    broker = PrivateBroker(config="no.such.setting = 1")
    try:
        with pytest.raises(PrivateBrokerError, match=r"no\.such\.setting"):
            broker.start()
        assert not broker.running
    finally:
        broker.discard()
    assert not broker.directory.exists()


def test_it_listens_on_this_machine_only() -> None:
    broker = running_broker()
    # The family of the process that listens on the AMQP port.
    everything = psutil.net_connections(kind="tcp")
    (beam,) = {line.pid for line in everything if line.status == "LISTEN" and line.laddr.port == broker.amqp_port}
    addresses = {line.laddr.ip for line in everything if line.pid == beam and line.status == "LISTEN"}
    assert addresses <= {"127.0.0.1", "::1"}
    assert addresses


def test_passwords_lie_in_files_of_the_owner_only_and_in_no_repr() -> None:
    broker = running_broker()
    for name in ("passwords.json", "definitions.json"):
        assert (broker.directory / name).stat().st_mode & 0o077 == 0
    password = broker.admin_url.split(":")[2].split("@")[0]
    assert password not in repr(broker)


def test_a_wiped_broker_comes_back_from_its_definitions_with_empty_queues() -> None:
    with PrivateBroker(parties=["shop", "bank"]) as broker:
        asyncio.run(publish(broker.amqp_url("shop"), b"before"))
        broker.wipe()
        # Only the definitions file can bring users, queues and bindings back.
        broker.add_parties = None  # type: ignore[method-assign]
        broker.start()
        asyncio.run(publish(broker.amqp_url("shop"), b"after"))
        assert asyncio.run(first_message(broker.amqp_url("bank"))) == b"after"


QUEUE = queue_name("bulk", "bank", "shop")


async def publish(url: str, body: bytes) -> None:
    """Publish one persistent message; raises where no queue takes it."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, "from.shop.to.bank.bulk.job.link.terms", mandatory=True)


async def first_message(url: str) -> bytes:
    """The body of the first message in the queue."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(QUEUE, ensure=False)
        async with queue.iterator() as messages:
            return (await anext(messages)).body


def test_a_broker_dies_with_the_process_that_started_it_however_that_ends() -> None:
    program = (
        "from broker.private import PrivateBroker\n"
        "broker = PrivateBroker()\n"
        "print(broker.directory, broker._epmd_port, flush=True)\n"
        "broker.start()\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    directory, epmd_port = starter.stdout.readline().split()
    try:
        wait_until((Path(directory) / "pid").exists, "the node writes its pid file")
        started = processes_of(directory, epmd_port)
        assert started
        starter.kill()
        wait_until(lambda: not processes_of(directory, epmd_port), "node and epmd are gone")
    finally:
        starter.kill()
        starter.communicate()
        for process in processes_of(directory, epmd_port):
            process.kill()
        subprocess.run(["rm", "-rf", directory], check=True)


def processes_of(directory: str, epmd_port: str) -> list[psutil.Process]:
    """The living processes that were started with this broker's directory or epmd port in their environment."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        ours = directory in environment.get("RABBITMQ_LOG_BASE", "") or (environment.get("ERL_EPMD_PORT") == epmd_port)
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + TIME_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)
