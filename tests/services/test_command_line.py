"""What people see: errors are one sentence, and no text from outside takes hold of the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from services.cli import app, daemons, failures
from services.cli.failures import BAD_INPUT, CANCELLED, DECLINED, DONE, FAILED, UNREACHABLE, guarded
from services.cli.progress import ProgressView
from services.daemon.standing import Rate, describe
from services.party.plain_text import plain
from services.results import summary

HOSTILE = ("[/] closed", "[link=http://elsewhere]here[/link]", "\x1b[2J\x1b]0;title\x07", "a\r\nb", "\u202etxet")


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command line's exit code."""
    monkeypatch.setattr("sys.argv", ["warren", *arguments])
    return guarded(app)


def terminal() -> Console:
    """A terminal with colours, whose screen can be read."""
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200, highlight=False)


def screen(console: Console) -> str:
    """What was written to a terminal."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_from_outside_is_shown_as_it_stands(text: str) -> None:
    console = terminal()
    console.print(plain(text))
    shown = screen(console)
    assert "\x1b" not in shown
    assert shown.rstrip("\n").isprintable()
    assert (text in shown) == text.isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_the_reason_of_a_partner_does_not_take_hold_of_the_terminal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal()
    monkeypatch.setattr(failures, "errors", console)
    view = {"outcome": "declined", "status": "ended", "reason_code": "policy", "reason": text, "results": ""}
    assert daemons._ending(view) == DECLINED
    assert screen(console).rstrip("\n") == f"declined (policy): {plain(text).plain}"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_name_of_a_column_does_not_take_hold_of_the_terminal(text: str) -> None:
    console = terminal()
    console.print(summary._parameters("learned", {"coefficients": {text: 1.0}}))
    assert f"{plain(text).plain} +1.00000" in screen(console)


@pytest.mark.parametrize(
    ("outcome", "code"), [("done", DONE), ("failed", FAILED), ("cancelled", CANCELLED), ("expired", FAILED)]
)
def test_the_end_of_a_job_is_an_exit_code(outcome: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "errors", terminal())
    monkeypatch.setattr(daemons, "out", terminal())
    view = {"outcome": outcome, "status": "ended", "reason_code": "x", "reason": "y", "results": "somewhere"}
    assert daemons._ending(view) == code


def test_brackets_in_our_own_sentences_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = '[[dataset]]\nname = "x"\nsource = "s"\nid = "i"\n'
    path = tmp_path / "party.toml"
    path.write_text(f'name = "a"\nbroker = "amqp://localhost/"\n{entry}{entry}')
    assert run(["serve", str(path)], monkeypatch) == BAD_INPUT
    assert "two [[dataset]] entries" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["serve", "{here}"], BAD_INPUT, "{here}"),
        (["serve", "{here}/[/]no.toml"], BAD_INPUT, "[/]no.toml"),
        (["broker", "apply", "ftp://localhost", "--party", "a"], BAD_INPUT, "http[s]"),
        (["broker", "apply", "http://u:pass-word@broker.example", "--party", "a"], BAD_INPUT, "use https"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "A b"], BAD_INPUT, "--party"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "f"], BAD_INPUT, "PARTY=FILE"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "b=f"], BAD_INPUT, "one of a"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "a={here}/no"], BAD_INPUT, "/no"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a"], UNREACHABLE, "no answer"),
        (["broker", "apply", "amqp://127.0.0.1:1", "--party", "a"], UNREACHABLE, "refused"),
        (["peer", "add", "{here}"], BAD_INPUT, "{here}"),
        (["identity", "show", "{here}"], BAD_INPUT, "{here}"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(
    arguments: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [one.replace("{here}", str(tmp_path)) for one in arguments]
    assert run(arguments, monkeypatch) == code
    error = capsys.readouterr().err
    assert named.replace("{here}", str(tmp_path)) in error
    assert len(error.splitlines()) == 1
    assert "pass-word" not in error


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failures.DEBUG, "")
    with pytest.raises(ValueError, match="no such file"):
        run(["--debug", "serve", "nowhere.toml"], monkeypatch)


def test_a_rate_counts_from_the_start_of_its_stage_and_iteration() -> None:
    rate = Rate()
    assert rate.update("train", 1, 100, 10.0) == 0
    assert rate.update("train", 1, 300, 12.0) == 100
    assert rate.update("train", 2, 50, 13.0) == 0
    assert rate.update("train", 2, 80, 14.0) == 30


def test_progress_says_stage_iteration_rate_time_left_and_who_is_waited_for() -> None:
    place = {"stage": "train", "iteration": 3, "iterations": 11, "done": 200, "total": 1000}
    waiting = {"waits_for": "bank", "why": "partner_silent", "since": 5.0, "heard_at": 2.0, "detail": "no sign"}
    stage, details = describe({"progress": place, "partner": "bank", "waiting": waiting, "now": 12.0}, 40.0)
    assert stage == "training, iteration 3 of at most 11"
    waits = "waiting for bank since 7 s: no sign; last sign of bank 10 s ago"
    assert details == f"200 of 1000 rows; 40 rows/s, 20 s left; {waits}"
    away = {"progress": None, "now": 0.0, "transport": {"up": False, "detail": "waiting for the broker at x"}}
    assert describe(away, 0.0) == ("starting", "no broker: waiting for the broker at x")


def test_progress_is_a_line_a_stage_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView() as watch:
        for stage, done in (("align", 0), ("align", 5), ("train", 0)):
            watch({"progress": {"stage": stage, "done": done, "total": 10}, "now": 0.0})
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == ["aligning samples", "training"]
