"""What runs here is said, with its reason, and with what to do where it is not the fastest."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from alignment import lanes
from kernel import library
from paillier.choice import select
from services.cli import app
from services.cli.failures import BAD_INPUT, guarded
from services.daemon.local import BUSINESS, LocalTables, make_party
from services.daemon.serve import make_daemon
from services.party.back_ends import back_ends
from services.party.configuration import load_party


def doctor() -> list[str]:
    """The lines of `warren doctor`."""
    return CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "400"}).stdout.splitlines()


def test_the_doctor_says_what_works_without_the_kernel_and_what_to_do() -> None:
    with library.using(None):
        lines = doctor()
        assert f"paillier      gmpy2: {library.reason()}" in lines
        assert f"alignment     cryptography: {library.reason()}" in lines
    assert "Results are the same, but take several times longer: do what the reason says." in "\n".join(lines)


def test_the_doctor_names_the_path_that_works_and_the_faster_one() -> None:
    for path in library.paths():
        with library.using(path):
            lines = doctor()
            assert f"paillier      compiled ({path}): {library.reason()}" in lines
            curve = (
                f"compiled ({path}): "
                if lanes.fast()
                else "cryptography: on the path portable the kernel would be slower"
            )
            assert [line for line in lines if line.startswith(f"alignment     {curve}")]
        slow = path != library.paths()[-1]
        assert (f"Unset WARREN_KERNEL: this machine can run {library.paths()[-1]}." in "\n".join(lines)) == slow


def test_what_is_said_is_what_is_taken() -> None:
    for path in (None, *library.paths()):
        with library.using(path):
            paillier, _ = back_ends()
            assert paillier.name.split(" ")[0] == select().name
            assert bool(paillier.advice) == (path != library.PATHS[-1])


def test_a_daemon_logs_its_back_ends_when_it_starts(tmp_path: Path) -> None:
    tables = LocalTables(business=tmp_path / "b.csv", provider=tmp_path / "p.csv", identifier="id", label="y")
    party = make_party(
        tmp_path / "a",
        BUSINESS,
        "business-a",
        tables,
        broker="amqp://localhost/warren",
        marks=(),
        declare=False,
        noise_seed="",
    )
    with library.using(None), capture_logs() as lines:
        make_daemon(load_party(party))
        reason = library.reason()
    said = [line for line in lines if line["event"] == "back end"]
    assert [(line["work"], line["name"], line["why"]) for line in said] == [
        ("paillier", "gmpy2", reason),
        ("alignment", "cryptography", reason),
    ]


def test_a_wrong_choice_of_the_kernel_is_one_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["warren", "doctor"])
    monkeypatch.setenv("WARREN_KERNEL", "fast")
    library._chosen_by_environment.cache_clear()
    monkeypatch.setattr(library, "_forced", [])
    try:
        assert guarded(app) == BAD_INPUT
    finally:
        library._chosen_by_environment.cache_clear()
    assert capsys.readouterr().err == "warren: WARREN_KERNEL=fast: it can be auto, off, portable or avx512ifma\n"
