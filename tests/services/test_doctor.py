"""`warren doctor` on parties that really are ill, each in one way: it names the fault and says what to do."""

import asyncio
import json
import re
import time
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aio_pika
import pytest

from broker.certificates import Authority, make_development
from broker.management import Management
from broker.topology import VHOST, permissions, queue_name
from kernel import library
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, FAILED, guarded
from services.daemon.local import BUSINESS, PROVIDER
from services.doctor.clock import Reading, check_clock
from services.doctor.finding import Finding, Level
from services.store.data_directory import JOURNAL
from tests import postgres
from tests.rabbitmq import certificates, running_broker, tls_url
from tests.services.sickroom import House, daemon_of, tls_server

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def only(faults: dict[str, Finding], code: str) -> Finding:
    """The one fault that there is: nothing else is blamed."""
    assert list(faults) == [code]
    assert faults[code].advice
    return faults[code]


def test_a_healthy_party_has_nothing_to_be_put_right(house: House) -> None:
    with daemon_of(house.path), daemon_of(house.paths[PROVIDER]):
        found = house.findings(management=running_broker().admin_url)
    assert [item for item in found if item.level in (Level.FAULT, Level.UNKNOWN)] == []
    looked_at = {item.check for item in found if item.level is Level.FINE}
    assert looked_at >= {
        "files", "configuration", "back end", "disk", "daemon", "journal", "broker", "rights", "queues", "clock",
    }  # fmt: skip


def test_without_a_daemon_or_an_administrator_it_says_what_it_could_not_see(house: House) -> None:
    found = house.findings()
    assert {item.check for item in found if item.level is Level.UNKNOWN} == {"queues", "clock"}
    assert [item.code for item in found if item.level is Level.NOTE] == ["daemon_not_running"]
    assert not [item for item in found if item.level is Level.FAULT]


@pytest.mark.parametrize("which", ["identity", "party.toml", "secret"])
def test_a_key_file_that_others_can_read_is_named(house: House, which: str) -> None:
    place = house.path.parent
    secret = place / "data" / "secrets" / "job-1"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(bytes(32))
    secret.chmod(0o600)
    [identity] = place.rglob("*.private.json")
    path = {"identity": identity, "party.toml": house.path, "secret": secret}[which]
    path.chmod(0o640)
    fault = only(house.faults(), "key_file_open")
    assert f"{path} (mode 0640)" in fault.what
    assert f"chmod 600 {path}" in fault.advice


def test_a_clock_ten_minutes_off_the_partner_s_is_named(house: House) -> None:
    with daemon_of(house.path), daemon_of(house.paths[PROVIDER], ahead_s=600.0):
        fault = only(house.faults(), "clock_off")
    assert f"10 min behind that of {house.names[PROVIDER]}" in fault.what
    assert "timedatectl" in fault.advice


def test_a_clock_ten_minutes_off_the_broker_s_is_named(house: House) -> None:
    options = {"management": running_broker().admin_url, "clock": lambda: time.time() + 600.0}
    assert "10 min ahead of that of the broker" in only(house.faults(**options), "clock_off").what


def test_when_all_others_agree_it_is_this_clock_that_is_wrong() -> None:
    now = 1_700_000_000.0
    readings = [Reading(who, now, now + 300.0, now + 300.5) for who in ("bank", "bureau")]
    assert all("set this machine's clock" in finding.advice for finding in check_clock(readings))
    readings[1] = Reading("bureau", now, now, now + 30.0)  # slow, and right
    [fault] = check_clock(readings)
    assert "bank" in fault.what
    assert "find out which of both is wrong" in fault.advice


def test_a_wrong_vhost_is_named(house: House) -> None:
    house.edit(f"/{VHOST}", "/elsewhere")
    fault = only(house.faults(), "vhost_wrong")
    assert f"no vhost elsewhere, or does not let {house.name} into it" in fault.what
    assert f"end in /{VHOST}" in fault.advice


def test_a_wrong_password_is_named_and_not_shown(house: House) -> None:
    password = re.findall(r"://[^:]+:([^@]+)@", house.path.read_text())[0]
    house.edit(password, "hunter-22")
    found = house.findings()
    assert [item.code for item in found if item.level is Level.FAULT] == ["login_refused"]
    assert "hunter-22" not in repr(found)


def test_a_broker_that_is_not_there_is_named(house: House) -> None:
    house.edit(f":{running_broker().amqp_port}/", ":1/")
    assert "127.0.0.1:1 cannot be reached" in only(house.faults(), "broker_unreachable").what


