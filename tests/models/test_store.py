"""Model versions: there after a job, immutable, private, durable, and retired for good."""

import hashlib
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from services.audit.purging import purge_stopped
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, guarded
from services.models.export import part_of
from services.models.store import ModelRetired, ModelStore, ModelUnknown
from services.models.version import ModelDamaged, decode_version, encode_version
from services.tables.table import read_table
from tests.audit.recorded import BUSINESS, COLUMNS, PROVIDER, Recorded

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "model-part.json"


def store_of(recorded: Recorded, role: str) -> ModelStore:
    return ModelStore(recorded.party(role).data_directory)


def results_of(recorded: Recorded, role: str) -> bytes:
    path = recorded.party(role).data_directory / "results" / recorded.job / "parameters.json"
    return path.read_bytes()


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_each_party_keeps_its_own_part_and_where_it_came_from(trained: Recorded, role: str) -> None:
    version = store_of(trained, role).get(trained.job).version
    assert (version.model, version.role) == (trained.job, role)
    assert version.columns == COLUMNS[role]
    assert version.parameters == results_of(trained, role)
    assert version.contract_digest == hashlib.sha256(version.contract).digest()
    assert trained.job.endswith(version.contract_digest.hex()[:16])
    assert len(version.data_digest) == len(version.schema_digest) == len(version.head) == 32
    assert version.length > 0


def test_scores_of_both_parts_add_up_to_the_model_on_the_grid_of_training(trained: Recorded) -> None:
    total = 0.0
    for role in (BUSINESS, PROVIDER):
        party = trained.party(role)
        version = store_of(trained, role).get(trained.job).version
        table = read_table(party.directory.parent / f"{role}.csv", identifier="id", columns=version.columns)
        document = json.loads(results_of(trained, role))
        expected = table.values @ list(document["coefficients"].values()) + document.get("intercept", 0.0)
        scores = version.targets[0].scores(table.values)
        assert abs(scores - expected).max() < 1e-3
        total = total + scores
    assert total.std() > 0.01


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_only_the_owner_may_read_a_version(trained: Recorded, role: str) -> None:
    folder = store_of(trained, role).path(trained.job)
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_version_is_never_written_again(copied: Callable[[], Recorded]) -> None:
    store = store_of(copied(), BUSINESS)
    [kept] = store.all()
    before = (store.path(kept.version.model) / "version").read_bytes()
    assert not store.add(kept.version)
    assert (store.path(kept.version.model) / "version").read_bytes() == before


def test_a_version_that_is_being_kept_is_waited_for(trained: Recorded, tmp_path: Path) -> None:
    version = store_of(trained, BUSINESS).get(trained.job).version
    later = ModelStore(tmp_path)
    keeper = threading.Timer(0.1, later.add, (version,))
    keeper.start()
    later.await_kept(trained.job, 60.0)
    assert later.usable(trained.job) == version
    keeper.join()


def test_a_version_survives_its_bytes_and_no_other_bytes_pass_for_one(trained: Recorded) -> None:
    version = store_of(trained, PROVIDER).get(trained.job).version
    data = encode_version(version)
    assert decode_version(data) == version
    for place in (0, 40, len(data) - 1):
        with pytest.raises(ModelDamaged):
            decode_version(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(ModelDamaged):
        decode_version(b"")


def test_no_parameter_is_in_a_repr(trained: Recorded) -> None:
    version = store_of(trained, PROVIDER).get(trained.job).version
    assert str(version.targets[0].coefficients[0])[:8] not in repr(version)
    assert COLUMNS[PROVIDER][0] not in repr(version)


def test_a_model_outlives_the_purge_of_its_job(copied: Callable[[], Recorded]) -> None:
    recorded = copied()
    for role in (BUSINESS, PROVIDER):
        before = store_of(recorded, role).get(recorded.job)
        purge_stopped(recorded.party(role), recorded.job)
        assert store_of(recorded, role).get(recorded.job) == before


def test_a_retired_model_stays_and_refuses_for_good(copied: Callable[[], Recorded]) -> None:
    recorded = copied()
    store = store_of(recorded, PROVIDER)
    assert store.usable(recorded.job)
    first = store.retire(recorded.job, "replaced", now=1.0)
    assert store.retire(recorded.job, "again", now=2.0) == first
    with pytest.raises(ModelRetired):
        store.usable(recorded.job)
    assert store.get(recorded.job).retirement == first
    assert store_of(recorded, BUSINESS).usable(recorded.job)


def test_a_retirement_that_cannot_be_read_does_not_bring_the_model_back(copied: Callable[[], Recorded]) -> None:
    recorded = copied()
    store = store_of(recorded, PROVIDER)
    store.retire(recorded.job, "")
    (store.path(recorded.job) / "retired").write_bytes(b"")
    with pytest.raises(ModelDamaged):
        store.usable(recorded.job)


@pytest.mark.parametrize("name", ["no-such-model", "../results", "", "A"])
def test_a_name_of_no_model_is_refused(trained: Recorded, name: str) -> None:
    store = store_of(trained, BUSINESS)
    with pytest.raises(ModelUnknown):
        store.get(name)
    with pytest.raises(ModelUnknown):
        store.retire(name, "")


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_an_exported_part_follows_the_published_schema_and_has_no_column_of_the_other(
    trained: Recorded, role: str
) -> None:
    data = part_of(store_of(trained, role).get(trained.job).version)
    part = json.loads(data)
    jsonschema.validate(part, json.loads(SCHEMA.read_text()))
    assert tuple(column["name"] for column in part["columns"]) == COLUMNS[role]
    other = PROVIDER if role == BUSINESS else BUSINESS
    assert not any(name.encode() in data for name in COLUMNS[other])
    assert (part["constant"] == 0.0) == (role == PROVIDER)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "models", *arguments])
    return guarded(app)


def test_the_command_line_lists_shows_exports_and_retires(
    copied: Callable[[], Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = copied()
    party = ["--party", str(recorded.paths[PROVIDER])]
    assert run(["list", *party, "--json"], monkeypatch) == DONE
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["model"], listed["status"], listed["columns"]) == (recorded.job, "in use", 3)
    assert run(["export", recorded.job, *party, "--out", str(tmp_path / "part.json")], monkeypatch) == DONE
    part = json.loads((tmp_path / "part.json").read_bytes())
    assert run(["export", recorded.job, *party, "--out", str(tmp_path / "part.json")], monkeypatch) == BAD_INPUT
    assert run(["retire", recorded.job, *party, "--reason", "replaced"], monkeypatch) == DONE
    capsys.readouterr()
    assert run(["show", recorded.job, *party, "--json"], monkeypatch) == DONE
    text = capsys.readouterr().out
    shown = json.loads(text)
    assert (shown["status"], shown["retired_because"]) == ("retired", "replaced")
    assert str(part["columns"][0]["coefficient"]) not in text
    assert run(["show", "no-such-model", *party], monkeypatch) == BAD_INPUT
