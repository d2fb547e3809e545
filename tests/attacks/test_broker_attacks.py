"""An adversary at the broker attacks a job in mid-iteration: parked by its reason, the parameters unharmed."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from messages.keys import parse_routing_key
from messages.schemas import BULK
from messages.unsequenced import UNSEQUENCED
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.attacks.forgeries import (
    ATTACKS,
    NO_TRACE,
    RECEIPT,
    REPEATED,
    Captured,
    Forged,
    Material,
    signed_receipt_ahead,
)
from tests.attacks.stage import Message, Processes, Stage, publish, two_processes, until_async
from tests.parties import PARTNER
from tests.rabbitmq import fresh_parties, observer

SPOKEN_IN_ITERATION = {BUSINESS: "link.terms", PROVIDER: "residual.share"}


@dataclass(frozen=True)
class Scene:
    """Both daemons running, and what an undisturbed job said and gave."""

    stage: Stage
    daemons: Processes
    past: list[Message]
    parameters: dict[str, bytes]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory: Path = tmp_path_factory.mktemp("stage")
    stage = Stage(directory, fresh_parties("business", "provider"), amqp=True)

    async def undisturbed() -> tuple[list[Message], dict[str, bytes]]:
        async with observer() as seen:
            job = stage.submit()
            parameters = await asyncio.to_thread(stage.result, job)
            return [message for message in seen if f".{job}." in message[0]], parameters

    with two_processes(stage) as daemons:
        past, parameters = asyncio.run(undisturbed())
        assert all(stage.parked(role) == {} for role in NAMES)
        yield Scene(stage, daemons, past, parameters)


def said(messages: list[Message], sender: str, job: str = "") -> list[Captured]:
    """What a party said, oldest first."""
    found = []
    for key, data in messages:
        ours = key.startswith(f"from.{sender}.to.") and not key.endswith(".probe")
        if ours and (not job or parse_routing_key(key).job == job):
            found.append(Captured(key, data))
    return found


def material(scene: Scene, seen: list[Message], job: str, victim: str) -> Material:
    """What an adversary has seen of a job that is under way."""
    stage, partner = scene.stage, PARTNER[victim]
    heard = said(seen, stage.names[partner], job)
    kinds = [parse_routing_key(item.key).kind for item in heard]
    return Material(
        job=job,
        victim=stage.party(victim).identity.public,
        partner=stage.party(partner).identity,
        chunks=[item for item, kind in zip(heard, kinds, strict=True) if kind in BULK],
        controls=[item for item, kind in zip(heard, kinds, strict=True) if kind not in BULK | UNSEQUENCED],
        receipts=[item for item, kind in zip(heard, kinds, strict=True) if kind == RECEIPT],
        own=said(seen, stage.names[victim], job),
        foreign=said(scene.past, stage.names[partner]),
    )


async def iterating(seen: list[Message], stage: Stage, partner: str, job: str) -> None:
    """Wait until a party has sent two chunks of an iteration."""

    async def two_chunks() -> bool:
        heard = said(seen, stage.names[partner], job)
        return sum(item.key.endswith(SPOKEN_IN_ITERATION[partner]) for item in heard) >= 2

    await until_async(two_chunks, f"{partner} is in its first iteration")


async def strike(scene: Scene, victim: str, job: str, forged: Forged) -> None:
    """Publish forgeries; returns when the victim has dealt with each of them, and only as it should."""
    stage = scene.stage
    expected = Counter(code for code, _ in forged)
    repeated, _ = expected.pop(REPEATED, 0), expected.pop(NO_TRACE, 0)
    parked, duplicates = Counter(stage.parked(victim)), stage.duplicates(victim, job)

    async def settled() -> bool:
        news = Counter(stage.parked(victim)) - parked
        return news.total() >= expected.total() and stage.duplicates(victim, job) >= duplicates + repeated

    await publish([message for _, message in forged])
    await until_async(settled, f"{victim} has parked {dict(expected)} and counted {repeated} duplicates")
    assert Counter(stage.parked(victim)) - parked == expected
    assert stage.ask(victim, "job", id=job)["status"] == "running"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_parked_by_its_reason_and_leaves_the_job_unharmed(
    scene: Scene, attack: Callable[[Material], Forged]
) -> None:
    async def story() -> None:
        async with observer() as seen:
            job = scene.stage.submit()
            published: list[Message] = []
            for victim, partner in PARTNER.items():
                await iterating(seen, scene.stage, partner, job)
                with scene.daemons.stopped(partner):
                    genuine = [message for message in seen if message not in published]
                    forged = attack(material(scene, genuine, job, victim))
                    published += [message for _, message in forged]
                    await strike(scene, victim, job, forged)
            assert await asyncio.to_thread(scene.stage.result, job) == scene.parameters

    asyncio.run(story())


@pytest.mark.parametrize("victim", NAMES)
def test_a_receipt_that_the_partner_signed_for_what_was_never_said_freezes_that_job_and_no_other(
    scene: Scene, victim: str
) -> None:
    async def story() -> None:
        async with observer() as seen:
            job = scene.stage.submit()
            await iterating(seen, scene.stage, PARTNER[victim], job)
            with scene.daemons.stopped(PARTNER[victim]):
                ahead = signed_receipt_ahead(material(scene, seen, job, victim))
                before = Counter(scene.stage.parked(victim))
                await publish([ahead])

                async def frozen() -> bool:
                    return bool(scene.stage.ask(victim, "job", id=job)["status"] == "frozen")

                await until_async(frozen, f"{victim} freezes the job")
                # What the partner had said before is parked after it, as `job_frozen`.
                rows = scene.stage.ask(victim, "parked")["rows"]
                senders = {row["sender"] for row in rows if row["code"] == "receipt_ahead"}
                assert senders == {scene.stage.names[PARTNER[victim]]}
                view = scene.stage.ask(victim, "job", id=job)
                assert view["reason_code"] == "receipt_ahead"
                assert (Counter(scene.stage.parked(victim)) - before)["receipt_ahead"] == 1
        other = scene.stage.submit()
        assert await asyncio.to_thread(scene.stage.result, other) == scene.parameters

    asyncio.run(story())
