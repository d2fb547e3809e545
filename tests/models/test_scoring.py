"""Batch scoring between two daemons: the right scores, of the right rows, and only where it is allowed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from protocol.grants import GRANTED
from services.audit.executing import execute
from services.audit.export_file import AUDITOR, PARTNER
from services.audit.exporting import reading
from services.audit.replaying import replay
from services.audit.reporting import report
from services.audit.verifying import messages_of, verify
from services.cli import app
from services.cli.failures import DECLINED, DONE, guarded
from services.daemon.control import ControlClient, ControlError
from services.daemon.local import NAMES, connect, embedded, wait_for
from services.models.store import ModelStore
from services.party.configuration import load_party
from services.tables.table import read_table
from tests.audit.recorded import BUSINESS, COLUMNS, PROVIDER, Recorded


@contextmanager
def daemons(recorded: Recorded) -> Iterator[tuple[ControlClient, ControlClient]]:
    """Both daemons of a recorded job, running again; their consoles."""
    paths = (recorded.paths[BUSINESS], recorded.paths[PROVIDER])
    with (
        embedded(paths),
        connect(load_party(paths[0])) as business,
        connect(load_party(paths[1])) as provider,
    ):
        yield business, provider


def expected_of(recorded: Recorded, business: Path) -> tuple[list[str], dict[str, float]]:
    """(all identifiers of a file, score of each row that both have), from both halves: only a test has them."""
    total: dict[str, dict[str, float]] = {}
    for role, path in ((BUSINESS, business), (PROVIDER, recorded.paths[PROVIDER].parent.parent / "provider.csv")):
        version = ModelStore(recorded.party(role).data_directory).get(recorded.job).version
        table = read_table(path, identifier="id", columns=version.columns)
        scores = version.targets[0].scores(table.values)
        if role == PROVIDER:
            scores = np.rint(scores * 1000) / 1000
        total[role] = dict(zip(table.identifiers, scores.tolist(), strict=True))
    both = {name: score + total[PROVIDER][name] for name, score in total[BUSINESS].items() if name in total[PROVIDER]}
    return list(total[BUSINESS]), both


def with_strangers(recorded: Recorded, directory: Path) -> Path:
    """Some rows of the business's table in another order, with rows between them that the provider does not have."""
    known = pl.read_csv(recorded.paths[BUSINESS].parent.parent / "business.csv").drop("label_qz")
    strangers = known.head(7).with_columns(pl.Series("id", [f"stranger-{row}" for row in range(7)]))
    rows = pl.concat([known.tail(40), strangers, known.head(20)]).sample(fraction=1.0, shuffle=True, seed=3)
    rows.write_csv(directory / "score.csv")
    return directory / "score.csv"


def policy(recorded: Recorded, **keys: Any) -> None:
    """Change the provider's policy."""
    path = recorded.paths[PROVIDER].parent / "policy.toml"
    lines = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in keys]
    path.write_text("\n".join([*(f"{key} = {json.dumps(value)}" for key, value in keys.items()), *lines]) + "\n")


def test_scores_are_those_of_both_halves_and_unknown_rows_are_reported(model: Recorded, tmp_path: Path) -> None:
    file = with_strangers(model, tmp_path)
    with daemons(model) as (business, provider):
        job = business.ask("predict", model=model.job, business=str(file))["job"]
        view = wait_for(business, job)
        assert view["outcome"] == "done", view["reason"]
        assert provider.ask("job", id=job)["reason_code"] == ""
    names, expected = expected_of(model, file)
    found = pl.read_csv(Path(view["results"]) / "scores.csv", schema_overrides={"id": pl.String})
    assert found["id"].to_list() == [name for name in names if name in expected]
    assert len(expected) == 60
    assert np.allclose(found["score"], [expected[name] for name in found["id"]], rtol=0, atol=1e-12)
    assert np.allclose(found["prediction"], expit(found["score"].to_numpy()), rtol=1e-12)
    unmatched = pl.read_csv(Path(view["results"]) / "unmatched.csv")
    assert unmatched["id"].to_list() == [name for name in names if name not in expected]


