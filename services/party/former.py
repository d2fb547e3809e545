"""Keys that were used before: what a job was agreed with outlives a rotation, for its exports and audits."""

from pathlib import Path
from typing import Final

import msgspec

from messages.identity import PublicIdentity
from protocol.contract import ContractError
from protocol.scoring_contract import AnyContract, read_any
from services.party.configuration import Party, identity_path, read_identity, read_public

FORMER: Final = "former"


def keys_in(contract: AnyContract) -> dict[str, bytes]:
    """Digest of the identity keys of each party of a contract."""
    return {contract.business: contract.business_key, **{entry.name: entry.key for entry in contract.chain}}


def misfit(party: str, own: PublicIdentity, peers: "dict[str, PublicIdentity]", contract: bytes) -> str:
    """Why a job cannot go on with the keys that there are now; empty if it can, or for what is no contract."""
    try:
        wanted = keys_in(read_any(contract))
    except ContractError:
        return ""
    for name, digest in wanted.items():
        found = own if name == party else peers.get(name)
        if found is None:
            return f"{name} is no peer of {party} any more"
        if found.digest() != digest:
            return f"the keys of {name} are others than those that the job was agreed with"
    return ""


def as_agreed(party: Party, contract: bytes) -> Party:
    """The party with the keys, own and others', that a contract names, as far as they are still there."""
    try:
        wanted = keys_in(read_any(contract))
    except ContractError:
        return party
    identity, peers = party.identity, dict(party.peers)
    for name, digest in wanted.items():
        if name == party.file.name and identity.public.digest() != digest:
            path = former_identity(party, digest)
            identity = read_identity(path) if path.exists() else identity
        elif name != party.file.name and (name not in peers or peers[name].digest() != digest):
            path = former_peer(party.directory / party.file.peers, name, digest)
            if path.exists():
                peers[name] = read_public(path)
    return msgspec.structs.replace(party, identity=identity, peers=peers)


def former_identity(party: Party, digest: bytes) -> Path:
    """Where own keys of that digest are kept once they are used no more."""
    path = identity_path(party.file, party.directory)
    return path.parent / FORMER / f"{party.file.name}.{digest.hex()[:12]}.private.json"


def former_peer(peers: Path, name: str, digest: bytes) -> Path:
    """The same of a partner's public keys."""
    return peers / FORMER / f"{name}.{digest.hex()[:12]}.public.json"
