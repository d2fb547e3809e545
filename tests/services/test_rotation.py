"""Keys are changed while a party rests: jobs that ran with the former ones end, audits of them go on."""

import asyncio
import shutil
import stat
from pathlib import Path

import pytest

from protocol.state import Phase
from services.audit.export_file import AUDITOR
from services.audit.reconciling import reconcile
from services.audit.verifying import verify
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.daemon.rotation import change_keys, keep_former, update_peer
from services.party.configuration import ConfigError, Party, load_party, read_peers
from services.store.data_directory import DataDirectory, DirectoryLocked
from tests.audit.recorded import record
from tests.parties import PARTNER
from tests.services import house
from tests.services.bureau import Bureau

ASK = {"approval": "ask"}


def peers_of(party: Party) -> Path:
    return party.directory / party.file.peers


def reload(place: Bureau, role: str) -> None:
    """Read a party's files again, as a daemon that is started does."""
    policy = place.parties[role].policy
    place.parties[role] = load_party(place.parties[role].directory / "party.toml")
    place.parties[role].policy.update(policy)


def test_after_a_rotation_new_jobs_run_and_those_of_before_can_be_proved(tmp_path):
    done = record(tmp_path / "parties", "logistic", 60, max_iterations=1)
    before = done.party(PROVIDER).identity.public
    changed = change_keys(done.party(PROVIDER), end_running=False, chained=True)
    assert stat.S_IMODE((changed.public_file.parent / f"{NAMES[PROVIDER]}.private.json").stat().st_mode) == 0o600
    assert update_peer(changed.handover, peers_of(done.party(BUSINESS))) == changed.public != before
    assert done.party(PROVIDER).identity.public == read_peers(peers_of(done.party(BUSINESS)))[NAMES[PROVIDER]]
    files = [done.export(role, AUDITOR, tmp_path / f"{role}.file") for role in (BUSINESS, PROVIDER)]
    assert [verify(path).findings for path in files] == [[], []]
    assert reconcile(*files).holds
    with embedded((done.paths[BUSINESS], done.paths[PROVIDER])), connect(done.party(BUSINESS)) as business:
        job = business.ask(
            "submit",
            job={
                "task": "logistic",
                "dataset": "labels",
                "partner": f"{NAMES[PROVIDER]}/features",
                "max_iterations": 1,
                "release_noise": 0.0,
                "key_bits": 512,
                "marks": ["insecure", "small_sample"],
            },
        )["job"]
        assert wait_for(business, job)["outcome"] == "done"


def test_jobs_that_run_keep_the_keys_from_being_changed_or_end_at_both_when_that_is_wanted(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            await place.reached(daemons[PROVIDER], Phase.APPROVING)
            with pytest.raises(DirectoryLocked):
                change_keys(place.parties[PROVIDER], end_running=True, chained=True)
        with pytest.raises(ConfigError, match=rf"jobs run with the present keys \({job}\).*--end-running"):
            change_keys(place.parties[PROVIDER], end_running=False, chained=True)
        changed = change_keys(place.parties[PROVIDER], end_running=True, chained=True)
        update_peer(changed.handover, peers_of(place.parties[BUSINESS]))
        for role in (PROVIDER, BUSINESS):
            reload(place, role)
        async with place.both() as daemons:
            for daemon in daemons.values():
                view = await house.ended(daemon, job)
                assert (view.outcome, view.reason_code) == ("failed", "keys_changed")
                assert f"the keys of {NAMES[PROVIDER]} are others" in view.reason
            again = await place.submit(daemons[BUSINESS])
            await place.reached(daemons[PROVIDER], Phase.APPROVING)
            await daemons[PROVIDER].approve(again)
            for daemon in daemons.values():
                assert (await house.ended(daemon, again)).outcome == "done"

    asyncio.run(story())


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_partner_that_is_removed_has_no_running_job_any_more_and_begins_none(tmp_path, role):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            await place.reached(daemons[PROVIDER], Phase.APPROVING)
        peers, other = peers_of(place.parties[role]), NAMES[PARTNER[role]]
        keep_former(peers, read_peers(peers)[other])
        for path in peers.glob("*.json"):
            path.unlink()
        reload(place, role)
        async with house.running(place.daemon(role)) as daemon:
            view = await house.ended(daemon, job)
            assert (view.outcome, view.reason_code) == ("failed", "keys_changed")
            assert f"{other} is no peer of {NAMES[role]} any more" in view.reason

    asyncio.run(story())


def test_revoked_keys_vouch_for_nothing(tmp_path):
    place = Bureau(tmp_path)
    rotated = change_keys(place.parties[PROVIDER], end_running=False, chained=True)
    stolen = rotated.handover.read_bytes()
    reload(place, PROVIDER)
    revoked = change_keys(place.parties[PROVIDER], end_running=True, chained=False)
    assert not revoked.handover.exists()
    (tmp_path / "stolen.json").write_bytes(stolen)
    update_peer(tmp_path / "stolen.json", peers_of(place.parties[BUSINESS]))
    known = read_peers(peers_of(place.parties[BUSINESS]))[NAMES[PROVIDER]]
    assert known == rotated.public != revoked.public


@pytest.mark.parametrize("cut", ["before the hand-over", "after the hand-over"])
def test_a_rotation_that_was_cut_off_is_finished_by_the_next_with_the_keys_that_were_signed_for(tmp_path, cut):
    place, trial = Bureau(tmp_path), tmp_path / "kept"
    party = place.parties[PROVIDER]
    directory = party.directory / "identity"
    shutil.copytree(directory, trial)
    changed = change_keys(party, end_running=False, chained=True)
    private = directory / f"{NAMES[PROVIDER]}.private.json"
    # As it stood when the power went: the new keys beside the present ones, signed for or not yet.
    private.replace(directory / f"{private.name}.new")
    shutil.copy2(trial / private.name, private)
    if cut == "before the hand-over":
        changed.handover.unlink()
    assert change_keys(party, end_running=False, chained=True).public == changed.public
    assert load_party(party.directory / "party.toml").identity.public == changed.public
    assert update_peer(changed.handover, peers_of(place.parties[BUSINESS])) == changed.public


def test_keys_are_not_changed_under_a_running_daemon(tmp_path):
    place = Bureau(tmp_path)
    with DataDirectory(place.parties[BUSINESS].data_directory), pytest.raises(DirectoryLocked):
        change_keys(place.parties[BUSINESS], end_running=True, chained=True)
