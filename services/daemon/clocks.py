"""What time it is at the partners: the control socket's verb `clocks`, for `warren doctor`."""

import asyncio
from typing import Any, Final

from messages import unsequenced
from services.daemon.arguments import number_of
from services.daemon.daemon import Daemon
from services.party.configuration import Party

TIMEOUT_S: Final = 5.0
TIMEOUT_MAX_S: Final = 60.0


class Clocks:
    """Asks all peers of a daemon at once."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._peers = tuple(name for name in party.peers if name != party.file.name)
        self._daemon = daemon

    async def tell(self, request: dict[str, Any]) -> dict[str, dict[str, float] | None]:
        """By peer: its clock (whole seconds since 1970), and ours before and after; None where none has answered."""
        timeout_s = number_of(request, "timeout_s", TIMEOUT_S, least=0, most=TIMEOUT_MAX_S)
        readings = await asyncio.gather(*(self._ask(peer, timeout_s) for peer in self._peers))
        return dict(zip(self._peers, readings, strict=True))

    async def _ask(self, peer: str, timeout_s: float) -> dict[str, float] | None:
        sent = self._daemon.clock()
        try:
            answer = await self._daemon.probe(
                peer, unsequenced.PeerProbe(contract=b"", clock=True), timeout_s=timeout_s
            )
        except TimeoutError:
            return None
        received = self._daemon.clock()
        return {"theirs": answer.clock, "sent": sent, "received": received} if answer.clock else None
