"""`warren doctor` on a party that speaks MQTT, and on its partner, at a real broker."""

import dataclasses
from pathlib import Path

import pytest

from broker import applying
from broker.definitions import shared
from broker.management import Management
from broker.sessions import session_queue_name
from broker.topology import EXCHANGE, VHOST, permissions
from services.daemon.local import PROVIDER
from services.doctor.checkup import examine
from services.doctor.finding import Finding, Level
from tests.rabbitmq import running_broker
from tests.services.sickroom import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, mqtt=True)


def ill(found: list[Finding]) -> dict[str, Finding]:
    return {item.code: item for item in found if item.level is Level.FAULT}


def test_a_healthy_party_that_speaks_mqtt_has_nothing_to_be_put_right(house: House) -> None:
    found = house.findings(management=running_broker().admin_url)
    assert ill(found) == {}
    assert {"broker", "rights", "queues"} <= {item.check for item in found if item.level is Level.FINE}


def test_its_partner_is_told_that_there_is_no_way_until_it_has_connected_once(house: House) -> None:
    options = {"management": running_broker().admin_url}
    path = house.paths[PROVIDER]
    fault = ill(list(examine(path, **options)))["queue_missing"]
    assert f"there is no way to {house.name}" in fault.what
    assert "once its daemon has connected" in fault.advice
    queue = {"durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
    Management(running_broker().admin_url).put("queues", VHOST, session_queue_name(house.name, "control"), body=queue)
    assert ill(list(examine(path, **options))) == {}


@pytest.mark.parametrize(
    ("right", "value", "code", "named"),
    [
        ("topic_write", "^$", "topic_permission_missing", "may not send in its own name"),
        ("topic_write", ".*", "topic_permission_missing", "may write in the name of others"),
        ("topic_read", "^$", "read_refused", "may not subscribe to"),
        ("configure", "^$", "read_refused", "may not subscribe to"),
    ],
)
def test_a_right_that_is_missing_or_too_wide_is_named(
    house: House, right: str, value: str, code: str, named: str
) -> None:
    changed = dataclasses.replace(permissions(house.name, mqtt=True), **{right: value})
    management = Management(running_broker().admin_url)
    plain = {"configure": changed.configure, "write": changed.write, "read": changed.read}
    management.put("permissions", VHOST, house.name, body=plain)
    topic = {"exchange": EXCHANGE, "write": changed.topic_write, "read": changed.topic_read}
    management.put("topic-permissions", VHOST, house.name, body=topic)
    faults = house.faults()
    assert list(faults) == [code]
    assert named in faults[code].what
    assert "--mqtt" in faults[code].advice


def test_a_wrong_password_over_mqtt_is_named_and_not_shown(house: House) -> None:
    parties = list(house.names.values())
    passwords = {house.name: "another-one"}
    applying.make(
        running_broker().admin_url,
        lambda version: shared(parties, version=version, passwords=passwords, mqtt=[house.name]),
        overwrite_users=passwords,
    )
    fault = house.faults()["login_refused"]
    assert f"refuses the login of {house.name}" in fault.what
    assert "another-one" not in fault.what + fault.advice
