"""The files that docker compose uses: valid, consistent, and loaded by a real RabbitMQ."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from broker.definitions import shared
from broker.management import Management
from tests.rabbitmq import CERTIFICATE_PARTIES, DEPLOY, certificates, running_broker

ROOT = DEPLOY.parent
COMPOSE = ROOT / "docker-compose.yml"


def compose() -> dict:
    return yaml.safe_load(COMPOSE.read_text())


def test_the_compose_file_follows_the_schema_of_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_file_that_the_compose_file_mounts_from_the_repository_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./deploy/rabbitmq") or source.startswith(("./deploy/def", "./deploy/enabled")):
                assert (ROOT / source).is_file(), source
    assert (ROOT / "Dockerfile").is_file()


def test_the_development_authority_makes_every_secret_of_the_compose_file() -> None:
    made = {path.name for path in certificates().iterdir()}
    for name, secret in compose()["secrets"].items():
        path = Path(secret["file"])
        assert path.parent == Path("deploy/secrets"), name
        assert path.name in made, name
    for service in compose()["services"].values():
        for secret in service["secrets"]:
            assert secret["source"] in compose()["secrets"]


def test_the_broker_finds_its_certificate_where_the_compose_file_puts_it() -> None:
    settings = (DEPLOY / "rabbitmq.conf").read_text()
    wanted = set(re.findall(r"/run/secrets/(\S+)", settings))
    given = {secret["target"] for secret in compose()["services"]["rabbitmq"]["secrets"]}
    assert wanted == given


def test_the_definitions_are_those_of_the_example_parties_for_the_image_of_the_compose_file() -> None:
    version = re.fullmatch(r"rabbitmq:(\d+)\.(\d+)-management", compose()["services"]["rabbitmq"]["image"])
    expected = shared(CERTIFICATE_PARTIES, version=(int(version[1]), int(version[2])))
    assert json.loads((DEPLOY / "definitions.json").read_text()) == expected


def test_a_real_rabbitmq_loads_the_definitions() -> None:
    document = json.loads((DEPLOY / "definitions.json").read_text())
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


def test_no_secret_is_in_the_files_of_the_repository() -> None:
    document = json.loads((DEPLOY / "definitions.json").read_text())
    assert {user["password_hash"] for user in document["users"]} == {""}
    for path in (COMPOSE, DEPLOY / "rabbitmq.conf"):
        assert "password" not in path.read_text().lower().replace("password login", "")


def test_the_image_of_the_daemons_starts_the_daemon_and_not_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.12-slim", text, re.MULTILINE)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] != "root"
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    for name in CERTIFICATE_PARTIES:
        service = compose()["services"][name]
        assert [*entry, *service["command"]] == ["warren", "serve", "/etc/warren/party.toml"]
