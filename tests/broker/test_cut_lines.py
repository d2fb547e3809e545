"""Whole jobs over a real RabbitMQ, by lines that are cut within frames, again and again, in either protocol."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.amqp import AmqpOptions, AmqpTransport
from broker.installation import free_ports
from broker.mqtt import MqttOptions, MqttTransport
from services.daemon.daemon import Daemon
from tests.broker.aside import told_aside
from tests.proxy import Cutting
from tests.rabbitmq import fresh_parties, running_broker
from tests.services import house, toy

LASTS = (300, 300_000)
"""Bytes that a line passes on, each size as likely as twice that one: what waits for a party, all of which a broker
sends at once, has to come through now and then."""
BACKOFF = {"backoff_min_s": 0.02, "backoff_max_s": 0.1}
PATIENCE = {"publish_timeout_s": 3.0, "connect_timeout_s": 5.0}


@dataclass(frozen=True)
class Line:
    """A party's line: it connects to `port`, which leads to `target_port`."""

    party: str
    url: str
    port: int
    target_port: int


def _transport(line: Line, peer: str) -> AmqpTransport | MqttTransport:
    if line.url.startswith("mqtt"):
        return MqttTransport(line.url, line.party, options=MqttOptions(**BACKOFF, **PATIENCE))
    return AmqpTransport(line.url, line.party, [peer], options=AmqpOptions(**BACKOFF, **PATIENCE))


async def a_calm_job_and_a_rough_one(directory: Path, lines: tuple[Line, Line], seed: int) -> None:
    """Both end with the same results at both parties."""
    chance, names = random.Random(seed), [line.party for line in lines]

    def lasts() -> int:
        low, high = LASTS
        return round(low * (high / low) ** chance.random())

    proxies = [Cutting(line.target_port, line.port, lasts) for line in lines]
    for proxy in proxies:
        await proxy.up()
    daemons = [
        Daemon(house.config(directory, line.party, names, workers=0), _transport(line, peer))
        for line, peer in zip(lines, reversed(names), strict=True)
    ]
    results = []
    async with house.running(daemons[0]), house.running(daemons[1]):
        for job in ("calm", "rough"):
            for proxy in proxies:
                proxy.bad = job == "rough"
            await daemons[0].submit(job, names[1], contract=toy.contract(chunks=4, iterations=4, size=3_000))
            for daemon in daemons:
                view = await house.ended(daemon, job)
                assert view.outcome == "done", view.reason
                results.append(view.results)
        assert results[:2] == results[2:]
        assert [await daemon.parked_codes() for daemon in daemons] == [{}, {}]
        assert all(proxy.cuts for proxy in proxies)


@pytest.mark.parametrize("speaks_mqtt", [(), ("bank",), ("shop", "bank")])
def test_jobs_over_lines_that_are_cut_anywhere_end_as_undisturbed_ones_do(
    tmp_path: Path, speaks_mqtt: tuple[str, ...]
) -> None:
    broker, bases = running_broker(), ("shop", "bank")
    names = fresh_parties(*bases, mqtt=speaks_mqtt)
    lines = []
    for name, base, port in zip(names, bases, free_ports(2), strict=True):
        if base in speaks_mqtt:
            lines.append(Line(name, broker.mqtt_url(name, port=port), port, broker.mqtt_port))
        else:
            lines.append(Line(name, broker.amqp_url(name, port=port), port, broker.amqp_port))
    told_aside(a_calm_job_and_a_rough_one, tmp_path, tuple(lines), len(speaks_mqtt))
