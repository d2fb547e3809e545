"""What goes wrong, and how it is made good again: each fault begins while both parties' workers are stopped in a
stage of a job, and has ended when nothing but the system itself is still to recover."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.chaos.disk import Disks
from tests.chaos.stages import release
from tests.endurance.town import Town
from tests.parties import PARTNER, PATIENCE_S, until, within

JITTER_S: Final = 0.01
"""Up to so long the workers run again before a sudden fault, so that it does not always meet them at rest."""

PAST_HEARTBEAT_S: Final = (32.0, 36.0)
"""A line that is silent for three heartbeats of 10 s is lost; see `broker.amqp.AmqpOptions`."""


@dataclass(slots=True)
class Scene:
    """Where a fault happens. `role`: the party it is about. `note`: what there is to tell of it. `waiting`: messages
    for that party that the broker had, or was about to get, when it went."""

    town: Town
    disks: Disks
    chance: random.Random
    role: str
    note: str = ""
    waiting: int = 0


Act = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` leaves the workers running; `end` returns at the moment from which recovery counts."""

    name: str
    begin: Act
    end: Act
    roles: tuple[str, ...] = (BUSINESS, PROVIDER)


def _after_a_moment(scene: Scene) -> None:
    release(scene.town)
    time.sleep(scene.chance.uniform(0, JITTER_S))


def _last(low: float, high: float) -> Act:
    """The fault lasts for some seconds between `low` and `high`."""

    def wait(scene: Scene) -> None:
        seconds = scene.chance.uniform(low, high)
        scene.note = f"{scene.note}, {seconds:.1f} s".removeprefix(", ")
        time.sleep(seconds)

    return wait


# -- processes ----------------------------------------------------------------------------------------------------


def _kill_party(scene: Scene) -> None:
    _after_a_moment(scene)
    scene.town.kill(scene.role)


def _start_party(scene: Scene) -> None:
    _last(0.0, 1.0)(scene)
    scene.town.start(scene.role)


def _kill_worker(scene: Scene) -> None:
    """A worker that has a task dies, while everybody else goes on."""
    (worker,) = scene.town.workers(scene.role)
    scene.note = "at work" if scene.town.works(scene.role) else "idle"
    os.kill(worker.pid, signal.SIGKILL)
    release(scene.town)


def _suspend(scene: Scene) -> None:
    _after_a_moment(scene)
    scene.town.suspend(scene.role)


def _resume(scene: Scene) -> None:
    _last(1.0, 5.0)(scene)
    scene.town.resume(scene.role)


# -- the broker ---------------------------------------------------------------------------------------------------


def _let_messages_wait(scene: Scene) -> None:
    """Let messages of the partner lie in the broker, confirmed, when it goes: the party does not take them."""
    town, partner = scene.town, PARTNER[scene.role]
    town.suspend(scene.role)
    town.thaw(partner)
    within(PATIENCE_S, lambda: town.on_the_way(partner) > 1 or not town.works(partner))
    scene.waiting = town.on_the_way(partner)
    scene.note = f"on their way: {scene.waiting}"


def _go_on(scene: Scene) -> None:
    scene.town.resume(scene.role)
    release(scene.town)


def _broker_goes(go: Callable[[Town], None]) -> Act:
    def begin(scene: Scene) -> None:
        _let_messages_wait(scene)
        go(scene.town)
        _go_on(scene)

    return begin


def _start_broker(scene: Scene) -> None:
    scene.town.broker.start()


# -- the lines ----------------------------------------------------------------------------------------------------


def _lines(scene: Scene, both: bool) -> tuple[str, ...]:
    return tuple(NAMES) if both else (scene.role,)


def _cut(*, both: bool) -> Act:
    def begin(scene: Scene) -> None:
        _after_a_moment(scene)
        for role in _lines(scene, both):
            scene.town.uplinks[role].cut()

    return begin


def _stall(*, both: bool) -> Act:
    def begin(scene: Scene) -> None:
        _after_a_moment(scene)
        for role in _lines(scene, both):
            scene.town.uplinks[role].stall()

    return begin


def _flow_after(low: float, high: float) -> Act:
    def end(scene: Scene) -> None:
        _last(low, high)(scene)
        for line in scene.town.uplinks.values():
            line.flow()

    return end


# -- the disk -----------------------------------------------------------------------------------------------------


def _fill_disk(scene: Scene) -> None:
    scene.disks[scene.role].fill()
    release(scene.town)


def _make_room(scene: Scene) -> None:
    """Room is made once the party has said what it waits for: at its status and at the job, in the same words."""
    with scene.town.console(scene.role) as console:
        said = until(lambda: console.ask("status")["disk"]["detail"], "the full disk is explained")
        view = console.ask("job", id=scene.town.job)
        assert view["status"] == "running", (view["status"], view["reason_code"], view["reason"])
    scene.note = str(said)
    _last(0.0, 5.0)(scene)
    scene.disks[scene.role].make_room()


def _nothing(_: Scene) -> None:
    """The fault is over as soon as it has happened."""


FAULTS: Final = (
    Fault("kill business", _kill_party, _start_party, (BUSINESS,)),
    Fault("kill provider", _kill_party, _start_party, (PROVIDER,)),
    Fault("kill a worker", _kill_worker, _nothing),
    Fault("suspend a daemon", _suspend, _resume),
    Fault("kill the broker", _broker_goes(lambda town: town.broker.kill()), _start_broker),
    Fault("restart the broker", _broker_goes(lambda town: town.broker.stop()), _start_broker),
    Fault("wipe the broker", _broker_goes(lambda town: town.broker.wipe()), _start_broker),
    Fault("cut one line", _cut(both=False), _nothing),
    Fault("cut both lines", _cut(both=True), _nothing),
    Fault("stall one line", _stall(both=False), _flow_after(1.0, 5.0)),
    Fault("stall both lines", _stall(both=True), _flow_after(1.0, 5.0)),
    Fault("stall past heartbeat", _stall(both=True), _flow_after(*PAST_HEARTBEAT_S)),
    Fault("fill the disk", _fill_disk, _make_room),
)
