"""How an administrator logs in at a broker without showing the password to others on the machine."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.cli import app
from services.cli.administrators import FILE_OPTION, VARIABLE
from services.cli.failures import BAD_INPUT, DONE, UNREACHABLE, guarded
from services.doctor.administration import HINT
from tests.rabbitmq import fresh_parties, running_broker

NOBODY = "http://127.0.0.1:1"
"""Where no broker is."""


def apply(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `warren broker apply` for two parties, without a terminal."""
    monkeypatch.setattr("sys.argv", ["warren", "broker", "apply", *arguments, "--party", "a", "--party", "b"])
    return guarded(app)


def without_login(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def test_a_password_in_the_command_line_is_warned_about_and_one_in_the_environment_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(monkeypatch, "http://admin:hidden@127.0.0.1:1") == UNREACHABLE
    said = capsys.readouterr().err
    assert "others on this machine can read it" in said
    assert "no answer from http://127.0.0.1:1: Connection refused" in said
    assert VARIABLE in said
    assert FILE_OPTION in said
    assert "hidden" not in said
    monkeypatch.setenv(VARIABLE, "http://admin:hidden@127.0.0.1:1")
    assert apply(monkeypatch) == UNREACHABLE
    said = capsys.readouterr().err
    assert "warning" not in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((NOBODY,), "Name the administrator"),
        (("http://admin@127.0.0.1:1",), "no terminal to ask for it"),
        ((NOBODY, FILE_OPTION, "admin"), "not NAME=FILE"),
        ((NOBODY, FILE_OPTION, "admin=/nowhere/password"), "/nowhere/password cannot be read"),
        (("http://127.0.0.1:port",), "this is no URL"),
        (("http://broker.example:15672", FILE_OPTION, "admin=x"), "without TLS"),
    ],
)
def test_a_login_that_cannot_be_is_named_with_what_to_do(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123 - closed with the process
    assert apply(monkeypatch, *arguments) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_doctor_takes_the_administrators_password_from_a_file_and_shows_no_url_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123 - closed with the process
    (tmp_path / "password").write_text("hidden")
    doctor = ["warren", "doctor", str(tmp_path / "no.toml"), "--management", NOBODY]
    monkeypatch.setattr("sys.argv", doctor)
    assert guarded(app) == BAD_INPUT
    assert "Name the administrator" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*doctor, FILE_OPTION, f"admin={tmp_path / 'password'}"])
    guarded(app)
    said = capsys.readouterr()
    assert "Name the administrator" not in said.err
    assert "hidden" not in said.out + said.err
    assert "//admin@" in HINT
    assert FILE_OPTION in HINT


def test_a_password_from_a_file_gets_in_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, names = running_broker(), fresh_parties("bank", "bureau")
    parts = urlsplit(broker.admin_url)
    (tmp_path / "password").write_text(f"{parts.password}\n")
    arguments = [without_login(broker.admin_url), FILE_OPTION, f"{parts.username}={tmp_path / 'password'}"]
    monkeypatch.setattr("sys.argv", ["warren", "broker", "apply", *arguments, *(f"--party={name}" for name in names)])
    assert guarded(app) == DONE
    (tmp_path / "password").write_text("wr@ng:/?#[]")
    assert guarded(app) == UNREACHABLE


def test_at_a_terminal_the_password_is_asked_for_and_not_shown() -> None:
    broker, names = running_broker(), fresh_parties("bank", "bureau")
    parts = urlsplit(broker.admin_url)
    url = f"{parts.scheme}://{parts.username}@{parts.hostname}:{parts.port}"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "services.cli", "broker", "apply", url, *(f"--party={name}" for name in names)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    screen = b""
    while b"Password of" not in screen:
        assert select.select([ours], [], [], 50)[0], screen
        screen += os.read(ours, 4096)
    os.write(ours, f"{parts.password}\n".encode())
    while True:
        try:
            screen += os.read(ours, 4096)
        except OSError:  # Linux: the other side is closed
            break
    os.close(ours)
    assert process.wait(timeout=20) == DONE, screen
    assert b"permissions of" in screen
    assert str(parts.password).encode() not in screen