def put_topic_permission(name: str, write: str) -> None:
    body = {"exchange": "warren", "write": write, "read": "^$"}
    Management(running_broker().admin_url).put("topic-permissions", VHOST, name, body=body)


@pytest.mark.parametrize("write", ["", ".*", r"^from\.someone\.to\..*$"])
def test_a_missing_topic_permission_is_named(house: House, write: str) -> None:
    if write:
        put_topic_permission(house.name, write)
    else:
        Management(running_broker().admin_url).delete("topic-permissions", VHOST, house.name)
    faults = house.faults()
    said = only(faults, "topic_permission_missing")
    assert "warren broker apply" in said.advice
    narrow = write.startswith("^from")
    assert ("may not send in its own name" if narrow else "may write in the name of others") in said.what
    seen = [item.what for item in house.findings(management=running_broker().admin_url) if item.check == "rights"]
    word = "differs: write is" if write else "has no topic permission"
    assert any(word in what for what in seen)
    put_topic_permission(house.name, permissions(house.name).topic_write)
    assert not house.faults(management=running_broker().admin_url)


def test_a_party_that_may_not_read_its_queue_is_told(house: House) -> None:
    right = permissions(house.name)
    body = {"configure": right.configure, "write": right.write, "read": "^$"}
    Management(running_broker().admin_url).put("permissions", VHOST, house.name, body=body)
    fault = only(house.faults(), "read_refused")
    assert f"{house.name} may not read queue" in fault.what


def replace_queue(name: str, arguments: dict[str, str | int | bool] | None) -> None:
    """Delete a queue and, with arguments, make it anew."""

    async def story() -> None:
        connection = await aio_pika.connect(running_broker().admin_amqp_url)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(name)
            if arguments is not None:
                await channel.declare_queue(name, durable=True, arguments=dict(arguments))

    asyncio.run(story())


def test_other_queue_arguments_are_named(house: House) -> None:
    name = queue_name("bulk", house.name, house.names[PROVIDER])
    replace_queue(name, {"x-queue-type": "quorum", "x-overflow": "drop-head"})
    faults = house.faults(management=running_broker().admin_url)
    said = faults["queue_arguments"]
    assert f"queue {name} has other arguments" in said.what
    assert "x-overflow is drop-head, not reject-publish" in said.what
    assert "x-single-active-consumer is missing, not True" in said.what
    assert "delete the queue" in said.advice
    # Made by hand, it is not bound either, which shows without an administrator.
    assert set(faults) == {"queue_arguments", "binding_missing"}


def test_a_missing_queue_is_named(house: House) -> None:
    name = queue_name("control", house.name, house.names[PROVIDER])
    replace_queue(name, None)
    assert f"queue {name} is missing" in only(house.faults(), "queue_missing").what


