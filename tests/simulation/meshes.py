"""Three and four parties with the toy machine of `tests.services.mesh`: every line of messages between them is used."""

from typing import Final

from tests.services import mesh
from tests.simulation.agreement import BEGAN
from tests.simulation.played import Story, nothing

NAMES: Final = ("bank", "bureau", "carrier", "dealer")
_TO_ALL: Final = frozenset({"job.cancel", "job.failed", "cross.term", "link.terms"})


def meshed(count: int, **fields: int | bool) -> Story:
    """So many parties."""
    parties = NAMES[:count]
    return Story(
        job=f"mesh-{count}",
        contract=mesh.contract(*parties, expires_at=BEGAN + 10**6, **fields),
        roles={name: "business" if name == parties[0] else "provider" for name in parties},
        blobs=tuple,
        before=nothing,
        tables=dict,
        machines=mesh.ROLES,
        functions="tests.services.mesh",
        expiry_of=mesh.expiry_of,
        parties_of=mesh.parties_of,
        grants={"business": _TO_ALL | {"job.accept"}, "provider": _TO_ALL | {"job.propose"}},
    )


MESH: Final = meshed(3, iterations=2, chunks=3)
CHAIN: Final = meshed(4, iterations=1, chunks=3, chained=True)
