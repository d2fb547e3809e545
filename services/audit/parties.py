"""Whose file an export is, and who the other parties of its job are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from messages.identity import IdentityError, PublicIdentity
from messages.keys import AddressError
from protocol.scoring_contract import AnyContract
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER, SIDES
from services.audit.export_file import FurtherPartner, Opening

ROLES: Final = frozenset(SIDES)
_ROLES_OF: Final = ((BUSINESS, PROVIDER), (SCORING_BUSINESS, SCORING_PROVIDER))
"""The business's role and that of a provider, in each sort of job."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Of one export. `partners`: in the order of the contract; `identities`: of all whose identity can be used."""

    party: str
    role: str
    partners: tuple[str, ...]
    identities: dict[str, PublicIdentity]
    unusable: tuple[str, ...]

    def role_of(self, name: str) -> str:
        """The role of a party in this sort of job; empty where the file names no role that there is."""
        found = next((roles for roles in _ROLES_OF if self.role in roles), None)
        if found is None:
            return ""
        business = self.party if self.role == found[0] else self.partners[0]
        return found[0] if name == business else found[1]


def parties_of_file(opening: Opening, further: Sequence[FurtherPartner]) -> Parties:
    """What the first frames of a file say. An identity that cannot be used is named, not raised."""
    stated = [
        (opening.party, opening.party_identity),
        (opening.partner, opening.partner_identity),
        *((item.name, item.identity) for item in further),
    ]
    identities: dict[str, PublicIdentity] = {}
    unusable = []
    for name, text in stated:
        try:
            identity = PublicIdentity.from_json(text)
            if identity.name != name:
                raise IdentityError(f"the identity given for {name} is {identity.name}'s")
            identities[name] = identity
        except (IdentityError, AddressError) as error:
            unusable.append(str(error))
    return Parties(
        party=opening.party,
        role=opening.role,
        partners=(opening.partner, *(item.name for item in further)),
        identities=identities,
        unusable=tuple(unusable),
    )


def keys_in(contract: AnyContract) -> dict[str, bytes]:
    """Digests of the parties' keys by name, the business first, then the providers in their order."""
    return {contract.business: contract.business_key, **{entry.name: entry.key for entry in contract.chain}}
