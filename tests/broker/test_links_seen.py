"""What `warren doctor` says of a link between the brokers of two organisations, with an administrator's URL."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.daemon.local import BUSINESS, NAMES
from services.doctor.administration import check_administration
from services.doctor.checkup import read_patient
from services.doctor.finding import Finding, Level
from tests.broker.test_linked import log_of, put_into_the_hand, removed_by_the_peer
from tests.linked import OTHER, OWN, Linked, linked_brokers
from tests.parties import example_tables, make_parties, until

A, B = OWN


@pytest.fixture
def pair() -> Iterator[Linked]:
    found = linked_brokers()
    found.purge()
    until(lambda: all(collected(found, own) for own in OWN), "both links run and RabbitMQ's figures say so")
    yield found


def collected(pair: Linked, own: str) -> bool:
    queue = pair.management(own).get("queues", "warren", f"out.{OTHER[own]}")
    return pair.shovel_state(own) == "running" and queue.get("consumers") == 1


@pytest.fixture
def path(pair: Linked, tmp_path: Path) -> Path:
    """party.toml of A."""
    urls = {role: pair.url(name) for role, name in NAMES.items()}
    return make_parties(tmp_path, example_tables(tmp_path, 40), marks=(), urls=urls)[BUSINESS]


def findings(path: Path, pair: Linked) -> dict[str, Finding]:
    found, _ = check_administration(read_patient(path), pair.brokers[A].admin_url, time.time)
    return {item.code or item.check: item for item in found}


def test_a_link_that_runs_has_nothing_to_be_put_right(pair: Linked, path: Path) -> None:
    found = findings(path, pair)
    assert {item.level for item in found.values()} == {Level.FINE}
    assert found["links"].what == f"links run with {B}"
    assert f"deliver.{B}" in found["queues"].what


def test_a_link_that_is_down_is_told_from_one_that_the_partner_does_not_collect(pair: Linked, path: Path) -> None:
    try:
        pair.lines[A].stall()
        pair.lines[A].cut()
        found = findings(path, pair)
        assert f"nothing of {B} arrives" in found["link_down"].what
        assert "link_uncollected" not in found
        pair.lines[B].stall()
        pair.lines[B].cut()
        assert f"nobody collects out.{B}" in findings(path, pair)["link_uncollected"].what
    finally:
        for line in pair.lines.values():
            line.cut()
            line.flow()
    until(lambda: all(pair.shovel_state(own) == "running" for own in OWN), "both links run again")


def test_a_link_that_holds_what_the_partner_may_not_send_is_told(pair: Linked, path: Path) -> None:
    # The forger is A's partner here, so that A's broker refuses.
    mirrored = Linked(
        brokers={A: pair.brokers[B], B: pair.brokers[A]}, lines={A: pair.lines[B], B: pair.lines[A]}, files=pair.files
    )
    key = f"from.third.to.{A}.control.stuck.kind"
    asyncio.run(put_into_the_hand(mirrored, key, b"forged", queue=f"out.{A}"))
    until(lambda: f"access to topic '{key}'" in log_of(mirrored, B), "the message was refused")
    try:
        found = findings(path, pair)
        if pair.brokers[A].version < (4, 0):
            # RabbitMQ 3 calls such a shovel running.
            assert pair.shovel_state(A) == "running"
            assert f"refused for user 'deliver.{B}'" in found["link_stuck"].advice
        else:
            assert f"nothing of {B} arrives" in found["link_down"].what
    finally:
        asyncio.run(removed_by_the_peer(mirrored, queue=f"out.{A}"))
    until(lambda: pair.shovel_state(A) == "running", "the link runs again")


def test_a_wider_right_of_a_links_user_is_named(pair: Linked, path: Path) -> None:
    management = pair.management(A)
    place = ("topic-permissions", "warren", f"deliver.{B}")
    wanted = rf"^from\.{B}\.to\.{A}\."
    management.put(*place, body={"exchange": "warren", "write": ".*", "read": "^$"})
    try:
        assert f"the topic permission of deliver.{B} differs" in findings(path, pair)["topic_permission_missing"].what
    finally:
        management.put(*place, body={"exchange": "warren", "write": wanted, "read": "^$"})
    assert "topic_permission_missing" not in findings(path, pair)
