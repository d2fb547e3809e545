"""How late the event loop is: nothing may hold it up, so somebody has to look."""

import asyncio

import structlog

log = structlog.get_logger("loop")

WARN_S = 0.25


class LagMeter:
    """Sleeps and measures by how much it overslept. Values in seconds."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self.last = 0.0
        self.worst = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._period_s
            await asyncio.sleep(self._period_s)
            self.last = max(0.0, loop.time() - due)
            self.worst = max(self.worst, self.last)
            if self.last > WARN_S:
                log.warning("the event loop was held up", seconds=round(self.last, 3))