def test_an_expired_certificate_of_the_broker_is_named(tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(days=100)
    authority = Authority.make("an authority", began)
    certificate, key = authority.issue("localhost", began, 90, ["localhost"])
    for name, data in (("broker.pem", certificate), ("broker.key", key)):
        (tmp_path / name).write_bytes(data)
    other = tmp_path / "own"
    make_development(other, ["localhost"], ["bank"])
    with tls_server(tmp_path / "broker.pem", tmp_path / "broker.key") as port:
        house = House(tmp_path, {BUSINESS: f"amqps://localhost:{port}/warren?cafile={other}/ca.pem"})
        faults = house.faults()
    fault = faults["certificate_expired"]
    assert f"the certificate of the broker at localhost:{port} expired on" in fault.what
    assert "renewed" in fault.advice


def test_an_expired_certificate_of_the_party_itself_is_named(tmp_path: Path) -> None:
    files = tmp_path / "own"
    make_development(files, ["localhost"], ["bank"], days=10, now=datetime.now(UTC) - timedelta(days=20))
    house = House(tmp_path, {BUSINESS: tls_url("bank", files=files, authority=certificates() / "ca.pem")})
    fault = only(house.faults(), "certificate_expired")
    assert f"the client certificate {files}/bank.pem expired on" in fault.what


def test_a_wrong_authority_is_named(tmp_path: Path) -> None:
    files = tmp_path / "own"
    make_development(files, ["localhost"], ["bank"])
    house = House(tmp_path, {BUSINESS: tls_url("bank", files=files)})
    fault = only(house.faults(), "authority_wrong")
    assert f"the authority in {files}/ca.pem does not vouch for the broker at localhost:" in fault.what
    assert "cafile=" in fault.advice


def test_a_certificate_for_another_host_is_named(tmp_path: Path) -> None:
    files = tmp_path / "own"
    make_development(files, ["localhost"], ["bank"])
    certificate, key = Authority.load(files).issue("broker", datetime.now(UTC), 90, ["broker.example"])
    for name, data in (("other.pem", certificate), ("other.key", key)):
        (tmp_path / name).write_bytes(data)
    with tls_server(tmp_path / "other.pem", tmp_path / "other.key") as port:
        house = House(tmp_path, {BUSINESS: f"amqps://localhost:{port}/warren?cafile={files}/ca.pem"})
        assert "is for other names" in only(house.faults(), "certificate_host").what


def test_tls_that_is_right_is_told_with_its_end(tmp_path: Path) -> None:
    house = House(tmp_path, {BUSINESS: tls_url("business-a")})
    told = [item.what for item in house.findings() if item.check == "tls"]
    assert len(told) == 1
    assert "speaks TLSv1.3, its certificate is valid until" in told[0]


@pytest.mark.parametrize(("share", "code"), [(0.95, "disk_full"), (0.9, "disk_filling"), (0.5, "")])
def test_a_disk_that_is_full_or_filling_is_named(house: House, share: float, code: str) -> None:
    total = 2**40
    usage = Usage(total, int(total * share), total - int(total * share))
    [said] = [item for item in house.findings(usage=lambda _: usage) if item.check == "disk"]
    assert said.code == code
    assert f"{share:.0%} full" in said.what
    assert (said.level is Level.FAULT) == (code == "disk_full")
    assert ("warren purge" in said.advice) == bool(code)


def test_a_back_end_that_has_fallen_back_is_named(house: House) -> None:
    with library.using(None):
        faults = house.faults()
        assert library.reason() in only(faults, "back_end_fallen_back").what


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_second_daemon_on_one_journal_is_named(house: House, tmp_path: Path, kind: str) -> None:
    journal = f"sqlite:///{tmp_path}/{JOURNAL}"
    if kind == "postgresql":
        journal = postgres.url(postgres.fresh_database())
    house.path.write_text(f'journal = "{journal}"\n{house.path.read_text()}')
    second = house.path.with_name("second.toml")
    second.write_text(f'data_directory = "elsewhere"\n{house.path.read_text()}')
    second.chmod(0o600)
    with daemon_of(house.path):
        assert not house.faults()
        house.path = second
        fault = only(house.faults(), "journal_taken")
        assert f"{house.name}, process" in fault.what
        assert "a journal of its own" in fault.advice
    assert not house.faults()


def test_a_journal_whose_server_is_away_is_named_and_nobody_waits_for_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.doctor.journal.ANSWER_TIMEOUT_S", 2.0)
    database = postgres.fresh_database()
    house.path.write_text(f'journal = "{postgres.url(database)}"\n{house.path.read_text()}')
    with daemon_of(house.path):
        postgres.do(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
        postgres.do("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n", n=database)
        faults = house.faults()
        postgres.do(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true")
        assert set(faults) == {"journal_unreachable"}
        assert "start the database" in faults["journal_unreachable"].advice


def test_another_party_s_journal_is_named(house: House, tmp_path: Path) -> None:
    with daemon_of(house.paths[PROVIDER]):
        pass
    theirs = house.paths[PROVIDER].parent / "data" / JOURNAL
    house.path.write_text(f'journal = "sqlite:///{theirs}"\n{house.path.read_text()}')
    assert f"is {house.names[PROVIDER]}'s" in only(house.faults(), "journal_foreign").what


def doctor(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "doctor", *arguments])
    return guarded(app)


def test_the_command_ends_with_1_and_advice_where_something_is_wrong_and_with_0_where_nothing_is(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch, str(house.path), "--json") == DONE
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {item["level"] for item in findings} == {"fine", "note", "unknown"}
    house.path.chmod(0o644)
    assert doctor(monkeypatch, str(house.path)) == FAILED
    said = capsys.readouterr().out
    assert "key_file_open" in said
    assert "1 to be put right" in said
    assert doctor(monkeypatch, str(house.path.with_name("nothing.toml"))) == BAD_INPUT


def test_every_finding_has_its_place_in_the_troubleshooting_document() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "services" / "doctor").glob("*.py"))
    codes = set(re.findall(r'(?:fault|note)\(\s*"[a-z ]+", "([a-z_]+)"', code))
    codes |= {"topic_permission_missing", "permission_missing", "write_refused"}
    assert len(codes) > 25
    assert sorted(word for word in codes if f"`{word}`" not in text) == []
