"""Who may ask for a job to be kept whole, and what that keeps."""

from pathlib import Path

import pytest
from sqlalchemy import select

from protocol.policy import Policy, decide
from services.audit.exporting import reading
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.daemon.local import connect, embedded
from services.party.configuration import load_party
from services.store.journal_schema import blobs
from tests.audit.recorded import AUDITOR, BUSINESS, PROVIDER, Recorded, record
from tests.protocol.test_contract import contract


def test_a_policy_that_says_nothing_of_it_allows_digests_only() -> None:
    full = contract(retention="full")
    decision = decide(full, Policy(), frozenset({full.provider_dataset}))
    assert decision.reason_code == "retention_refused"
    assert decision.reason == "retention full is not accepted: the policy has retention = digests"
    allowing = Policy(retention=("digests", "full"))
    assert decide(full, allowing, frozenset({full.provider_dataset})).acceptable
    assert decide(contract(), Policy(), frozenset({full.provider_dataset})).acceptable


def test_a_provider_that_declines_to_keep_a_job_keeps_nothing_of_it(tmp_path: Path) -> None:
    declined = record(tmp_path, rows=60, retention="full", allowed=("digests",))
    provider = declined.party(PROVIDER)
    with reading(provider) as connection:
        assert connection.execute(select(blobs)).all() == []
    assert not list((provider.data_directory / "secrets").iterdir())
    exports = [declined.export(role, AUDITOR, tmp_path / f"{role}.file") for role in (BUSINESS, PROVIDER)]
    assert reconcile(*exports).holds
    assert {replay(path).outcome for path in exports} == {"declined"}


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_job_kept_whole_has_every_body_and_outlives_a_restart(whole: Recorded, copied, role: str) -> None:
    place = copied()
    party = load_party(place.paths[role])

    def names() -> set[bytes]:
        with reading(party) as connection:
            return set(connection.scalars(select(blobs.c.sha256)))

    before = names()
    with reading(party) as connection:
        kinds = {segment.split("/")[1].rsplit("-", 1)[0] for segment in connection.scalars(select(blobs.c.segment))}
    assert {"control", "features.encrypted", "features.encrypt", "score", "gradient", "results"} <= kinds
    with embedded((place.paths[BUSINESS], place.paths[PROVIDER])), connect(party):
        pass
    assert names() == before
    assert (party.data_directory / "secrets" / place.job).exists()
