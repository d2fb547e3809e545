"""What three parties can prove of one job: each alone, each two together, and all of them."""

import itertools
from pathlib import Path

import msgspec
import pytest

from messages.envelope import read_header
from messages.identity import Identity
from protocol.grants import GRANTED
from protocol.state import BUSINESS, PROVIDER
from services.audit.executing import execute
from services.audit.export_file import AUDITOR, PARTNER, Entry, ExportReader, ExportWriter, FurtherPartner
from services.audit.exporting import export, reading
from services.audit.purging import purge_stopped
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.reporting import report
from services.audit.verifying import verify
from services.party.configuration import load_party
from services.store import chain
from tests.audit import forging
from tests.audit.recorded import OVER_FOLDS, record_three

Files = dict[tuple[str, str], Path]
NAMES = {"business": "business-a", "provider": "provider-a", "provider-b": "provider-b"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """A job of a business and two providers, with retention `full`: its identifier and party.toml by role."""
    recorded = record_three(tmp_path_factory.mktemp("three"), retention="full")
    return recorded.job, recorded.paths


@pytest.fixture(scope="module")
def files(place: tuple[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Files:
    job, paths = place
    directory = tmp_path_factory.mktemp("exports")
    found = {}
    for role, path in paths.items():
        party = load_party(path)
        for audience in (PARTNER, AUDITOR):
            found[role, audience] = directory / f"{role}.{audience}"
            with reading(party) as connection:
                export(connection, party, job, audience, found[role, audience])
    return found


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("audience", [PARTNER, AUDITOR])
def test_each_party_proves_its_messages_with_both_others(files: Files, role: str, audience: str) -> None:
    found = verify(files[role, audience])
    assert found.findings == []
    assert found.parties is not None
    assert {found.parties.party, *found.parties.partners} == set(found.fingerprints) == set(NAMES.values())


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(NAMES, 2)))
def test_each_two_files_tell_the_same_story_of_the_two(files: Files, one: str, other: str) -> None:
    both = reconcile(files[one, PARTNER], files[other, PARTNER])
    assert both.holds
    assert both.matched > 0
    assert both.missing == sorted({*NAMES.values()} - {NAMES[one], NAMES[other]})


def test_all_files_together_cover_every_message(files: Files) -> None:
    together = reconcile(*(files[role, PARTNER] for role in NAMES))
    assert together.holds
    assert (together.missing, together.under_way) == ([], [])
    assert together.matched == sum(found.sent for found in together.files) == sum(f.received for f in together.files)


def test_a_partners_file_shows_headers_of_messages_to_another_and_nothing_in_them(files: Files) -> None:
    with ExportReader(files["provider", PARTNER]) as reader:
        entries = list(reader.entries())
    others = [entry for entry in entries if entry.header and "provider-b" in _ends(entry)]
    assert others
    assert all((entry.event, entry.salt, entry.at) == (b"", b"", 0.0) for entry in entries)
    assert {read_header(entry.header).kind for entry in others} >= {"link.terms", "features.codes"}


def _ends(entry: Entry) -> tuple[str, str]:
    header = read_header(entry.header)
    return header.sender, header.recipient


@pytest.mark.parametrize("role", NAMES)
def test_each_party_has_got_only_what_its_role_is_granted(files: Files, role: str) -> None:
    granted = GRANTED[BUSINESS if role == "business" else PROVIDER]
    with ExportReader(files[role, PARTNER]) as reader:
        kinds = {read_header(entry.header).kind for entry in reader.entries() if entry.kind == chain.RECEIVED}
    assert kinds <= granted


@pytest.mark.parametrize("role", NAMES)
def test_a_replay_finds_the_same_words_for_each_partner(files: Files, role: str) -> None:
    found = replay(files[role, AUDITOR])
    assert found.difference == ""
    assert found.outcome == "done"
    assert found.controls > 0
    assert found.bulk > 0


@pytest.mark.parametrize("role", NAMES)
def test_the_tasks_of_each_party_run_again_with_the_same_results(
    place: tuple[str, dict[str, Path]], files: Files, role: str
) -> None:
    party = load_party(place[1][role])
    with reading(party) as connection:
        done = execute(files[role, AUDITOR], party, connection, lambda *_: None)
    assert (done.replay.difference, done.differences) == ("", [])
    assert done.tasks > 20


@pytest.mark.parametrize("role", NAMES)
def test_a_report_counts_by_partner_and_finds_all_within_the_contract(files: Files, role: str) -> None:
    found = report(files[role, AUDITOR])
    assert found.findings == []
    assert [(line.kind, line.partner, line.outside) for line in found.lines if line.outside] == []
    assert {line.partner for line in found.lines} == {*NAMES.values()} - {NAMES[role]}


def test_a_message_that_is_said_to_have_gone_to_the_other_partner_is_found(
    place: tuple[str, dict[str, Path]], files: Files, tmp_path: Path
) -> None:
    """The business gives a control message of provider-a a place among those for provider-b, and signs all anew."""
    identity = load_party(place[1]["business"]).identity

    def turn(entries: list[Entry]) -> list[Entry]:
        at = next(n for n, entry in enumerate(entries) if entry.kind == chain.SENT and "provider-b" in _ends(entry))
        header = read_header(entries[at].header)
        turned = forging.sign_header(msgspec.structs.replace(header, recipient="provider-a"), identity)
        entries[at] = msgspec.structs.replace(entries[at], header=turned.header_bytes, signature=turned.signature)
        return entries

    path = forging.forge(files["business", AUDITOR], tmp_path / "forged", identity, turn, resign=False)
    assert not verify(path).holds
    assert not replay(path).same
    assert not reconcile(path, files["provider", PARTNER], files["provider-b", PARTNER]).holds


def test_after_a_purge_the_rest_is_proved_as_before(
    place: tuple[str, dict[str, Path]], files: Files, tmp_path: Path
) -> None:
    job, paths = place
    party = load_party(paths["provider-b"])
    purge_stopped(party, job)
    with reading(party) as connection:
        export(connection, party, job, PARTNER, tmp_path / "purged")
    assert reconcile(tmp_path / "purged", files["business", PARTNER], files["provider", PARTNER]).holds


def _with_partners(source: Path, out: Path, identity: Identity, further: list[FurtherPartner]) -> Path:
    opening, entries, ending = forging.frames_of(source)
    with ExportWriter(out, opening, identity, further) as writer:
        for entry in entries:
            writer.entry(entry)
        writer.finish(ending)
    return out


def test_a_file_that_names_a_partner_less_or_twice_or_too_many_is_found(
    place: tuple[str, dict[str, Path]], files: Files, tmp_path: Path
) -> None:
    source, identity = files["business", PARTNER], load_party(place[1]["business"]).identity
    with ExportReader(source) as reader:
        (known,) = reader.further
    fewer = verify(_with_partners(source, tmp_path / "fewer", identity, []))
    assert "the contract names other parties than the file" in str(fewer.findings[0])
    twice = verify(_with_partners(source, tmp_path / "twice", identity, [known, known]))
    assert "names a party twice" in str(twice.findings[0])
    many = verify(_with_partners(source, tmp_path / "many", identity, [known] * 9))
    assert "more than 8 partners" in str(many.findings[0])


def test_a_job_over_folds_and_parts_is_proved_replayed_and_run_again_at_every_party(tmp_path: Path) -> None:
    recorded = record_three(tmp_path / "job", 70, retention="full", **OVER_FOLDS)
    for role in recorded.paths:
        exported = {one: recorded.export(role, one, tmp_path / f"{role}.{one}") for one in (PARTNER, AUDITOR)}
        for path in exported.values():
            assert verify(path).findings == []
            assert report(path).within
        with reading(recorded.party(role)) as connection:
            done = execute(exported[AUDITOR], recorded.party(role), connection, lambda *_: None)
        assert (done.replay.difference, done.differences) == ("", [])
        assert done.tasks > 20
