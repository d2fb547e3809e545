"""A party that lives while its doors are tried: its files, and a daemon with one job."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from protocol.machines import ROLES
from services.daemon.daemon import Daemon, DaemonConfig
from services.daemon.serve import expiry_of
from services.party.configuration import Party, load_party
from tests.fuzz.identities import ME, PARTNER, identity
from tests.fuzz.samples import contract, job_of

CONTRACT: Final = contract(business=ME, provider=PARTNER)
JOB: Final = job_of(CONTRACT)


def party_in(folder: Path, text: str) -> Party:
    """The party of a party.toml with this `text`, with its keys and its one peer, in an empty folder."""
    (folder / "identity").mkdir()
    (folder / "peers").mkdir()
    (folder / "identity" / "bank.private.json").write_bytes(identity(ME).to_bytes())
    (folder / "identity" / "bank.private.json").chmod(0o600)
    (folder / "peers" / "shop.json").write_text(identity(PARTNER).public.to_json())
    (folder / "party.toml").write_text(text)
    return load_party(folder / "party.toml")


def daemon_of(party: Party) -> Daemon:
    """Its daemon, on a broker where nobody answers."""
    config = DaemonConfig(
        identity=party.identity,
        peers=party.peers,
        data_directory=party.data_directory,
        roles=ROLES,
        workers=0,
        expiry_of=expiry_of,
    )
    return Daemon(config, EmbeddedTransport(EmbeddedBroker((ME, PARTNER)), ME, [PARTNER]))


async def begin(group: asyncio.TaskGroup, daemon: Daemon) -> None:
    """Run the daemon in the group, and submit the job."""
    group.create_task(daemon.run())
    await daemon.started()
    facts = msgspec.msgpack.encode({"salt": bytes(32)})
    await daemon.submit(JOB, PARTNER, contract=CONTRACT, blobs=((b"snapshot", 80),), facts=facts)
