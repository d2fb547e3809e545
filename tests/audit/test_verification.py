"""Whatever is altered in a file, taken out of it or put into it is named: where, what, and whose."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.envelope import read_header, sign_header
from messages.identity import Identity
from services.audit.export_file import Entry, encode_frame
from services.audit.reconciling import reconcile
from services.audit.verifying import Finding, verify
from services.store import chain
from tests.audit.forging import first, forge, frames_of, without, write
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded

Files = dict[tuple[str, str], Path]
NAMES = {BUSINESS: "business-a", PROVIDER: "provider-a"}
EVERY_FILE = [(role, audience) for role in (BUSINESS, PROVIDER) for audience in (PARTNER, AUDITOR)]


def texts(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


@pytest.mark.parametrize(("role", "audience"), EVERY_FILE)
def test_an_honest_file_holds(files: Files, role: str, audience: str) -> None:
    found = verify(files[role, audience])
    assert found.holds, texts(found.findings)
    assert found.sent > 40
    assert found.received > 40
    assert set(found.fingerprints) == set(NAMES.values())


def test_both_honest_files_tell_the_same_story(files: Files) -> None:
    for audience in (PARTNER, AUDITOR):
        both = reconcile(files[BUSINESS, AUDITOR], files[PROVIDER, audience])
        assert both.holds, texts(both.findings)
        assert both.matched == both.files[0].sent + both.files[0].received
        assert not both.under_way


@pytest.mark.parametrize(("role", "audience"), EVERY_FILE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_altered_byte_anywhere_is_named(
    files: Files, tmp_path: Path, role: str, audience: str, data: st.DataObject
) -> None:
    content = bytearray(files[role, audience].read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "altered"
    path.write_bytes(content)
    assert not verify(path).holds


def offsets(path: Path) -> dict[int, range]:
    """Where each entry's frame lies in its file."""
    content, found = path.read_bytes(), {}
    for entry in frames_of(path)[1]:
        frame = encode_frame(entry)
        start = content.index(frame)
        found[entry.position] = range(start, start + len(frame))
    return found


