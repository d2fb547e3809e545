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

LOCAL = ["local", "--task", "logistic", "--id", "id", "--label", "y"]
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
        ([*LOCAL, "--business", "{here}", "--provider", "b.csv"], BAD_INPUT, "is a directory"),
        ([*LOCAL, "--business", "a.csv", "--provider", "b.csv", "--broker", "rabbit"], BAD_INPUT, "--broker rabbit"),
        ([*LOCAL, "--business", "a.csv", "--provider", "b.csv", "--out", "/proc/no"], BAD_INPUT, "--out /proc/no"),
        (["demo", "--broker", "rabbit"], BAD_INPUT, "--broker rabbit"),
        (["demo", "--out", "/proc/no"], BAD_INPUT, "--out /proc/no"),
        (["jobs", "--party", "{here}/no.toml"], BAD_INPUT, "name the party.toml"),
        (["revoke"], BAD_INPUT, "name a job"),
        (["pause"], BAD_INPUT, "name a job"),
        (["allow"], BAD_INPUT, "name the partner"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "A b"], BAD_INPUT, "--party"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "f"], BAD_INPUT, "PARTY=FILE"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "b=f"], BAD_INPUT, "one of a"),
        (["broker", "apply", "http://127.0.0.1:1", "--party", "a", "--password-file", "a={here}/no"], BAD_INPUT, "/no"),
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


def seen(rate: Rate, stage: str, iteration: int, done: int, now: float, iterations: int = 11) -> float | None:
    """What is left, in seconds, after one more look at a job of 1000 rows."""
    rate.look({"stage": stage, "iteration": iteration, "iterations": iterations, "done": done, "total": 1000}, now)
    return rate.left()


def test_what_is_left_of_a_stage_follows_from_its_rate() -> None:
    rate = Rate()
    assert seen(rate, "align", 0, 0, 0.0) is None
    assert seen(rate, "align", 0, 250, 10.0) == pytest.approx(30.0)


def test_what_is_left_of_training_counts_all_iterations_to_come() -> None:
    rate = Rate()
    seen(rate, "encrypt_features", 0, 1000, 0.0)
    assert seen(rate, "train", 1, 0, 100.0) is None
    assert seen(rate, "train", 1, 500, 110.0) == pytest.approx(10 + 10 * 20)
    assert seen(rate, "train", 2, 0, 130.0) == pytest.approx(10 * 30)
    assert seen(rate, "train", 3, 0, 170.0) == pytest.approx(9 * 35)
    assert seen(rate, "train", 3, 10, 180.0) == pytest.approx(25 + 8 * 35)
    assert seen(rate, "train", 3, 10, 300.0) == pytest.approx(8 * 35)
    for iteration in range(4, 12):
        left = seen(rate, "train", iteration, 0, 300.0 + 7 * (iteration - 3))
    assert left == pytest.approx(7.0)
    assert seen(rate, "finish", 11, 0, 400.0) is None


def test_an_iteration_that_was_seen_from_its_middle_says_nothing_of_the_others() -> None:
    rate = Rate()
    assert seen(rate, "train", 4, 990, 0.0) is None
    assert seen(rate, "train", 5, 0, 1.0) is None
    assert seen(rate, "train", 7, 0, 61.0) == pytest.approx(5 * 30)


def test_progress_says_stage_iteration_rate_time_left_and_who_is_waited_for() -> None:
    place = {"stage": "train", "iteration": 3, "iterations": 11, "done": 200, "total": 1000}
    waiting = {"waits_for": "bank", "why": "partner_silent", "since": 5.0, "heard_at": 2.0, "detail": "no sign"}
    view = {"progress": place, "partner": "bank", "waiting": waiting, "now": 12.0}
    stage, details = describe(view, 40.0, 300.0)
    assert stage == "training, iteration 3 of at most 11"
    waits = "waiting for bank since 7 s: no sign; last sign of bank 10 s ago"
    left = "about 5 min left if all 11 iterations are needed"
    assert details == f"200 of 1000 rows; 40 rows/s; {left}; {waits}"
    away = {"progress": None, "now": 0.0, "transport": {"up": False, "detail": "waiting for the broker at x"}}
    assert describe(away, 0.0) == ("starting", "no broker: waiting for the broker at x")


@pytest.mark.parametrize(
    ("why", "quiet", "told"),
    [("partner_turn", 14.0, 16.0), ("partner_silent", 4.0, 6.0), ("broker_away", 4.0, 6.0), ("steward", None, 0.0)],
)
def test_a_wait_of_a_moment_is_no_news_and_one_for_a_person_is_at_once(
    why: str, quiet: float | None, told: float
) -> None:
    waiting = {"waits_for": "bank", "why": why, "since": 0.0, "heard_at": 0.0, "detail": "no sign"}
    view = {"progress": None, "partner": "bank", "waiting": waiting, "transport": {"up": False, "detail": "away"}}
    assert "waiting for bank" in describe({**view, "now": told}, 0.0)[1]
    if quiet is not None:
        assert describe({**view, "now": quiet}, 0.0)[1] == ""


def test_progress_is_a_line_a_stage_and_iteration_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressView() as watch:
        for stage, iteration, done in (
            ("align", 0, 0),
            ("align", 0, 5),
            ("train", 1, 0),
            ("train", 1, 9),
            ("train", 2, 0),
        ):
            place = {"stage": stage, "iteration": iteration, "iterations": 3, "done": done, "total": 10}
            watch({"progress": place, "now": 0.0})
    lines = [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["aligning samples", "training, iteration 1 of at most 3", "training, iteration 2 of at most 3"]
