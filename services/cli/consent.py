"""The commands of a steward: which contracts wait, yes, no; taking a yes back; pauses."""

import json
import time
from typing import Annotated

import typer
from rich.table import Table

from services.cli.daemons import PARTY, Json, PartyOption, client_of, out
from services.daemon.standing import ago
from services.party.configuration import ConfigError
from services.party.plain_text import plain

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's identifier.")]
JobOption = Annotated[str, typer.Argument(metavar="[JOB]", help="The job's identifier.", show_default=False)]
PartnerOption = Annotated[str, typer.Option("--partner", help="Instead of a job: all with this partner.")]
DatasetOption = Annotated[str, typer.Option("--dataset", help="With --partner: only jobs on this data set.")]


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


def revoke(
    name: JobOption = "",
    partner: PartnerOption = "",
    dataset: DatasetOption = "",
    party: PartyOption = PARTY,
    reason: Annotated[str, typer.Option(help="What the partner is told.")] = "",
) -> None:
    """Take this provider's consent back: to a job, or to all with a partner until `warren allow`."""
    whom = _whom(name, partner)
    with client_of(party) as client:
        ended = client.ask("revoke", **whom, dataset=dataset, reason=reason)["jobs"]
    for job in ended:
        out.print(plain(f"{job} is ended here; its parties are told as soon as they can be reached"), soft_wrap=True)
    if partner:
        what = f"the data set {dataset} is" if dataset else "all data sets are"
        out.print(plain(f"{what} closed to {partner} until `warren allow`"), soft_wrap=True)


def allow(partner: PartnerOption = "", dataset: DatasetOption = "", party: PartyOption = PARTY) -> None:
    """Let a partner propose jobs again after `warren revoke --partner`; the policy decides about them."""
    if not partner:
        raise ConfigError("name the partner: --partner NAME")
    with client_of(party) as client:
        client.ask("allow", partner=partner, dataset=dataset)
    out.print(plain(f"{partner} may propose jobs again"), soft_wrap=True)


def pause(name: JobOption = "", partner: PartnerOption = "", party: PartyOption = PARTY) -> None:
    """Compute and send nothing for a job, or for all with a partner, until `warren resume`."""
    whom = _whom(name, partner)
    with client_of(party) as client:
        jobs = client.ask("pause", **whom)["jobs"]
    out.print(plain(f"paused: {', '.join(jobs) or 'no job that runs'}"), soft_wrap=True)


def resume(name: JobOption = "", partner: PartnerOption = "", party: PartyOption = PARTY) -> None:
    """Go on with what was paused."""
    whom = _whom(name, partner)
    with client_of(party) as client:
        jobs = client.ask("resume", **whom)["jobs"]
    out.print(plain(f"going on: {', '.join(jobs) or 'no job that runs'}"), soft_wrap=True)


def orders(party: PartyOption = PARTY, as_json: Json = False) -> None:
    """What stands over jobs: consents that were revoked, and pauses."""
    with client_of(party) as client:
        found = client.ask("orders")
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("order", "of", "since", "reason", box=None)
    for one in found["revoked"]:
        whom = f"{one['partner']}, data set {one['dataset']}" if one["dataset"] else one["partner"]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one["at"]))
        table.add_row("revoked", plain(whom), since, plain(one["reason"]))
    for name in (*found["paused_partners"], *found["paused_jobs"]):
        table.add_row("paused", plain(name), "", "")
    out.print(table)


def _whom(job: str, partner: str) -> dict[str, str]:
    """The arguments of a verb for a job or a partner. Raises ConfigError when neither is named."""
    if not job and not partner:
        raise ConfigError("name a job, or all with a partner: --partner NAME")
    return {**({"id": job} if job else {}), **({"partner": partner} if partner else {})}
