"""The commands of a steward: which contracts wait, yes, no."""

import json
import time
from typing import Annotated

import typer
from rich.table import Table

from services.cli.daemons import PARTY, Json, PartyOption, client_of, out
from services.daemon.standing import ago
from services.party.plain_text import plain

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's identifier.")]


def pending(party: PartyOption = PARTY, as_json: Json = False) -> None:
    """Contracts that wait for this party's steward: what they say, and which limits of the policy they exceed."""
    with client_of(party) as client:
        found = client.ask("pending")
    if as_json:
        out.print_json(json.dumps(found))
        return
    now = time.time()
    for asked in found:
        table = Table(box=None, show_header=False)
        table.add_row("job", plain(asked["job"]))
        table.add_row("partner", plain(asked["partner"]))
        table.add_row("waiting", f"for {ago(now - asked['since'])}")
        for reason in asked["exceeded"]:
            table.add_row("asked because", plain(reason))
        for sentence in asked["contract"]:
            table.add_row("contract", plain(sentence))
        out.print(table)
        out.print()
    out.print(f"{len(found)} wait; answer with `warren approve JOB` or `warren decline JOB --reason TEXT`")


def approve(name: JobArgument, party: PartyOption = PARTY) -> None:
    """Let a job begin that waits for this party's steward."""
    with client_of(party) as client:
        client.ask("approve", id=name)
    out.print(plain(f"{name} is approved and goes on"), soft_wrap=True)


def decline(
    name: JobArgument,
    party: PartyOption = PARTY,
    reason: Annotated[str, typer.Option(help="What the partner is told.")] = "",
) -> None:
    """Refuse a job that waits for this party's steward."""
    with client_of(party) as client:
        client.ask("decline", id=name, reason=reason)
    out.print(plain(f"{name} is declined; the partner is told as soon as it can be reached"), soft_wrap=True)


COMMANDS = (pending, approve, decline)
