"""A party in one file: as it was, on this host or another, and never twice."""

import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from protocol.state import Phase
from services.daemon.backup import BackupError, back_up, restore
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.party.configuration import load_party
from services.store.data_directory import DirectoryLocked
from tests.services import house
from tests.services.bureau import Bureau

ASK = {"approval": "ask"}


def file_of(place: Bureau, role: str) -> Path:
    return place.parties[role].directory / "party.toml"


def move(place: Bureau, role: str, backup: Path, to: Path) -> None:
    """Put a party from a backup into another directory, and its data sets beside it."""
    policy = place.parties[role].policy
    restore(backup, to / "party.toml")
    place.parties[role] = load_party(to / "party.toml")
    place.parties[role].policy.update(policy)


def tree(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_party_moves_to_another_host_in_the_middle_of_a_job_and_the_job_goes_on(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with house.running(place.daemon(BUSINESS)) as business:
            async with house.running(place.daemon(PROVIDER)) as provider:
                job = await place.submit(business)
                await place.reached(provider, Phase.APPROVING)
                with pytest.raises(DirectoryLocked):
                    back_up(place.parties[PROVIDER], file_of(place, PROVIDER), tmp_path / "too-early")
            old = place.parties[PROVIDER]
            made = back_up(old, file_of(place, PROVIDER), tmp_path / "backup")
            assert (made.party, made.journal) == (NAMES[PROVIDER], True)
            move(place, PROVIDER, tmp_path / "backup", tmp_path / "elsewhere" / "party")
            shutil.rmtree(old.data_directory)
            async with house.running(place.daemon(PROVIDER)) as provider:
                await provider.approve(job)
                for daemon in (business, provider):
                    assert (await house.ended(daemon, job)).outcome == "done"

    asyncio.run(story())


def test_a_party_restored_from_an_old_backup_freezes_what_went_on_without_it(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with house.running(place.daemon(BUSINESS)) as business:
            async with house.running(place.daemon(PROVIDER)) as provider:
                job = await place.submit(business)
                await place.reached(provider, Phase.APPROVING)
            back_up(place.parties[PROVIDER], file_of(place, PROVIDER), tmp_path / "backup")
            async with house.running(place.daemon(PROVIDER)) as provider:
                await provider.approve(job)
                await house.until(lambda: applied(business, job, 2))
            move(place, PROVIDER, tmp_path / "backup", tmp_path / "again")
            async with house.running(place.daemon(PROVIDER)) as provider:
                await house.until(lambda: frozen(provider, job))
                assert (await house.ended(business, job)).reason_code == "partner_frozen"

    asyncio.run(story())


def members_of(backup: Path) -> dict[str, bytes]:
    with tarfile.open(backup, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def write_members(backup: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(backup, "w:") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def add_file(backup: Path, name: str, data: bytes) -> None:
    """Add a file to a backup, and its digest, as somebody who means harm would."""
    members = members_of(backup)
    digests = json.loads(members.pop("digests.json"))
    digests[name] = hashlib.sha256(data).hexdigest()
    write_members(backup, {**members, name: data, "digests.json": json.dumps(digests).encode()})


async def applied(daemon, job: str, least: int) -> bool:
    return (await daemon.job(job)).applied >= least


async def frozen(daemon, job: str) -> bool:
    return (await daemon.job(job)).status == "frozen"


def test_what_comes_back_is_what_was_there_with_files_that_nobody_else_reads(tmp_path):
    place = Bureau(tmp_path)
    party = place.parties[BUSINESS]
    (party.data_directory / "ledger" / "someone").mkdir(parents=True)
    (party.data_directory / "ledger" / "someone" / "job.npz").write_bytes(os.urandom(100))
    (party.data_directory / "orders.json").write_text("{}")
    back_up(party, file_of(place, BUSINESS), tmp_path / "backup")
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    restore(tmp_path / "backup", tmp_path / "new" / "party.toml")
    new = load_party(tmp_path / "new" / "party.toml")
    assert new.identity.public == party.identity.public
    assert new.peers == party.peers
    assert new.policy == party.policy
    lock = {"lock": b""}
    assert {**tree(new.data_directory), **lock} == {**tree(party.data_directory), **lock}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_nothing_is_overwritten(tmp_path):
    place = Bureau(tmp_path)
    party, file = place.parties[BUSINESS], file_of(place, BUSINESS)
    back_up(party, file, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    with pytest.raises(FileExistsError):
        back_up(party, file, tmp_path / "backup")
    assert (tmp_path / "backup").read_bytes() == before
    with pytest.raises(BackupError, match=r"not overwritten|not empty"):
        restore(tmp_path / "backup", file)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_a_file_that_would_leave_its_folder_is_not_written(tmp_path):
    place = Bureau(tmp_path)
    back_up(place.parties[BUSINESS], file_of(place, BUSINESS), tmp_path / "backup")
    for number, name in enumerate(("data/../../stolen", "/stolen", "elsewhere/file", "data")):
        hostile = tmp_path / f"hostile-{number}"
        shutil.copy(tmp_path / "backup", hostile)
        add_file(hostile, name, b"bad")
        with pytest.raises(BackupError, match="no file of a party"):
            restore(hostile, tmp_path / f"at-{number}" / "party.toml")
        assert not (tmp_path / f"at-{number}").exists()


@pytest.mark.parametrize("data", [b"", b"no backup at all", bytes(10_240)])
def test_what_is_no_backup_is_refused_and_nothing_is_written(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BackupError):
        restore(tmp_path / "file", tmp_path / "new" / "party.toml")
    assert not (tmp_path / "new").exists()


def test_a_backup_that_was_damaged_or_cut_off_is_refused_and_nothing_is_written(tmp_path):
    place = Bureau(tmp_path)
    back_up(place.parties[BUSINESS], file_of(place, BUSINESS), tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    ends = len(whole.rstrip(b"\0"))
    chance = random.Random(7)
    for number in range(300):
        damaged = bytearray(whole)
        at = chance.randrange(ends)
        if number % 3 == 0:
            del damaged[at:]
        elif number % 3 == 1:
            damaged[at : at + chance.randrange(1, 9)] = chance.randbytes(8)
        else:
            # A header that tells other sizes, names or kinds and whose checksum is right.
            header = at // 512 * 512
            field = header + chance.choice((0, 100, 124, 136, 156, 157, 345))
            damaged[field : field + 4] = chance.choice(
                (b"\x80\0\0\1", b"\xff\xff\xff\xff", b"-777", b"../.", b"x\0\0\0")
            )
            block = damaged[header : header + 512]
            block[148:156] = b" " * 8
            damaged[header + 148 : header + 156] = b"%06o\0 " % sum(block)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            restore(tmp_path / "damaged", tmp_path / "new" / "party.toml")
        except BackupError:
            assert not (tmp_path / "new").exists()
        else:
            # What was hit says nothing of a file: its time, its owner, what fills a block up.
            found = members_of(tmp_path / "damaged")
            assert found == members_of(tmp_path / "backup")
            shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize("name", ["manifest.json", "party.toml", "data/marks/orders.json", "digests.json"])
def test_one_bit_that_changed_is_told_with_the_name_of_its_file(tmp_path, name):
    place = Bureau(tmp_path)
    marks = place.parties[BUSINESS].data_directory / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / "orders.json").write_text("{ }")
    back_up(place.parties[BUSINESS], file_of(place, BUSINESS), tmp_path / "backup")
    members = members_of(tmp_path / "backup")
    members[name] = bytes([members[name][0] ^ 1]) + members[name][1:]
    write_members(tmp_path / "changed", members)
    with pytest.raises(BackupError, match=name):
        restore(tmp_path / "changed", tmp_path / "new" / "party.toml")
    assert not (tmp_path / "new").exists()


def test_a_backup_without_one_of_its_files_is_refused(tmp_path):
    place = Bureau(tmp_path)
    back_up(place.parties[BUSINESS], file_of(place, BUSINESS), tmp_path / "backup")
    members = members_of(tmp_path / "backup")
    lost = next(name for name in members if name.startswith("peers/"))
    write_members(tmp_path / "less", {key: data for key, data in members.items() if key != lost})
    with pytest.raises(BackupError, match=r"other files than its digests\.json names"):
        restore(tmp_path / "less", tmp_path / "new" / "party.toml")
