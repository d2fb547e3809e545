"""A recorded job is folded again to the same decisions, and the first difference is named."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from messages.envelope import read_header
from protocol.effects import BulkReceived, Computed, ControlReceived
from services.audit.export_file import Entry
from services.audit.replaying import replay
from services.audit.verifying import verify
from services.engine import jobs
from services.store import chain
from tests.audit.forging import first, forge, frames_of, write
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded

Files = dict[tuple[str, str], Path]


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_an_honest_job_decides_the_same_again(whole: Recorded, files: Files, role: str) -> None:
    found = replay(files[role, AUDITOR])
    assert found.same, found.difference
    assert found.outcome == "done"
    assert not found.notes
    _, entries, _ = frames_of(files[role, AUDITOR])
    assert found.controls + found.bulk == sum(entry.kind == chain.SENT for entry in entries)
    assert found.tasks == sum(entry.kind == chain.COMPUTED for entry in entries)
    results = whole.party(role).data_directory / "results" / whole.job / "parameters.json"
    assert found.parameters == hashlib.sha256(results.read_bytes()).hexdigest()


def test_a_partners_file_cannot_be_replayed_and_says_so(files: Files) -> None:
    assert "export it --for auditor" in replay(files[BUSINESS, PARTNER]).difference


def event_of(entry: Entry) -> Any:
    return jobs.decode_event(entry.event)


def with_event(entry: Entry, event: Any) -> Entry:
    return msgspec.structs.replace(entry, event=jobs.encode_event(event))


def computed(entries: list[Entry], function: str) -> Entry:
    return next(
        entry
        for entry in entries
        if entry.kind == chain.COMPUTED and getattr(event_of(entry), "function", "") == function
    )


def other_output(function: str, **values: Any) -> Callable[[list[Entry]], list[Entry]]:
    """The first result of a function says something else."""

    def change(entries: list[Entry]) -> list[Entry]:
        entry = computed(entries, function)
        event = event_of(entry)
        output = msgspec.msgpack.decode(event.output) | values
        changed = msgspec.structs.replace(event, output=msgspec.msgpack.encode(output))
        entries[entry.position - 1] = with_event(entry, changed)
        return entries

    return change


def other_range(entries: list[Entry]) -> list[Entry]:
    """The partner's first score range, as if it had been another."""
    from messages import codec

    entry = first(entries, chain.RECEIVED, "score.range")
    event = event_of(entry)
    message = msgspec.structs.replace(codec.decode(event.message), bound=64.0)
    entries[entry.position - 1] = with_event(entry, msgspec.structs.replace(event, message=codec.encode(message)))
    return entries


def other_body(entries: list[Entry]) -> list[Entry]:
    entry = first(entries, chain.RECEIVED, "residual.share")
    event = event_of(entry)
    assert isinstance(event, BulkReceived)
    body = msgspec.structs.replace(event.body, sha256=bytes(32))
    entries[entry.position - 1] = with_event(entry, msgspec.structs.replace(event, body=body))
    return entries


def invented_task(entries: list[Entry]) -> list[Entry]:
    entry = computed(entries, "link.plan")
    event = event_of(entry)
    assert isinstance(event, Computed)
    entries[entry.position - 1] = with_event(entry, msgspec.structs.replace(event, task="link.plan/77"))
    return entries


def unsaid(entries: list[Entry]) -> list[Entry]:
    entry = first(entries, chain.SENT, "cross.term")
    return [other for other in entries if other.position != entry.position]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_output("gradient", largest=0.5), "step.products (sequence"),
        (other_output("cross.close", ciphertexts=bytes(64)), "was sent with other content than the machine's"),
        (other_output("align.match", count=77), "align.result (sequence"),
        (other_range, "link.plan/"),
        (other_body, "the event is not the residual.share that its header was signed for"),
        (invented_task, "task link.plan/77 was computed and never asked for"),
        (unsaid, "the machine says cross.term, which was not sent"),
    ],
)
def test_the_first_difference_of_a_journal_that_was_made_to_fit_is_named(
    whole: Recorded, files: Files, tmp_path: Path, change: Callable[[list[Entry]], list[Entry]], named: str
) -> None:
    path = forge(files[BUSINESS, AUDITOR], tmp_path / "forged", whole.party(BUSINESS).identity, change)
    # Nothing but the replay can know: to chain and signatures the owner of both has made everything fit.
    assert all("signature" not in str(finding) for finding in verify(path).findings if finding.party == "business-a")
    found = replay(path)
    if change is other_range:
        # Only the plan made of it would tell, and that is what `--execute` runs again.
        assert found.same
    else:
        assert not found.same
        assert named in found.difference


def test_a_changed_end_is_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    opening, entries, ending = frames_of(files[PROVIDER, AUDITOR])
    identity = whole.party(PROVIDER).identity
    changes = {
        "the job ended as failed": {"outcome": "failed"},
        "the parameters in the journal are not those": {"results": jobs.encode_refs(())},
        "the journal says it runs": {"status": "running", "outcome": ""},
    }
    for number, (named, fields) in enumerate(changes.items()):
        path = tmp_path / str(number)
        write(path, opening, entries, msgspec.structs.replace(ending, **fields), identity)
        assert named in replay(path).difference


