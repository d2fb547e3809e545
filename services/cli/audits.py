"""`warren audit ...` and `warren purge`: what a party can prove of a job, and what it keeps for that."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from services.audit.executing import Execution, execute
from services.audit.exporting import export, reading
from services.audit.purging import purge_stopped
from services.audit.reconciling import Reconciliation, reconcile
from services.audit.replaying import Replay, replay
from services.audit.report_page import page
from services.audit.reporting import Report, report
from services.audit.verifying import Verification, verify
from services.cli.failures import BAD_INPUT, DONE, FAILED, complain, exits
from services.daemon.control import ControlClient, ControlUnreachable
from services.engine.purging import Purged
from services.party.configuration import load_party
from services.party.plain_text import plain

app = typer.Typer(help="What can be proved of a job: export, verify, replay, report.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)

PARTY = Path("party.toml")
PartyOption = Annotated[Path, typer.Option("--party", "-p", help="party.toml of the party whose journal it is.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An export.")]


class For(StrEnum):
    """Who the export is for."""

    PARTNER = "partner"
    AUDITOR = "auditor"


def export_(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's identifier.")],
    for_: Annotated[For, typer.Option("--for", help="partner: headers, signatures, digests; auditor: all events.")],
    to: Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")],
    party: PartyOption = PARTY,
) -> None:
    """Write what the journal has of a job into one signed file. The daemon may run or not."""
    loaded = load_party(party)
    with reading(loaded) as connection:
        done = export(connection, loaded, job, for_.value, to)
    out.print(plain(f"{to}: {done.entries} entries of job {job} for the {for_.value}, head {done.head[:16]}"))


def verify_(
    file: File,
    partners: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE_OF_PARTNER]...", help="The partners' exports.")
    ] = None,
) -> int:
    """Check chain, signatures, sequences and contract; with partners' files, that all tell the same story."""
    if not partners:
        found = verify(file)
        _show_file(file, found)
        return _verdict(found.holds)
    together = reconcile(file, *partners)
    for path, found in zip((file, *partners), together.files, strict=True):
        _show_file(path, found)
    _show_together(together)
    return _verdict(together.holds)


def _show_file(path: Path, found: Verification) -> None:
    opening = found.opening
    if opening is not None:
        out.print(
            plain(
                f"{path}: journal of {opening.role} {opening.party}, job {opening.job}, for the {opening.audience}: "
                f"{found.entries} entries, {found.sent} messages sent, {found.received} received"
            )
        )
        for name, fingerprint in found.fingerprints.items():
            out.print(plain(f"  key of {name}: {fingerprint}"))
    for finding in found.findings:
        complain("altered or missing:", f"{path}: {finding}")


def _show_together(found: Reconciliation) -> None:
    files = "both files" if len(found.files) == 2 else "the two files that they concern"
    out.print(plain(f"{found.matched} messages are the same in {files}"))
    for name in found.missing:
        out.print(plain(f"not compared: what went between these parties and {name}, whose file is not here"))
    for sentence in found.under_way:
        out.print(plain(f"under way: {sentence}"))
    for finding in found.findings:
        complain("the files differ:", finding)


def _verdict(holds: bool) -> int:
    out.print("nothing is missing or altered" if holds else "[bold red]something is missing or altered[/]")
    return DONE if holds else FAILED


def replay_(
    file: File,
    again: Annotated[
        bool, typer.Option("--execute", help="Run every task again on this party's data (retention full).")
    ] = False,
    party: PartyOption = PARTY,
) -> int:
    """Fold the recorded events through the same machines: same decisions, messages, parameters?"""
    checked = verify(file)
    for finding in checked.findings:
        complain("altered or missing:", f"{file}: {finding}")
    if not again:
        found = replay(file)
        _show_replay(found)
        return DONE if found.same and checked.holds else FAILED
    if checked.opening is None:
        return FAILED
    done = _execute(file, party)
    _show_replay(done.replay)
    _show_execution(done)
    return DONE if done.same and checked.holds else FAILED


def _execute(file: Path, party: Path) -> Execution:
    loaded = load_party(party)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with reading(loaded) as connection, Progress(*columns, console=out) as bar:
        line = bar.add_task("running the tasks again", total=None, rate="")

        def tell(done: int, total: int, name: str) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} tasks/s" if speed else ""
            bar.update(line, completed=done, total=total, description=plain(name).plain, rate=rate)

        return execute(file, loaded, connection, tell)


def _show_replay(found: Replay) -> None:
    if found.same:
        out.print(
            plain(
                f"replayed: {found.events} events, {found.controls} control and {found.bulk} bulk messages, "
                f"{found.tasks} tasks as recorded; the job is {found.outcome}"
            )
        )
        if found.parameters:
            out.print(f"digest of the final parameters: {found.parameters}")
    else:
        complain("first difference:", found.difference)
    for note in found.notes:
        out.print(plain(f"note: {note}"))


def _show_execution(done: Execution) -> None:
    for note in done.notes:
        out.print(plain(f"note: {note}"))
    if not done.differences:
        out.print(
            plain(
                f"run again: {done.tasks} tasks; {done.values_bytes:,} bytes of values, {done.blobs} blobs and "
                f"{done.bodies} plaintext bodies of outgoing bulk are the same, {done.arrivals} incoming bodies are "
                "those that were signed for"
            )
        )
        return
    complain("first differing task:", done.differences[0])
    for text in done.differences[1:]:
        complain("and:", text)


def report_(
    file: File,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page for people to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")] = False,
) -> int:
    """What left the house and what came in, by kind, against the signed contract."""
    found = report(file)
    if html is not None:
        if html.exists():
            complain("warren:", f"{html}: exists already and is not overwritten")
            return BAD_INPUT
        html.write_text(page(found), encoding="utf-8")
    if as_json:
        out.print_json(json.dumps(found.as_json()))
    else:
        _show_report(found)
    return DONE if found.within else FAILED


def _show_report(found: Report) -> None:
    several = len(found.partners) > 1
    names = ("messages", "bytes", "sealed", "rows", "outside the contract")
    table = Table("direction", *(("partner",) if several else ()), "kind", *names, box=None)
    for line in found.lines:
        outside = "; ".join(line.outside)
        who = (line.direction, line.partner, line.kind) if several else (line.direction, line.kind)
        cells = (*who, f"{line.messages:,}", line.bytes_text, line.sealed_text, line.rows_text)
        table.add_row(*map(plain, cells), plain(outside), style="bold red" if outside else "")
    out.print(table)
    for fact in found.facts:
        out.print(plain(f"{fact.name}: {fact.value} ({fact.contract})"), style="bold red" if fact.outside else "")
    for finding in found.findings:
        complain("altered or missing:", finding)


def purge(
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job that has ended.")], party: PartyOption = PARTY
) -> None:
    """Erase what is kept of a job that has ended: bodies, blobs, snapshot, events and secret. It cannot be undone."""
    loaded = load_party(party)
    try:
        with ControlClient(loaded.data_directory) as client:
            done = Purged(**client.ask("purge", id=name))
    except ControlUnreachable:
        done = purge_stopped(loaded, name)
    for sentence in done.sentences():
        out.print(plain(sentence))


for _name, _command in (("export", export_), ("verify", verify_), ("replay", replay_), ("report", report_)):
    app.command(name=_name)(exits(_command))
