"""The console of `warren serve`: a process of its own, whose broker may be away and whose port may be taken."""

import contextlib
import http.client
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.private import free_ports
from services.cli import app
from services.cli.failures import BAD_INPUT, UNREACHABLE, guarded
from services.daemon.local import BUSINESS, connect, serve
from services.party.configuration import load_party
from tests.parties import PATIENCE_S, example_tables, make_parties, until


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """party.toml of a business whose broker is nowhere, with a console."""
    directory = tmp_path_factory.mktemp("serving")
    nowhere, port = free_ports(2)
    urls = dict.fromkeys((BUSINESS, "provider"), f"amqp://nobody:nothing@127.0.0.1:{nowhere}/warren")
    path = make_parties(directory, example_tables(directory, 60), marks=(), urls=urls)[BUSINESS]
    path.write_text(f'console = "127.0.0.1:{port}"\n{path.read_text()}')
    return path


@contextlib.contextmanager
def served(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`warren serve`, until the block ends."""
    with (path.parent / "log").open("wb") as log:
        process = serve(path, log)
        try:
            connect(load_party(path)).close()
            yield process
        finally:
            process.kill()
            process.wait()


def port_of(path: Path) -> int:
    return int(load_party(path).file.console.rpartition(":")[2])


def listens(path: Path) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(path))) == 0


def warren(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def entered(path: Path) -> http.client.HTTPConnection:
    """A connection whose stream of events is open."""
    code, link = warren("console", "--party", str(path))
    assert code == 0, link
    connection = http.client.HTTPConnection("127.0.0.1", port_of(path), timeout=PATIENCE_S)
    connection.request("GET", link.strip().partition(f":{port_of(path)}")[2])
    answer = connection.getresponse()
    cookie = (answer.getheader("set-cookie") or "").split(";")[0]
    key = answer.read().decode().split('name="warren-key" content="')[1].split('"')[0]
    connection.request("GET", "/api/stream?job=", headers={"cookie": cookie, "x-warren-key": key})
    return connection


def test_a_daemon_without_a_broker_has_a_console_and_stops_at_once_although_somebody_watches(place: Path) -> None:
    with served(place) as process:
        until(lambda: listens(place), "the console listens")
        watching = entered(place)
        answer = watching.getresponse()
        assert answer.readline() == b"event: overview\n"
        assert b'"transport":{"up":false' in answer.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        watching.close()
    assert b"Traceback" not in (place.parent / "log").read_bytes()


def test_a_port_that_is_taken_costs_the_daemon_its_console_and_nothing_else(place: Path) -> None:
    with socket.create_server(("127.0.0.1", port_of(place))), served(place) as process:
        until(lambda: b"console not served" in (place.parent / "log").read_bytes(), "it says so")
        with connect(load_party(place)) as client:
            assert client.ask("jobs") == []
        assert process.poll() is None


def test_the_command_says_what_is_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = place.with_name("bare.toml")
    bare.write_text("\n".join(line for line in place.read_text().splitlines() if not line.startswith("console")))
    for path, code, said in ((bare, BAD_INPUT, "there is no key console"), (place, UNREACHABLE, "no daemon runs")):
        monkeypatch.setattr("sys.argv", ["warren", "console", "--party", str(path)])
        assert guarded(app) == code
        assert said in capsys.readouterr().err