def test_rules_that_this_software_does_not_have_are_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    opening, entries, ending = frames_of(files[PROVIDER, AUDITOR])
    changed = msgspec.structs.replace(opening, logic_version=7)
    path = write(tmp_path / "seven", changed, entries, ending, whole.party(PROVIDER).identity)
    assert replay(path).difference == (
        "logic version 7 is not known: this software has 1; use the version of Warren that ran the job"
    )


def test_a_file_cut_anywhere_is_named_and_never_a_fault(files: Files, tmp_path: Path) -> None:
    content = files[BUSINESS, AUDITOR].read_bytes()
    path = tmp_path / "cut"
    for size in range(0, len(content), 997):
        path.write_bytes(content[:size])
        assert not replay(path).same
        assert not verify(path).holds


def test_a_hostile_file_cannot_ask_the_machine_for_more_than_a_journal_holds(
    whole: Recorded, files: Files, tmp_path: Path
) -> None:
    opening, entries, ending = frames_of(files[PROVIDER, AUDITOR])

    def enormous(entries: list[Entry]) -> list[Entry]:
        return other_output("admit", rows=2**40)(entries)

    identity = whole.party(PROVIDER).identity
    write(tmp_path / "plain", opening, entries, ending, identity)
    path = forge(tmp_path / "plain", tmp_path / "enormous", identity, enormous)
    assert "more tasks than a journal has room for" in replay(path).difference


def test_events_in_the_wrong_place_are_named(whole: Recorded, files: Files, tmp_path: Path) -> None:
    def swapped(entries: list[Entry]) -> list[Entry]:
        places = [entry.position - 1 for entry in entries if entry.kind == chain.RECEIVED and entry.event]
        control = [place for place in places if isinstance(event_of(entries[place]), ControlReceived)]
        one, other = control[1], control[2]
        entries[one], entries[other] = (
            msgspec.structs.replace(entries[one], event=entries[other].event, salt=entries[other].salt),
            msgspec.structs.replace(entries[other], event=entries[one].event, salt=entries[one].salt),
        )
        return entries

    path = forge(files[PROVIDER, AUDITOR], tmp_path / "swapped", whole.party(PROVIDER).identity, swapped)
    found = replay(path)
    assert "that its header was signed for" in found.difference


# -- jobs that the engine itself ended -----------------------------------------------------------------------------


def engine_fault(code: str, *, message: str, keep_event: bool) -> Callable[[list[Entry]], list[Entry]]:
    """The job up to a control message of the partner, and the fault that the engine ended it with."""

    def change(entries: list[Entry]) -> list[Entry]:
        from messages import codec, schemas

        last = first(entries, chain.RECEIVED, message)
        failed = schemas.JobFailed(reason_code=code, reason="as it tells")
        said = first(entries, chain.SENT, "job.propose")
        header = msgspec.structs.replace(read_header(said.header), kind="job.failed")
        body = jobs.SentBody(plain_sha256=hashlib.sha256(codec.encode(failed)).digest(), bytes=1)
        kept = last if keep_event else msgspec.structs.replace(last, event=b"", salt=b"", digest=bytes(32))
        fault = Entry(
            position=1,
            kind=chain.FAULT,
            digest=bytes(32),
            head=bytes(32),
            salt=bytes(16),
            event=msgspec.msgpack.encode({"code": code, "reason": "as the engine says", "told": "as it tells"}),
        )
        sent = msgspec.structs.replace(
            said,
            header=codec.pack(msgspec.to_builtins(header, builtin_types=(bytes,))),
            event=msgspec.msgpack.encode(body),
        )
        return [*entries[: last.position - 1], kept, fault, sent]

    return change


@pytest.mark.parametrize(
    ("code", "keep_event", "named"),
    [
        ("seal_broken", False, ""),
        ("made_up", False, "made_up, which no unreadable message leads to"),
        ("effect_impossible", True, ""),
        ("secret_missing", True, ""),
        ("machine_fault", True, "but the machine takes the event before it"),
    ],
)
def test_a_job_that_the_engine_ended_replays_if_it_had_reason_to(
    whole: Recorded, files: Files, tmp_path: Path, code: str, keep_event: bool, named: str
) -> None:
    identity = whole.party(BUSINESS).identity
    change = engine_fault(code, message="job.accept", keep_event=keep_event)
    fields = {"outcome": "failed", "reason_code": code, "reason": "as the engine says"}
    forged = forge(files[BUSINESS, AUDITOR], tmp_path / "forged", identity, change)
    opening, entries, ending = frames_of(forged)
    failed = msgspec.structs.replace(ending, results=jobs.encode_refs(()), **fields)
    path = write(tmp_path / "path", opening, entries, failed, identity)
    assert verify(path).holds, verify(path).findings
    found = replay(path)
    assert named in found.difference
    assert bool(named) != found.same
    assert bool(found.notes) == (code in ("effect_impossible", "secret_missing"))
