"""Where a job stands, in words: what is done, how fast, how long it takes yet, and whom it waits for and why."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

TURN_S: Final = 15.0
"""A partner that has everything and works on it is told of when it takes longer."""
AWAY_S: Final = 5.0
"""Partners, brokers and journals that are away are told of when they are for longer."""
DECIDED: Final = ("steward", "partner_steward", "paused", "quiet_hours", "partner_rests")
"""Waits that somebody has to end, or ended on purpose: told of at once."""
STAGES_OF_ITERATIONS: Final = ("train", "infer")
STAGES: Final = {
    "propose": "proposing the contract",
    "admit": "deciding on the contract",
    "approval": "waiting for approval",
    "align": "aligning samples",
    "encrypt_features": "encrypting features",
    "train": "training",
    "infer": "standard errors",
    "score": "scoring",
    "serve": "answering lookups",
    "finish": "writing target parameters",
}


ITERATIONS_AVERAGED: Final = 6
"""Iterations whose mean says how long those to come will take: an even number, since in a cross-validation long turns
(fits) and short ones (checks) alternate."""
RATE_AFTER_S: Final = 0.2
"""A place where a job has been for less has no rate yet."""


class Rate:
    """Rows per second of the present stage and iteration, and the time that is left. Fed with what is seen of a job."""

    def __init__(self) -> None:
        self._place: tuple[str, int] = ("", -1)
        self._began = (0.0, 0)
        self._seen: tuple[float, int] = (0.0, 0)
        self._bounds = (0, 0)
        self._known = False
        self._took: deque[float] = deque(maxlen=ITERATIONS_AVERAGED)

    def update(self, stage: str, iteration: int, done: int, now: float) -> float:
        """Rows per second since this stage and iteration began."""
        if (stage, iteration) != self._place:
            self._turn(stage, iteration, now)
            self._place, self._began = (stage, iteration), (now, done)
        self._seen = (now, done)
        seconds = now - self._began[0]
        return (done - self._began[1]) / seconds if seconds > RATE_AFTER_S else 0.0

    def look(self, progress: Mapping[str, Any], now: float) -> float:
        """`update` with the progress of a view."""
        self._bounds = progress.get("iterations", 0), progress.get("total", 0)
        return self.update(progress.get("stage", ""), progress.get("iteration", 0), progress.get("done", 0), now)

    def left(self) -> float | None:
        """Seconds left after the last `look`: in iterations for all to come, else of the stage; None: unknown."""
        (now, done), (began, first), (iterations, total) = self._seen, self._began, self._bounds
        stage, iteration = self._place
        spent = now - began
        rate = (done - first) / spent if spent > RATE_AFTER_S else 0.0
        if stage not in STAGES_OF_ITERATIONS or not 0 < iteration <= iterations:
            return (total - done) / rate if rate > 0 and total else None
        if self._took:
            mean = sum(self._took) / len(self._took)
            return max(0.0, mean - spent) + mean * (iterations - iteration)
        if rate > 0 and total:
            return (total - done) / rate + total / rate * (iterations - iteration)
        return None

    def _turn(self, stage: str, iteration: int, now: float) -> None:
        """Note how long iterations took that were seen from begin to end; several at once if nobody looked."""
        before, last = self._place
        if stage not in STAGES_OF_ITERATIONS or stage != before or iteration <= last:
            self._known = stage in STAGES_OF_ITERATIONS and before not in ("", stage)
            self._took.clear()
            return
        if self._known:
            self._took.append((now - self._began[0]) / (iteration - last))
        self._known = True


def describe(view: dict[str, Any], rate: float, left: float | None = None) -> tuple[str, str]:
    """(what is done, how far and what is waited for) of a job's view. `rate`, `left`: of a `Rate`."""
    progress = view.get("progress") or {}
    stage = STAGES.get(progress.get("stage", ""), progress.get("stage", "") or "starting")
    iterations = progress.get("iterations", 0)
    if progress.get("iteration"):
        stage += f", iteration {progress['iteration']} of at most {iterations}"
    details = []
    done, total = progress.get("done", 0), progress.get("total", 0)
    if done:
        details.append(f"{done} of {total} rows")
    if rate > 0:
        details.append(f"{rate:,.0f} rows/s")
    if left is not None:
        need = f" if all {iterations} iterations are needed" if progress.get("iteration") else ""
        details.append(f"about {ago(left)} left{need}")
    if wait := wait_of(view):
        details.append(wait)
    return stage, "; ".join(details)


def wait_of(view: dict[str, Any]) -> str:
    """What a job waits for, if that is news; else empty."""
    waiting = view.get("waiting")
    if not view.get("disk", {}).get("ok", True):
        return f"waiting: {view['disk']['detail']}"
    if waiting:
        return told(view) if _worth_telling(waiting, view["now"]) else ""
    return "" if view.get("transport", {}).get("up", True) else f"no broker: {view['transport']['detail']}"


def _worth_telling(waiting: Mapping[str, Any], now: float) -> bool:
    """Every message waits a moment for the partner: that is no news, and reads like trouble."""
    if waiting["why"] == "own_work":
        return False
    patience = TURN_S if waiting["why"] == "partner_turn" else 0.0 if waiting["why"] in DECIDED else AWAY_S
    return float(now - waiting["since"]) >= patience


def told(view: dict[str, Any]) -> str:
    """Whom a job waits for, since when and why, and when the partner was last heard of; empty if it does not wait."""
    waiting = view.get("waiting")
    if not waiting:
        return ""
    text = f"waiting for {waiting['waits_for']} since {ago(view['now'] - waiting['since'])}: {waiting['detail']}"
    if waiting["why"] in ("own_work", "steward", "partner_steward"):
        return text
    away = waiting["why"] in ("partner_turn", "partner_silent", "partner_untold")
    partner = waiting["waits_for"] if away else ", ".join(view.get("partners", [view["partner"]]))
    heard = waiting["heard_at"]
    sign = f"last sign of {partner} {ago(view['now'] - heard)} ago" if heard else f"no sign of {partner} yet"
    return f"{text}; {sign}"


def ago(seconds: float) -> str:
    """A time span for people."""
    whole = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
