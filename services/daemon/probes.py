"""Answers to the probes of partners (`warren check`, `warren doctor`): a few wait, and no more."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from messages import unsequenced
from services.daemon.daemon_config import Prober
from services.engine.notices import Question
from services.engine.relay import Relay
from services.store.limits import QUESTIONS_WAITING_MAX

log = structlog.get_logger("daemon")


class Probes:
    """See the module docstring. `answer`: None for a party that answers none; `clock`: seconds since 1970."""

    def __init__(self, answer: Prober | None, relay: Relay, clock: Callable[[], float]) -> None:
        self._answer = answer
        self._relay = relay
        self._clock = clock
        self._waiting: asyncio.Queue[Question] = asyncio.Queue(QUESTIONS_WAITING_MAX)

    def take(self, question: Question) -> None:
        """Have it answered by `run`, or drop it: a partner that floods gets some, which is all a probe is worth."""
        if self._waiting.full():
            log.warning("probe dropped: too many wait", partner=question.sender)
        else:
            self._waiting.put_nowait(question)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            question = await self._waiting.get()
            if self._answer is None or not isinstance(question.message, unsequenced.PeerProbe):
                log.info("probe not answered: this party answers none", partner=question.sender)
                continue
            try:
                answer = await self._answer(question.sender, question.message)
                if question.message.clock:
                    answer = msgspec.structs.replace(answer, clock=int(self._clock()))
                await self._relay.say(question.job, question.sender, answer)
            except Exception as error:
                # Nothing depends on a probe, so nothing may end because of one.
                log.error("probe not answered", partner=question.sender, error=type(error).__name__)
