"""The files that docker compose uses: valid, consistent with each other and with what the commands print."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import yaml

from broker.definitions import linked, peer_broker, shared
from broker.listeners import Tls, tls_settings
from broker.management import Management
from broker.topology import NEWEST_VERSION
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, guarded
from services.daemon.local import NAMES
from services.party.configuration import PartyFile, check_broker_url, check_console, read_toml
from tests.rabbitmq import DEPLOY, running_broker

ROOT = DEPLOY.parent
FILES = ("docker-compose.yml", "docker-compose.shared.yml")
PARTIES = tuple(NAMES.values())
DEFINITIONS = {
    "shared": ["--party", "business-a", "--party", "provider-a"],
    "business-a": ["--own", "business-a", "--peer", "provider-a=rabbitmq-provider-a"],
    "provider-a": ["--own", "provider-a", "--peer", "business-a=rabbitmq-business-a"],
}


def compose(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / file).read_text())


def brokers(file: str) -> dict[str, Any]:
    return {name: service for name, service in compose(file)["services"].items() if name.startswith("rabbitmq")}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["warren", *arguments])
    return guarded(app)


@pytest.mark.parametrize("file", FILES)
def test_a_compose_file_follows_the_schema_of_the_compose_specification(file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_a_compose_file_mounts_from_the_repository_is_there(file: str) -> None:
    mounted = [volume.split(":")[0] for service in compose(file)["services"].values() for volume in service["volumes"]]
    from_here = [source for source in mounted if source.startswith(".")]
    assert len(from_here) >= 5
    for source in from_here:
        assert (ROOT / source).exists(), source
    assert {source for source in mounted if not source.startswith(".")} == set(compose(file)["volumes"])


@pytest.mark.parametrize("file", FILES)
def test_the_commands_in_a_compose_file_make_every_secret_that_it_names(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^#   warren (tls dev .*)$", (ROOT / file).read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        assert run(monkeypatch, *shlex.split(command)) == DONE
    for name, secret in compose(file)["secrets"].items():
        assert Path(secret["file"]).is_file(), name
        # Containers read under user ids of their own.
        assert Path(secret["file"]).stat().st_mode & 0o004, name
    used = {secret["source"] for service in compose(file)["services"].values() for secret in service["secrets"]}
    assert used == set(compose(file)["secrets"])


@pytest.mark.parametrize("file", FILES)
def test_a_broker_finds_every_certificate_where_the_compose_file_puts_it(file: str) -> None:
    settings = (DEPLOY / "rabbitmq.conf").read_text()
    for service in brokers(file).values():
        (source,) = [volume.split(":")[0] for volume in service["volumes"] if "definitions.json" in volume]
        document = (ROOT / source).read_text()
        wanted = set(re.findall(r"/run/secrets/([\w.-]+)", settings + document))
        assert wanted == {secret["target"] for secret in service["secrets"]}


def test_linked_brokers_reach_each_other_under_names_of_the_compose_file() -> None:
    services = brokers("docker-compose.yml")
    for own in PARTIES:
        document = json.loads((DEPLOY / own / "definitions.json").read_text())
        for shovel in document["parameters"]:
            host = urlsplit(shovel["value"]["src-uri"]).hostname
            assert "wan" in services[host]["networks"]
        assert services[f"rabbitmq-{own}"]["networks"][own] == {"aliases": ["rabbitmq"]}
        # A daemon reaches its own broker and no other network.
        assert compose("docker-compose.yml")["services"][own]["networks"] == [own]


def test_a_broker_takes_tls_alone_and_with_the_settings_that_the_tests_run_with() -> None:
    lines = [line for line in (DEPLOY / "rabbitmq.conf").read_text().splitlines() if line and line[0] != "#"]
    secrets = Path("/run/secrets")
    assert set(tls_settings(Tls(secrets / "ca.pem", secrets / "broker.pem", secrets / "broker.key"))) <= set(lines)
    assert "listeners.tcp = none" in lines


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_reachable_from_another_machine(file: str) -> None:
    for name, service in compose(file)["services"].items():
        ports = service.get("ports", [])
        assert bool(ports) == (name in PARTIES)
        assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("where", DEFINITIONS)
def test_the_definitions_are_what_the_command_prints(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "broker", "definitions", *DEFINITIONS[where]) == DONE
    printed = capsys.readouterr().out
    assert (DEPLOY / where / "definitions.json").read_text() == printed
    document = json.loads(printed)
    for file in FILES:
        for service in brokers(file).values():
            assert service["image"] == "rabbitmq:{}.{}-management".format(*NEWEST_VERSION)
    # No password is in them, so that they can lie in a repository.
    assert {user["password_hash"] for user in document["users"]} == {""}


def test_a_real_rabbitmq_loads_the_definitions() -> None:
    document = json.loads((DEPLOY / "shared" / "definitions.json").read_text())
    management = Management(running_broker().admin_url)
    # RabbitMQ 3 takes -1 for a limit of none at all; nothing else differs.
    if management.version().startswith("3."):
        for queue in document["queues"]:
            queue["arguments"].pop("x-delivery-limit", None)
    for queue in ("control", "bulk"):
        assert any(f"{queue}.provider-a.business-a" == known["name"] for known in document["queues"])
    management.post("definitions", body=document)
    loaded = management.get("definitions", "warren")
    queues = {queue["name"]: queue["arguments"] for queue in loaded["queues"]}
    for queue in document["queues"]:
        assert queues[queue["name"]] == queue["arguments"]


def test_passwords_and_versions_go_into_the_definitions_and_never_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop").write_text("S3cret\n")
    (tmp_path / "root").write_text("Adm1n\n")
    arguments = ["--party", "shop", "--party", "bank", "--mqtt", "bank", "--version", "3.10"]
    files = ["--password-file", f"shop={tmp_path}/shop", "--administrator-file", f"root={tmp_path}/root"]
    assert run(monkeypatch, "broker", "definitions", *arguments, *files) == DONE
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert "S3cret" not in printed
    assert "Adm1n" not in printed
    expected = shared(["shop", "bank"], version=(3, 10), mqtt=["bank"], administrators={"root": "Adm1n"})
    for kind in ("queues", "permissions", "topic_permissions", "policies", "bindings"):
        assert document[kind] == expected[kind]
    hashed = {user["name"]: bool(user["password_hash"]) for user in document["users"]}
    assert hashed == {"shop": True, "bank": False, "root": True}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--own"),
        (["--party", "a", "--own", "b", "--peer", "c=h"], "--own"),
        (["--own", "a"], "belong together"),
        (["--party", "a", "--peer", "b=h"], "belong together"),
        (["--own", "a", "--peer", "a=h"], "named twice"),
        (["--own", "a", "--peer", "b"], "PARTY=HOST"),
        (["--own", "A", "--peer", "b=h"], "--own"),
        (["--party", "a", "--mqtt", "b"], "b is no --party"),
        (["--party", "a", "--version", "new"], "like 4.3"),
        (["--party", "a", "--administrator-file", "root"], "NAME=FILE"),
    ],
)
def test_options_that_describe_no_broker_are_refused_by_name(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "broker", "definitions", *arguments) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_shovels_are_not_made_over_amqp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["amqp://a:b@127.0.0.1:1/warren", "--own", "a", "--peer", "b=h"]
    assert run(monkeypatch, "broker", "apply", *arguments) == BAD_INPUT
    assert "management URL" in capsys.readouterr().err


def test_own_and_peer_make_the_document_of_a_linked_broker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--own", "shop", "--peer", "bank=broker.bank.example:5999", "--certificates", "/tls"]
    assert run(monkeypatch, "broker", "definitions", *options) == DONE
    peers = [peer_broker("bank=broker.bank.example:5999")]
    assert json.loads(capsys.readouterr().out) == linked("shop", peers, certificates=Path("/tls"))


@pytest.mark.parametrize("party", PARTIES)
def test_a_party_file_of_the_deployment_can_be_read_and_fits_its_container(party: str) -> None:
    path = DEPLOY / party / "party.toml"
    file = msgspec.convert(read_toml(path), PartyFile)
    check_broker_url(file.broker, path)
    check_console(file, path)
    assert file.name == party
    for name in FILES:
        service = compose(name)["services"][party]
        named = {value[0] for value in parse_qs(urlsplit(file.broker).query).values() if value[0].startswith("/")}
        assert named == {f"/run/secrets/{secret['target']}" for secret in service["secrets"]}
        (port,) = service["ports"]
        assert file.console_hosts == (port.removesuffix(":8700"),)
        assert file.console.endswith(":8700")
        # What has to outlive the container is in its volume.
        assert f"{party}:/var/lib/warren" in service["volumes"]
    for kept in (file.data_directory, file.identity, file.peers):
        assert kept.startswith("/var/lib/warren/")


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of the Dockerfile, by stage."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    found: list[list[tuple[str, str]]] = []
    for word, rest in lines:
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def test_the_image_is_slim_and_starts_the_daemon_and_not_as_root() -> None:
    last = dict(stages()[-1])
    assert re.fullmatch(r"python:3\.\d+-slim", last["FROM"])
    users = [rest for word, rest in stages()[-1] if word == "USER"]
    assert users == ["warren"]
    assert "--uid 10001" in last["RUN"]
    entry = json.loads(last["ENTRYPOINT"])
    assert [*entry, *json.loads(last["CMD"])] == ["warren", "serve", "/etc/warren/party.toml"]
    # Nothing of the compiler's stage but what was installed.
    assert [rest for word, rest in stages()[-1] if word in ("COPY", "ADD")] == ["--from=build /install /usr/local"]
    for file in FILES:
        for party in PARTIES:
            service = compose(file)["services"][party]
            assert [*entry, *service["command"]] == ["warren", "serve", "/etc/warren/party.toml"]
            assert (service["image"], service["build"]) == ("warren", ".")


def test_image_and_compose_files_ask_the_daemon_itself_whether_it_is_healthy() -> None:
    health = dict(stages()[-1])["HEALTHCHECK"]
    asked = json.loads(health[health.index("[") :])
    for file in FILES:
        for party in PARTIES:
            assert compose(file)["services"][party]["healthcheck"]["test"] == ["CMD", *asked]
        for service in brokers(file).values():
            assert "check_running" in service["healthcheck"]["test"][1]


def test_the_image_is_built_of_files_that_are_sent_to_the_engine() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "deploy/secrets"} <= set(ignored)
    for needed in ("requirements-dev.lock", "pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "kernel"):
        assert (ROOT / needed).exists()
        assert needed not in ignored
    assert "--constraint requirements-dev.lock" in dict(stages()[0])["RUN"]


def test_no_secret_is_in_the_files_of_the_repository() -> None:
    for path in (*(ROOT / file for file in FILES), *DEPLOY.rglob("*")):
        if path.is_file() and "secrets" not in path.parts:
            text = path.read_text()
            assert "PRIVATE KEY" not in text, path
            assert not re.search(r"amqps?://[^/@\s]*:[^@\s]+@", text), path
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().split()
