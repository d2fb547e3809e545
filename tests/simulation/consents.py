"""Jobs that wait for a steward's approval: given, refused, never given, or no longer wanted."""

from dataclasses import replace
from typing import Final

import msgspec

from protocol.contract import encode_contract, job_id
from protocol.contract_rules import decode_contract
from protocol.state import APPROVAL
from services.daemon.daemon import Daemon
from tests.simulation.agreement import BEGAN, contract
from tests.simulation.played import SCORING, TRAINING, Operator, Story

ASKS: Final = {"approval": "ask"}
EXPIRES_S: Final = 400


def _asking(nonce: bytes, *operators: Operator, **fields: object) -> Story:
    wanted = msgspec.structs.replace(decode_contract(contract()), nonce=nonce, max_iterations=2, **fields)
    found = encode_contract(wanted)
    return replace(TRAINING, job=job_id(found), contract=found, policy=ASKS, operators=operators)


async def _approve(daemon: Daemon, job: str) -> None:
    await daemon.approve(job)


async def _decline(daemon: Daemon, job: str) -> None:
    await daemon.decline(job, "not this quarter")


async def _cancel(daemon: Daemon, job: str) -> None:
    await daemon.cancel(job, "it takes too long")


async def _revoke(daemon: Daemon, job: str) -> None:
    await daemon.revoke(job, "the agreement has ended")


async def _revoke_partner(daemon: Daemon, job: str) -> None:
    del job
    await daemon.consent.revoke("bank", "people", "the agreement has ended")


async def _pause_or_resume(daemon: Daemon, job: str) -> None:
    if job in daemon.consent.orders.paused_jobs:
        await daemon.consent.resume(job)
    else:
        await daemon.consent.pause(job)


APPROVED: Final = _asking(b"approved", Operator("bureau", APPROVAL, _approve))
DECLINED: Final = _asking(b"declined", Operator("bureau", APPROVAL, _decline))
FORGOTTEN: Final = _asking(b"forgott.", expires_at=int(BEGAN) + EXPIRES_S)
WITHDRAWN: Final = _asking(b"withdraw", Operator("bank", APPROVAL, _cancel))
SCORED_ON_APPROVAL: Final = replace(SCORING, policy=ASKS, operators=(Operator("bureau", APPROVAL, _approve),))
REVOKED: Final = replace(_asking(b"revoked.", Operator("bureau", "train", _revoke)), policy={})
REVOKED_OF_PARTNER: Final = replace(_asking(b"closed..", Operator("bureau", "train", _revoke_partner)), policy={})
PAUSED: Final = replace(
    TRAINING,
    operators=(Operator("bank", "", _pause_or_resume, times=4), Operator("bureau", "", _pause_or_resume, times=2)),
)