def test_each_journal_shows_granted_kinds_only_and_holds_and_replays(model: Recorded, tmp_path: Path) -> None:
    policy(model, retention=["digests", "full"])
    with daemons(model) as (business, provider):
        job = business.ask("predict", model=model.job)["job"]
        assert wait_for(business, job)["outcome"] == "done"
        assert wait_for(provider, model.job)["outcome"] == "done"
    scored = Recorded(job, model.paths)
    for role, machine in ((BUSINESS, "scoring-business"), (PROVIDER, "scoring-provider")):
        for audience in (PARTNER, AUDITOR):
            path = scored.export(role, audience, tmp_path / f"{role}.{audience}")
            assert verify(path).findings == []
            assert report(path).within
        received = {
            header.kind
            for _, header in messages_of(path, "received", NAMES[PROVIDER if role == BUSINESS else BUSINESS])
        }
        assert received <= GRANTED[machine]
        assert replay(path).difference == ""


def test_rows_scored_count_against_the_quota_of_the_period(model: Recorded, tmp_path: Path) -> None:
    policy(model, score_quota=100)
    file = with_strangers(model, tmp_path)
    with daemons(model) as (business, provider):
        first = business.ask("predict", model=model.job, business=str(file))["job"]
        assert wait_for(business, first)["outcome"] == "done"
        second = business.ask("predict", model=model.job, business=str(file))["job"]
        assert wait_for(business, second)["reason_code"] == "score_quota"
        assert "40 are left of the quota of 100" in provider.ask("job", id=second)["reason"]


def test_a_provider_whose_policy_says_nothing_of_scoring_declines(model: Recorded) -> None:
    path = model.paths[PROVIDER].parent / "policy.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "score_quota" not in line))
    with daemons(model) as (business, _):
        view = wait_for(business, business.ask("predict", model=model.job)["job"])
    assert (view["outcome"], view["reason_code"]) == ("declined", "scoring_refused")


def test_a_retired_model_refuses_at_either_party(model: Recorded) -> None:
    stores = {role: ModelStore(model.party(role).data_directory) for role in (BUSINESS, PROVIDER)}
    with daemons(model) as (business, _):
        stores[PROVIDER].retire(model.job, "")
        view = wait_for(business, business.ask("predict", model=model.job)["job"])
        assert (view["outcome"], view["reason_code"]) == ("declined", "model_retired")
        stores[BUSINESS].retire(model.job, "")
        with pytest.raises(ControlError, match="retired here"):
            business.ask("predict", model=model.job)


def test_a_model_scores_for_its_business_only(model: Recorded) -> None:
    with daemons(model) as (_, provider), pytest.raises(ControlError, match="its business asks for scores"):
        provider.ask("predict", model=model.job)


def test_a_file_without_a_common_row_ends_the_job_with_what_to_look_at(model: Recorded, tmp_path: Path) -> None:
    file = tmp_path / "strangers.csv"
    columns = {name: [0.5, 1.5] for name in COLUMNS[BUSINESS]}
    pl.DataFrame({"id": ["x", "y"], **columns}).write_csv(file)
    with daemons(model) as (business, _):
        view = wait_for(business, business.ask("predict", model=model.job, business=str(file))["job"])
    assert view["reason_code"] == "intersection_small"


def test_the_command_writes_scores_and_unmatched_rows_where_it_is_told(
    model: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = with_strangers(model, tmp_path)
    arguments = ["predict", "--model", model.job, "--party", str(model.paths[BUSINESS]), "--business", str(file)]
    with daemons(model):
        monkeypatch.setattr("sys.argv", ["warren", *arguments, "--out", str(tmp_path / "out.parquet"), "--json"])
        assert guarded(app) == DONE
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        ModelStore(model.party(PROVIDER).data_directory).retire(model.job, "")
        monkeypatch.setattr("sys.argv", ["warren", *arguments])
        assert guarded(app) == DECLINED
    _, expected = expected_of(model, file)
    scores = pl.read_parquet(tmp_path / "out.parquet")
    assert dict(zip(scores["id"], scores["score"], strict=True)) == pytest.approx(expected)
    assert pl.read_parquet(tmp_path / "out.unmatched.parquet").height == told["unmatched"] == 7


def test_a_job_kept_whole_runs_again_to_the_same_bytes(model: Recorded, tmp_path: Path) -> None:
    policy(model, retention=["digests", "full"])
    with daemons(model) as (business, _):
        job = business.ask("predict", model=model.job, retention="full")["job"]
        assert wait_for(business, job)["outcome"] == "done"
    for role in (BUSINESS, PROVIDER):
        ModelStore(model.party(role).data_directory).retire(model.job, "")
        path = Recorded(job, model.paths).export(role, AUDITOR, tmp_path / f"{role}.whole")
        with reading(model.party(role)) as connection:
            again = execute(path, model.party(role), connection, lambda done, total, name: None)
        assert again.differences == []
        assert again.same
        assert again.tasks > 4
