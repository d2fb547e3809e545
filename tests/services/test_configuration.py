"""Configuration files: what is wrong is named by file and key, and secrets stay where they are."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from messages.identity import Identity
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, UNREACHABLE, guarded
from services.daemon.job_file import job_from, label_bound, make_contract
from services.daemon.local import BUSINESS, EVALUATIONS_MAX, SCORE_QUOTA, LocalTables, introduce, make_party
from services.party.configuration import ConfigError, load_party
from services.tables.table import read_table

RUNNER = CliRunner()
JOB = {"task": "logistic", "dataset": "labels", "partner": "provider-a/features"}


def csv(path: Path, label: bool) -> Path:
    """A small table."""
    lines = ["id,y,a,b,c" if label else "id,d,e,f"]
    for row in range(60):
        values = [row % 2] if label else []
        lines.append(",".join(map(str, [f"p{row}", *values, row * 0.5, (row * 7) % 13, -row])))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def party(tmp_path: Path) -> Path:
    """party.toml of a business with one peer."""
    tables = LocalTables(
        business=csv(tmp_path / "b.csv", True), provider=csv(tmp_path / "p.csv", False), identifier="id", label="y"
    )
    fields = {"broker": "amqp://localhost/warren", "marks": ("small_sample",), "declare": False, "noise_seed": ""}
    first = make_party(tmp_path / "a", BUSINESS, "business-a", tables, **fields)  # type: ignore[arg-type]
    second = make_party(tmp_path / "b", "provider", "provider-a", tables, **fields)  # type: ignore[arg-type]
    introduce(first, second)
    return first


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"partner": "a/b", "partners": ["a/b", "c/d"]}, "either partner or partners"),
        ({"partners": ["a/b", "a/c"]}, "each once"),
        ({"partners": ["a/b", "c"]}, "'c' is not"),
        ({"partners": [f"p{number}/d" for number in range(9)]}, "1 to 8"),
        ({}, "'' is not"),
    ],
)
def test_a_job_names_its_providers_in_one_way_and_each_once(fields, said):
    with pytest.raises(ConfigError, match=said):
        job_from({"task": "logistic", "dataset": "loans", **fields}, "job.toml")


def test_several_providers_stand_in_the_contract_in_the_order_of_the_job(tmp_path):
    shop, bank, press, mill = (Identity.generate(name).public for name in ("shop", "bank", "press", "mill"))
    job = job_from({"task": "logistic", "dataset": "d", "partners": ["mill/x", "bank/y", "press/z"]}, "job")
    table = read_table(csv(tmp_path / "table.csv", label=True), identifier="id", label="y", task="logistic")
    agreed = make_contract(job, table, shop, mill, bank, press, salt=bytes(32))
    assert agreed.parties == ("shop", "mill", "bank", "press")
    assert [(entry.dataset, entry.key) for entry in agreed.chain] == [
        ("x", mill.digest()),
        ("y", bank.digest()),
        ("z", press.digest()),
    ]


def test_a_party_is_read_with_its_identity_peers_policy_and_data_sets(party: Path) -> None:
    found = load_party(party)
    assert set(found.peers) == {"provider-a"}
    assert found.datasets["labels"]["label"] == "y"
    assert found.policy == {
        "marks": ["small_sample"],
        "retention": ["digests"],
        "score_quota": SCORE_QUOTA,
        "inference": False,
        "stop_evaluations_max": EVALUATIONS_MAX,
    }
    assert repr(found) == "Party('business-a')"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "business-a"', 'name = "Business"', "name"),
        ('name = "business-a"', 'name = "business-b"', "business-b.private.json"),
        ("workers = 1", 'workers = "one"', "workers"),
        ("workers = 1", "worker = 1", "worker"),
        ("amqp://localhost/warren", "amqp://broker.example/warren", "amqps"),
        ("amqp://localhost/warren", "http://localhost/", "amqp"),
        ("amqp://localhost/warren", "mqtt://broker.example/warren", "mqtts"),
        ('policy = "policy.toml"', 'policy = "none.toml"', "none.toml"),
        ("declare = false", "declare = maybe", "not TOML"),
    ],
)
def test_a_mistake_in_party_toml_is_named(party: Path, old: str, new: str, named: str) -> None:
    text = party.read_text()
    assert old in text
    party.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        load_party(party)


def test_a_party_that_is_its_own_peer_is_told_instead_of_waiting_for_a_queue_that_cannot_be(party: Path) -> None:
    own = next(party.parent.glob("*.public.json"))
    (party.parent / "peers" / own.name).write_bytes(own.read_bytes())
    with pytest.raises(ConfigError, match="business-a is this party itself; `warren peer remove business-a`"):
        load_party(party)


def test_a_data_directory_that_cannot_be_is_named_with_its_key(
    party: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    party.write_text(f'data_directory = "party.toml"\n{party.read_text()}')
    monkeypatch.setattr("sys.argv", ["warren", "serve", str(party)])
    assert guarded(app) == BAD_INPUT
    assert f"{party}: key data_directory: {party} cannot be made a directory" in capsys.readouterr().err


def test_an_identity_that_others_can_read_is_refused(party: Path) -> None:
    private = next((party.parent / "identity").glob("*.private.json"))
    private.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_party(party)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"task": "trees"}, "task"),
        ({"partner": "provider-a"}, "partner"),
        ({"iterations": 3}, "iterations"),
        ({"max_iterations": "many"}, "max_iterations"),
        ({"marks": ["fast"]}, "marks"),
    ],
)
def test_a_mistake_in_job_toml_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        job_from({**JOB, **change}, "job.toml")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"key_bits": 1024}, "2048"),
        ({"release_noise": 0.0}, "small_sample"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_a_contract_that_nobody_may_sign_is_refused_at_home(
    party: Path, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    found = load_party(party)
    table = read_table(tmp_path / "b.csv", identifier="id", label="y", task="logistic")
    job = job_from({**JOB, **change}, "job.toml")
    with pytest.raises(ConfigError, match=named):
        make_contract(job, table, found.identity.public, found.peers["provider-a"], salt=bytes(32))


def test_the_declared_label_bound_is_a_power_of_two_or_what_was_asked_for(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path / "b.csv", True), identifier="id", label="a", task="linear")
    assert label_bound(job_from({**JOB, "task": "linear"}, "j"), table) == 32.0
    assert label_bound(job_from({**JOB, "task": "linear", "label_bound": 64}, "j"), table) == 64.0
    with pytest.raises(Exception, match="label_bound"):
        label_bound(job_from({**JOB, "task": "linear", "label_bound": 2}, "j"), table)


def test_identities_are_made_shown_exchanged_and_forgotten(tmp_path: Path) -> None:
    made = RUNNER.invoke(app, ["identity", "init", str(tmp_path / "i"), "--name", "bank"])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "i" / "bank.private.json").stat().st_mode & 0o777 == 0o600
    public = str(tmp_path / "i" / "bank.public.json")
    shown = RUNNER.invoke(app, ["identity", "show", public]).output.strip()
    assert shown.startswith("bank")
    assert shown.split(maxsplit=1)[1] in made.output
    peers = ["--peers", str(tmp_path / "peers")]
    assert RUNNER.invoke(app, ["peer", "add", public, *peers]).exit_code == 0
    assert "bank" in RUNNER.invoke(app, ["peer", "list", *peers]).output
    assert RUNNER.invoke(app, ["peer", "remove", "bank", *peers]).exit_code == 0
    assert "bank" not in RUNNER.invoke(app, ["peer", "list", *peers]).output


def test_an_identity_is_never_overwritten_and_a_changed_peer_never_taken(tmp_path: Path) -> None:
    arguments = ["identity", "init", str(tmp_path), "--name", "bank"]
    assert RUNNER.invoke(app, arguments).exit_code == 0
    again = RUNNER.invoke(app, arguments)
    assert isinstance(again.exception, ConfigError)
    other = tmp_path / "other.json"
    other.write_text(Identity.generate("bank").public.to_json())
    peers = ["--peers", str(tmp_path / "peers")]
    assert RUNNER.invoke(app, ["peer", "add", str(tmp_path / "bank.public.json"), *peers]).exit_code == 0
    assert isinstance(RUNNER.invoke(app, ["peer", "add", str(other), *peers]).exception, ConfigError)


def test_version_and_help_are_there() -> None:
    assert RUNNER.invoke(app, ["--version"]).output.startswith("warren ")
    text = RUNNER.invoke(app, ["--help"]).output
    for command in ("identity", "peer", "serve", "check", "submit", "jobs", "cancel", "logs", "parked", "local"):
        assert command in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], DONE),
        (["serve", "nowhere.toml"], BAD_INPUT),
        (["local", "--task", "trees", "--business", "b", "--provider", "p", "--id", "i", "--label", "l"], BAD_INPUT),
        (["nonsense"], BAD_INPUT),
    ],
)
def test_exit_codes_say_whose_turn_it_is(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["warren", *arguments])
    assert guarded(app) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_daemon_that_does_not_run_is_exit_code_3(party: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["warren", "jobs", "--party", str(party)])
    assert guarded(app) == UNREACHABLE


def test_several_partners_are_added_at_once_and_a_file_that_is_none_adds_nobody(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = []
    for name in ("bank", "press", "mill"):
        paths.append(tmp_path / f"{name}.public.json")
        paths[-1].write_text(Identity.generate(name).public.to_json())
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert RUNNER.invoke(app, ["peer", "add", *map(str, paths), str(bad)]).exit_code != 0
    assert not (tmp_path / "peers").exists()
    assert RUNNER.invoke(app, ["peer", "add", *map(str, paths)]).exit_code == DONE
    assert sorted(path.name for path in (tmp_path / "peers").iterdir()) == sorted(path.name for path in paths)
