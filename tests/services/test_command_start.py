"""What the command line loads before a command begins, and what it says of commands that it has not loaded."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from services.cli import app
from services.cli.commands import ENTRIES, Entry, LazyGroup, NotLoaded
from services.cli.failures import DONE, UNREACHABLE

HEAVY = ("aio_pika", "numpy", "polars", "sqlalchemy")
START = """
import sys
from services.cli import main
sys.argv = ["warren", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def program() -> LazyGroup:
    group = typer.main.get_group(app)
    assert isinstance(group, LazyGroup)
    return group


def started(*words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A command in a process of its own, and the libraries that were imported for it."""
    run = subprocess.run(
        [sys.executable, "-c", START, *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environment},
    )
    return run, set(run.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words", ["--help", "--version", "jobs --help", "submit --help", "approve --help", "policy reload --help"]
)
def test_help_comes_without_the_libraries_that_compute(words: str) -> None:
    run, modules = started(*words.split())
    assert run.returncode == DONE
    assert "warren" in run.stdout
    assert "typer" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("words", ["jobs", "job a1", "approve a1", "policy reload"])
def test_a_daemon_is_asked_without_the_libraries_that_compute(words: str, tmp_path: Path) -> None:
    party = tmp_path / "party.toml"
    party.write_text('name = "lender"\nbroker = "amqp://localhost"\n')
    run, modules = started(*words.split(), "--party", str(party))
    assert run.returncode == UNREACHABLE, run.stderr
    assert str(tmp_path) in run.stderr
    assert modules.isdisjoint(HEAVY)


def test_a_command_that_computes_is_seen_to_load_its_libraries() -> None:
    assert {"numpy", "polars"} <= started("local", "--help")[1]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_list_of_commands_says_what_the_command_says_of_itself(entry: Entry, program: LazyGroup) -> None:
    listed = program.commands[entry.name]
    assert isinstance(listed, NotLoaded)
    command = listed.load()
    assert command.name == entry.name
    assert " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split()) == entry.help
    assert command.get_short_help_str() == listed.get_short_help_str()
    assert not command.hidden
    assert not command.deprecated


def test_every_name_of_a_command_stands_once_in_the_order_of_the_list(program: LazyGroup) -> None:
    assert list(program.commands) == [entry.name for entry in ENTRIES]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("warren appr", ["approve"]),
        ("warren jobs --", ["--party", "--json", "--help"]),
        ("warren policy rel", ["reload"]),
    ],
)
def test_completion_knows_names_and_options_of_commands_that_are_not_loaded(words: str, completed: list[str]) -> None:
    place = str(len(words.split()) - 1)
    run, modules = started(_WARREN_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert run.stdout.split() == completed
    assert modules.isdisjoint(HEAVY)
