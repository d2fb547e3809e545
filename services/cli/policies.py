"""`warren policy`: a changed policy.toml, taken by the running daemon."""

import typer

from services.cli.daemons import PARTY, PartyOption, client_of, out
from services.party.plain_text import plain

app = typer.Typer(help="What this party lets its partners ask for.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """What this party lets its partners ask for (docs/consent.md)."""


@app.command()
def reload(party: PartyOption = PARTY) -> None:
    """Let the running daemon read policy.toml again; a file that cannot be used changes nothing."""
    with client_of(party) as client:
        answer = client.ask("policy-reload")
    for line in answer["changes"] or ["nothing has changed"]:
        out.print(plain(line), soft_wrap=True)
    out.print(plain(f"{answer['file']} is in force"), soft_wrap=True)