def test_the_entry_that_a_byte_was_altered_in_is_named_with_its_message(files: Files, tmp_path: Path) -> None:
    source = files[BUSINESS, PARTNER]
    _, entries, _ = frames_of(source)
    places = offsets(source)
    for entry in entries[:: len(entries) // 20]:
        for part in (entry.header, entry.signature, entry.digest):
            if not part or part == bytes(32):
                continue
            content = bytearray(source.read_bytes())
            at = content.index(part, places[entry.position].start) + len(part) - 1
            content[at] ^= 1
            path = tmp_path / "altered"
            path.write_bytes(content)
            found = verify(path).findings
            assert entry.position in {finding.position for finding in found}, texts(found)
            if part == entry.signature:
                header = read_header(entry.header)
                assert f"{header.kind} sequence {header.sequence} of {header.sender}: the signature is not" in texts(
                    found
                )


def changed(files: Files, tmp_path: Path, role: str, change: Callable[[list[Entry]], list[Entry]]) -> str:
    """The findings of a file whose frames were changed by somebody without any key."""
    content = files[role, PARTNER].read_bytes()
    _, entries, _ = frames_of(files[role, PARTNER])
    before = b"".join(map(encode_frame, entries))
    after = b"".join(map(encode_frame, change(entries)))
    assert content.count(before) == 1
    path = tmp_path / "changed"
    path.write_bytes(content.replace(before, after))
    found = verify(path)
    assert not found.holds
    return texts(found.findings)


def test_a_dropped_message_is_named(files: Files, tmp_path: Path) -> None:
    for role in (BUSINESS, PROVIDER):
        _, entries, _ = frames_of(files[role, PARTNER])
        for kind in (chain.SENT, chain.RECEIVED):
            message = [entry for entry in entries if entry.kind == kind][5]
            header = read_header(message.header)
            found = changed(files, tmp_path, role, without(message.position))
            assert f"of {header.sender}: sequence {header.sequence} is missing before it" in found
            assert f"entry {message.position + 1}" in found


def test_two_swapped_entries_are_named(files: Files, tmp_path: Path) -> None:
    _, entries, _ = frames_of(files[BUSINESS, PARTNER])
    places = [entry.position for entry in entries if entry.kind == chain.RECEIVED][3:5]

    def swap(entries: list[Entry]) -> list[Entry]:
        mixed = list(entries)
        one, other = (place - 1 for place in places)
        mixed[one], mixed[other] = mixed[other], mixed[one]
        return mixed

    found = changed(files, tmp_path, BUSINESS, swap)
    for place in places:
        assert f"entry {place}" in found
    assert "messages were repeated or swapped" in found


def test_a_file_signed_with_another_key_is_named(files: Files, tmp_path: Path) -> None:
    opening, entries, ending = frames_of(files[BUSINESS, PARTNER])
    stranger = Identity.generate(opening.party)
    plain = write(tmp_path / "signed", opening, entries, ending, stranger)
    assert "signed with another key" in texts(verify(plain).findings)
    # With the stranger's keys put into the file as the party's own, too.
    replaced = msgspec.structs.replace(opening, party_identity=stranger.public.to_json())
    path = write(tmp_path / "replaced", replaced, entries, ending, stranger)
    found = texts(verify(path).findings)
    assert "other keys than those that the contract names" in found
    assert f"the signature is not {opening.party}'s over this header" in found


def test_a_header_signed_with_another_key_is_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    stranger = Identity.generate(NAMES[PROVIDER])

    def resign(entries: list[Entry]) -> list[Entry]:
        target = first(entries, chain.RECEIVED, "cross.term")
        signed = sign_header(read_header(target.header), stranger)
        entries[target.position - 1] = msgspec.structs.replace(target, signature=signed.signature)
        return entries

    path = forge(files[BUSINESS, PARTNER], tmp_path / "forged", whole.party(BUSINESS).identity, resign)
    found = texts(verify(path).findings)
    assert (
        f"cross.term sequence {read_header(first(frames_of(path)[1], 'received', 'cross.term').header).sequence}"
        in (found)
    )
    assert "the signature is not provider-a's over this header" in found


def test_another_contract_is_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    opening, entries, ending = frames_of(files[PROVIDER, PARTNER])
    contract = opening.contract.replace(b"logistic", b"logistiC")
    path = write(
        tmp_path / "contract",
        msgspec.structs.replace(opening, contract=contract),
        entries,
        ending,
        whole.party(PROVIDER).identity,
    )
    assert "the contract is not the one that the job's identifier names" in texts(verify(path).findings)


def test_a_message_that_the_contract_does_not_grant_is_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    identity = whole.party(PROVIDER).identity

    def misname(entries: list[Entry]) -> list[Entry]:
        target = first(entries, chain.SENT, "score.range")
        header = msgspec.structs.replace(read_header(target.header), kind="link.terms")
        signed = sign_header(header, identity)
        entries[target.position - 1] = msgspec.structs.replace(target, header=signed.header_bytes)
        return entries

    path = forge(files[PROVIDER, PARTNER], tmp_path / "forged", identity, misname)
    assert "the contract grants business-a no link.terms" in texts(verify(path).findings)


# -- a party that rewrites its own journal -----------------------------------------------------------------------


def test_a_party_cannot_take_out_what_its_partner_signed(whole: Recorded, files: Files, tmp_path: Path) -> None:
    _, entries, _ = frames_of(files[BUSINESS, PARTNER])
    message = first(entries, chain.RECEIVED, "cross.term")
    identity = whole.party(BUSINESS).identity
    path = forge(files[BUSINESS, PARTNER], tmp_path / "forged", identity, without(message.position))
    assert "missing before it" in texts(verify(path).findings)


def test_a_party_that_unsays_a_message_is_convicted_by_its_own_signature(
    whole: Recorded, files: Files, tmp_path: Path
) -> None:
    _, entries, _ = frames_of(files[BUSINESS, PARTNER])
    message = [entry for entry in entries if entry.kind == chain.SENT and "link" in read_header(entry.header).kind][2]
    header = read_header(message.header)
    identity = whole.party(BUSINESS).identity
    path = forge(files[BUSINESS, PARTNER], tmp_path / "forged", identity, without(message.position))
    both = reconcile(path, files[PROVIDER, PARTNER])
    assert not both.holds
    expected = (
        f"{header.kind} sequence {header.sequence} of business-a: business-a signed two different headers of this "
        "sequence: its own signatures prove it"
    )
    assert expected in texts(both.findings)
    # The last one has no number left in the forged file: the partner's copy is the proof.
    assert "business-a's signature proves that it was" in texts(both.findings)


def test_a_header_altered_in_one_file_is_told_from_one_that_was_signed_twice(
    whole: Recorded, files: Files, tmp_path: Path
) -> None:
    def alter(entries: list[Entry]) -> list[Entry]:
        target = first(entries, chain.RECEIVED, "link.terms")
        header = msgspec.structs.replace(read_header(target.header), body_sha256=bytes(32))
        from messages.codec import pack

        data = pack(msgspec.to_builtins(header, builtin_types=(bytes,)))
        entries[target.position - 1] = msgspec.structs.replace(target, header=data)
        return entries

    path = forge(files[PROVIDER, PARTNER], tmp_path / "forged", whole.party(PROVIDER).identity, alter)
    found = texts(reconcile(files[BUSINESS, PARTNER], path).findings)
    assert "is not signed by business-a: provider-a's file was altered" in found
    assert "business-a signed two different headers" not in found


def test_what_is_still_under_way_is_named_and_no_fault(whole: Recorded, files: Files, tmp_path: Path) -> None:
    half = 40

    def earlier(entries: list[Entry]) -> list[Entry]:
        return entries[:half]

    path = forge(
        files[PROVIDER, PARTNER],
        tmp_path / "earlier",
        whole.party(PROVIDER).identity,
        earlier,
        resign=False,
        status="running",
    )
    both = reconcile(files[BUSINESS, PARTNER], path)
    assert both.holds, texts(both.findings + both.files[1].findings)
    assert any("of business-a, still under way to provider-a" in sentence for sentence in both.under_way)
    assert any("provider-a's file ends before the last" in sentence for sentence in both.under_way)


def test_a_tail_cut_off_a_job_that_is_over_is_no_message_under_way(
    whole: Recorded, files: Files, tmp_path: Path
) -> None:
    path = forge(
        files[PROVIDER, PARTNER],
        tmp_path / "cut",
        whole.party(PROVIDER).identity,
        lambda entries: entries[:40],
        resign=False,
    )
    assert "provider-a's signature proves that it was" in texts(reconcile(files[BUSINESS, PARTNER], path).findings)


def test_files_of_two_jobs_are_not_compared(files: Files, tmp_path: Path) -> None:
    both = reconcile(files[BUSINESS, PARTNER], files[BUSINESS, AUDITOR])
    assert "both files are of a business" in texts(both.findings)
