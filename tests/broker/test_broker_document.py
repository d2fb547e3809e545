"""Every command of docs/broker.md, run in its order."""

import json
import re
import shlex
import shutil
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from services.cli import app
from services.cli.failures import DONE, guarded
from services.party.configuration import load_party
from tests.linked import OTHER, OWN, linked_brokers
from tests.rabbitmq import DEPLOY, running_broker

DOCUMENT = DEPLOY.parent / "docs" / "broker.md"
A, B = OWN


def commands(heading: str) -> list[str]:
    """The lines of all `sh` blocks of a section."""
    section = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


class Shell:
    """Runs lines of the document in this process, with what stands there for a machine put in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: dict[str, str]) -> None:
        self._monkeypatch = monkeypatch
        self._places = places

    def run(self, line: str) -> str:
        for written, real in self._places.items():
            line = line.replace(written, real)
        line, _, file = line.partition(" > ")
        words = shlex.split(line)
        if words[0] == "cp":
            subprocess.run(line, shell=True, check=True)
            return ""
        assert words[0] == "warren", line
        out = StringIO()
        with redirect_stdout(out):
            self._monkeypatch.setattr("sys.argv", words)
            assert guarded(app) == DONE, line
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(out.getvalue())
        return out.getvalue()


def test_the_shared_broker_is_set_up_as_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch, {"$ADMIN": running_broker().admin_url})
    lines = commands("A shared broker")
    assert len(lines) == 4
    said = [shell.run(line) for line in lines]
    assert "broker.example" in said[1]
    document = json.loads(Path("definitions.json").read_text())
    assert [user["name"] for user in document["users"]] == [A, B]
    assert f"topic permissions of {A}" in said[3]


def test_linked_brokers_are_set_up_as_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = linked_brokers()
    host = f"rabbitmq.{B}.example"
    places = {
        "$ADMIN": pair.brokers[A].admin_url,
        f"{B}={host}": f"{B}=localhost:{pair.lines[A].port}",
        "/etc/rabbitmq/tls": str(pair.files[A]),
    }
    # What the partner did in its house.
    Shell(monkeypatch, {}).run(f"warren tls dev {B}/tls --broker {host} --party {B} --peer {A}")
    shutil.copytree(f"{B}/tls/for-{A}", f"from-{B}")
    shell = Shell(monkeypatch, places)
    lines = commands("A broker per organisation")
    assert len(lines) == 5
    said = [shell.run(line) for line in lines]
    assert f"shovel.{A}, by Warren development authority of {B}" in said[2]
    assert f"shovel from.{B}" in said[4]
    made = pair.management(A).get("parameters", "shovel", "warren", f"from.{B}")["value"]
    (written,) = json.loads(Path("definitions.json").read_text())["parameters"]
    assert made == written["value"]


def test_compose_is_set_up_as_described_as_far_as_that_goes_without_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for own in OWN:
        shutil.copytree(DEPLOY / own, tmp_path / "deploy" / own)
        (tmp_path / own).mkdir()
    shell = Shell(monkeypatch, {})
    lines = commands("With docker compose")
    for line in lines:
        if not line.startswith("docker compose"):
            shell.run(line)
            continue
        words = shlex.split(line.partition(" > ")[0])[2:]
        if words[0] == "run":
            in_container(shell, tmp_path, line, words)
        elif words[0] == "exec":
            Shell(monkeypatch, {}).run(shlex.join([*words[2:4], "--help"]))
        else:
            assert words in (["build"], ["up", "--detach"])
    for where in (*OWN, "shared"):
        assert (tmp_path / "deploy" / where / "definitions.json").read_bytes() == (
            DEPLOY / where / "definitions.json"
        ).read_bytes()
    for own in OWN:
        path = tmp_path / "deploy" / own / "party.toml"
        path.write_text(path.read_text().replace("/var/lib/warren", str(tmp_path / own)))
        party = load_party(path)
        assert party.identity.name == own
        assert list(party.peers) == [OTHER[own]]
        assert msgspec.to_builtins(party.file)["workers"] == 1


def in_container(shell: Shell, root: Path, line: str, words: list[str]) -> None:
    """What `docker compose run` starts, in the directory of the container's volume."""
    options = [word for word in words if word.startswith("-")]
    assert {"--rm", "--no-deps"} <= set(options)
    at = next(index for index, word in enumerate(words) if word in OWN)
    service, arguments = words[at], words[at + 1 :]
    with pytest.MonkeyPatch.context() as inside:
        inside.chdir(root / service)
        if "--entrypoint" in options:
            assert words[at - 1] == "cat"
            target = root / line.partition(" > ")[2]
            target.write_bytes(Path(*arguments).read_bytes())
        else:
            there = [word.replace("/etc/warren", str(root / "deploy" / service)) for word in arguments]
            shell.run(shlex.join(["warren", *there]))


def test_every_sentence_of_the_document_that_a_daemon_says_is_one_that_it_says() -> None:
    section = DOCUMENT.read_text().split("## When a daemon does not get in")[1].split("\n## ")[0]
    source = "".join((DEPLOY.parent / "broker" / name).read_text() for name in ("address.py", "link.py"))
    # Code writes a sentence over several lines, with names in braces.
    said = re.sub(r"\{[^{}]*\}", "...", re.sub(r'"\s*\n\s*f?"', "", source)).replace('f"', '"')
    sentences = [
        sentence.strip()
        for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[2:]
        for sentence in row.split(";")
    ]
    assert len(sentences) >= 12
    for sentence in sentences:
        for part in filter(None, (part.strip() for part in sentence.split("..."))):
            assert part in said, sentence
