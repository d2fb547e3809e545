"""`warren serve` and the commands for a running daemon."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from services.cli.failures import DONE, FAILED, OUTCOMES, complain, errors
from services.cli.progress import ProgressView
from services.daemon.control import ControlClient
from services.daemon.standing import ago, told
from services.daemon.waiting import wait_for
from services.party.configuration import ConfigError, load_party, read_party_file
from services.party.log_file import LogFile
from services.party.logs import LogBook, configure
from services.party.plain_text import plain

out = Console(highlight=False)

PartyOption = Annotated[Path, typer.Option("--party", "-p", help="party.toml of the running daemon.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]
PARTY = Path("party.toml")


def client_of(party: Path) -> ControlClient:
    """The control socket of the running daemon of a party.

    It needs nothing of the party but the place: a policy or a peer's file that is being edited must not keep an
    operator from looking, or from cancelling a job.
    """
    return ControlClient(party.resolve().parent / read_party_file(party).data_directory)


def serve(
    party: Annotated[Path, typer.Argument(help="party.toml")] = PARTY,
    accept_restored_journal: Annotated[
        bool,
        typer.Option(
            "--accept-restored-journal",
            help="Start on a journal that was restored from a backup; every job that runs is frozen.",
        ),
    ] = False,
) -> None:
    """Run the daemon of one party until SIGTERM."""
    from services.console.server import serve_console
    from services.daemon.party_process import run_party

    loaded = load_party(party)
    try:
        loaded.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        where = f"{party}: key data_directory: {loaded.data_directory}"
        raise ConfigError(
            f"{where} cannot be made a directory: {(error.strerror or 'unknown error').lower()}"
        ) from None
    book = LogBook()
    log_file = loaded.settings["log_file"]
    try:
        configure(book, to=LogFile(Path(log_file)) if log_file else None)
    except OSError as error:
        raise ConfigError(f"{party}: key log_file: {log_file} cannot be written: {error.strerror}") from None
    # A log that was moved away is noticed by itself: this only keeps the signal from ending the daemon.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(
        run_party(loaded, book, handle_signals=True, accept_restored=accept_restored_journal, beside=(serve_console,))
    )


def _job(path: Path) -> dict[str, Any]:
    import msgspec

    from services.daemon.job_file import load_job

    fields: dict[str, Any] = msgspec.to_builtins(load_job(path))
    return fields


def check(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    party: PartyOption = PARTY,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the partner's answer.")] = 20.0,
    as_json: Json = False,
) -> int:
    """Are the partners there, would they accept the contract, and what will the job cost?"""
    with client_of(party) as client:
        answer = client.ask("check", job=_job(job), where=str(job), timeout_s=timeout)
    if as_json:
        out.print_json(json.dumps(answer))
    else:
        cost = answer["estimate"]
        table = Table(box=None, show_header=False)
        for name, theirs in answer["partners"].items():
            about = f"{name} is reachable, warren {theirs['software_version']}, back end {theirs['backend']}"
            table.add_row("partner", plain(about))
            verdict = theirs["reason"] or "would accept"
            verdict = verdict if theirs["acceptable"] else f"would decline: {theirs['reason']}"
            table.add_row("contract", plain(verdict))
            table.add_row("rows", f"{answer['own']['rows']:,} here, {theirs['rows']:,} at the partner")
            table.add_row("columns", f"{answer['own']['columns']} here, {theirs['columns']} at the partner")
            table.add_row("free disk", f"{theirs['free_bytes']:,} bytes at the partner")
        if len(answer["partners"]) > 1:
            table.add_row("cost", f"as with {next(iter(answer['partners']))} alone; each further one adds to it")
        table.add_row("bytes", f"{cost['bytes_to_partner']:,.0f} sent, {cost['bytes_from_partner']:,.0f} received")
        table.add_row("time", f"about {cost['seconds']:,.0f} s on one core a side")
        table.add_row("disk", f"{cost['disk_bytes_here']:,.0f} bytes here, {cost['disk_bytes_at_partner']:,.0f} there")
        out.print(table)
    return DONE if all(theirs["acceptable"] for theirs in answer["partners"].values()) else FAILED


def submit(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    party: PartyOption = PARTY,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show progress.")] = False,
) -> int:
    """Submit a job to the running daemon of the business."""
    with client_of(party) as client:
        name = client.ask("submit", job=_job(job), where=str(job))["job"]
        out.print(name)
        if not wait:
            return DONE
        try:
            with ProgressView() as watch:
                view = wait_for(client, name, watch)
        except KeyboardInterrupt:
            errors.print(plain(f"the job goes on: `warren job {name}` shows it, `warren cancel {name}` ends it"))
            raise
    return _ending(view)


def _ending(view: dict[str, Any]) -> int:
    if view["outcome"] == "done":
        out.print(plain(f"done; results in {view['results']}"), soft_wrap=True)
    else:
        complain(view["outcome"] or view["status"], f"({view['reason_code']}): {view['reason']}")
    return OUTCOMES.get(view["outcome"], FAILED)


def jobs(party: PartyOption = PARTY, as_json: Json = False) -> None:
    """All jobs of this party."""
    with client_of(party) as client:
        found = client.ask("jobs")
    if as_json:
        out.print_json(json.dumps(found))
        return
    # The identifier is what other commands are given: it is never cut.
    name = Column("job", no_wrap=True, min_width=max((len(view["job"]) for view in found), default=0))
    table = Table(name, "role", "partner", "status", "stage", "changed", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for view in found:
        progress = view["progress"] or {}
        table.add_row(
            view["job"],
            view["role"],
            ", ".join(view["partners"]),
            view["outcome"] or view["status"],
            f"{progress.get('stage', '')} {progress.get('iteration', '') or ''}".strip(),
            f"{ago(view['now'] - view['updated_at'])} ago",
        )
    out.print(table)
    # Sentences: in a column beside the others they would be one word a line.
    for view in found:
        if waits := told(view):
            out.print(plain(f"{view['job']} is {waits}"), soft_wrap=True)


def job(
    name: Annotated[str, typer.Argument(metavar="ID", help="The job's identifier.")],
    party: PartyOption = PARTY,
    as_json: Json = False,
) -> int:
    """One job: where it stands, whom it waits for and since when, what it counted."""
    with client_of(party) as client:
        view = client.ask("job", id=name)
    if as_json:
        out.print_json(json.dumps(view))
    else:
        table = Table(box=None, show_header=False)
        for key in (
            "job",
            "role",
            "partner",
            "status",
            "outcome",
            "reason_code",
            "reason",
            "results",
            "length",
            "head",
        ):
            if key == "partner":
                table.add_row(key, plain(", ".join(view["partners"])))
            elif view[key] != "":
                table.add_row(key, plain(view[key]))
        if waits := told(view):
            table.add_row("waiting", plain(waits.removeprefix("waiting for ")))
        for sentence in view["contract"]:
            table.add_row("contract", plain(sentence))
        place = {key: value for key, value in (view["progress"] or {}).items() if key not in ("waits_for", "since")}
        seconds = {f"seconds, {stage}": value for stage, value in view["seconds"].items()}
        for key, value in {**place, **seconds, **view["statistics"]}.items():
            table.add_row(key, plain(f"{value:.3f}" if isinstance(value, float) else value))
        out.print(table)
    return DONE if view["status"] == "running" else OUTCOMES.get(view["outcome"], FAILED)


def cancel(
    name: Annotated[str, typer.Argument(metavar="ID", help="The job's identifier.")],
    party: PartyOption = PARTY,
    reason: Annotated[str, typer.Option(help="What the partner is told.")] = "",
) -> None:
    """End a job at both parties."""
    with client_of(party) as client:
        answer = client.ask("cancel", id=name, reason=reason)
    waiting = answer["waiting"]
    partner = f"{waiting['waits_for']} is told as soon as it can be reached" if waiting else "the partner knows it"
    out.print(plain(f"{name} is cancelled here; {partner}"), soft_wrap=True)


def logs(
    name: Annotated[str, typer.Argument(metavar="ID", help="The job's identifier.")], party: PartyOption = PARTY
) -> None:
    """The newest log lines of a job."""
    with client_of(party) as client:
        for line in client.ask("logs", id=name):
            print(json.dumps(line))  # noqa: T201


def parked(party: PartyOption = PARTY, as_json: Json = False) -> None:
    """Deliveries that were not applied, and why."""
    with client_of(party) as client:
        found = client.ask("parked")
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("when", "code", "sender", "claimed", "routing key", "bytes", box=None)
    for row in found["rows"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["at"]))
        cells = (row["code"], row["sender"], row["claimed"], row["routing_key"], row["bytes"])
        table.add_row(when, *map(plain, cells))
    out.print(table)
    out.print(", ".join(f"{code}: {count}" for code, count in found["codes"].items()) or "nothing is parked")


def metrics(party: PartyOption = PARTY) -> None:
    """What a Prometheus reads of the running daemon (docs/monitoring.md)."""
    with client_of(party) as client:
        print(client.ask("metrics")["text"], end="")  # noqa: T201
