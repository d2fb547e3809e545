"""The commands by name: where each is, and its line in `warren --help`.

A command's module is imported when the command is called, as in click's "Lazily Loading Subcommands"
(https://click.palletsprojects.com/en/stable/complex/): what only asks a running daemon starts without the libraries
that compute. Lists, completion and suggestions of names need no more than stands here.
"""

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from services.cli.failures import exits


class Entry(NamedTuple):
    """A command (a function) or a group of commands (a `typer.Typer`) in a module of this package."""

    name: str
    module: str
    attribute: str
    help: str


ENTRIES: Final = (
    Entry("serve", "daemons", "serve", "Run the daemon of one party until SIGTERM."),
    Entry(
        "check",
        "daemons",
        "check",
        "Are the partners there, would they accept the contract, and what will the job cost?",
    ),
    Entry("submit", "daemons", "submit", "Submit a job to the running daemon of the business."),
    Entry("jobs", "daemons", "jobs", "All jobs of this party."),
    Entry("job", "daemons", "job", "One job: where it stands, whom it waits for and since when, what it counted."),
    Entry("cancel", "daemons", "cancel", "End a job at both parties."),
    Entry("logs", "daemons", "logs", "The newest log lines of a job."),
    Entry("parked", "daemons", "parked", "Deliveries that were not applied, and why."),
    Entry("metrics", "daemons", "metrics", "What a Prometheus reads of the running daemon (docs/monitoring.md)."),
    Entry(
        "pending",
        "consent",
        "pending",
        "Contracts that wait for this party's steward: what they say, and which limits of the policy they exceed.",
    ),
    Entry("approve", "consent", "approve", "Let a job begin that waits for this party's steward."),
    Entry("decline", "consent", "decline", "Refuse a job that waits for this party's steward."),
    Entry(
        "revoke",
        "consent",
        "revoke",
        "Take this provider's consent back: to a job, or to all with a partner until `warren allow`.",
    ),
    Entry(
        "allow",
        "consent",
        "allow",
        "Let a partner propose jobs again after `warren revoke --partner`; the policy decides about them.",
    ),
    Entry(
        "pause",
        "consent",
        "pause",
        "Compute and send nothing for a job, or for all with a partner, until `warren resume`.",
    ),
    Entry("resume", "consent", "resume", "Go on with what was paused."),
    Entry("orders", "consent", "orders", "What stands over jobs: consents that were revoked, and pauses."),
    Entry(
        "backup",
        "backups",
        "backup",
        "Write a party to one file: configuration, keys, peers, and its whole data directory; not its data sets.",
    ),
    Entry("restore", "backups", "restore", "Put a party back from a backup, here or on another host."),
    Entry(
        "console",
        "consoles",
        "console",
        "Print a link into the web console: good for five minutes, and for one browser.",
    ),
    Entry(
        "purge",
        "audits",
        "purge",
        "Erase what is kept of a job that has ended: bodies, blobs, snapshot, events and secret. It cannot be undone.",
    ),
    Entry(
        "local", "locals_", "local", "Train with all parties on this machine, by the same code as daemons of their own."
    ),
    Entry(
        "demo", "locals_", "demo", "Train on the credit-default example and compare with the model of the joined table."
    ),
    Entry(
        "doctor",
        "doctor",
        "doctor",
        "What is wrong here, and what to do about it: files, clock, broker, TLS, rights, disk, back end, journal.",
    ),
    Entry(
        "predict",
        "predict",
        "predict",
        "Score rows with a model that this party and its partner trained: a whole file, or one row by its identifier.",
    ),
    Entry(
        "coefficients",
        "figures",
        "coefficients",
        "Show the table of this party's own coefficients: estimate, error, z, p and interval.",
    ),
    Entry(
        "evaluate",
        "figures",
        "evaluate",
        "Show how good a model is on every part of the rows: ranking, loss, calibration, confusion at thresholds.",
    ),
    Entry(
        "watch",
        "watching",
        "watch",
        "Where the jobs of all parties stand, live, from what they tell at the broker (`status = true` in party.toml).",
    ),
    Entry("identity", "identities", "identity", "This party's own keys."),
    Entry("peer", "identities", "peer", "The partners this party knows."),
    Entry("broker", "brokers", "app", "Topology of the broker."),
    Entry("tls", "certificates", "app", "Certificates of brokers and of parties at their broker."),
    Entry("data", "data", "app", "The party's own data sets."),
    Entry("bench", "benches", "app", "Benchmarks; ratios are against a peer in the same run."),
    Entry("models", "models", "app", "Models of this party: list, show, export, retire."),
    Entry("audit", "audits", "app", "What can be proved of a job: export, verify, replay, report."),
    Entry("policy", "policies", "app", "What this party lets its partners ask for."),
)


class NotLoaded(TyperCommand):
    """What stands for a command in lists until it is called."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.help)
        self.entry = entry

    def load(self) -> Any:
        """The command itself, with its parameters and its whole help."""
        entry = self.entry
        found = getattr(import_module(f"services.cli.{entry.module}"), entry.attribute)
        holder = typer.Typer()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=entry.name)
        else:
            holder.command(name=entry.name)(exits(found))
        return typer.main.get_group(holder).commands[entry.name]


class LazyGroup(TyperGroup):
    """The group of all commands, each loaded when it is called or asked for its own help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({entry.name: NotLoaded(entry) for entry in ENTRIES})

    # The types of what typer gives and takes here are in its private modules.
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Name, command and what is left of the words. Raises UsageError for a name that is none."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, NotLoaded) else command, rest
