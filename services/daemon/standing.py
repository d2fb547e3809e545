"""Where a job stands, in words: what is done, how fast, how long it takes yet, and whom it waits for and why."""

from typing import Any, Final

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


class Rate:
    """Rows per second of the present stage and iteration, and the time that is left of it."""

    def __init__(self) -> None:
        self._place: tuple[str, int] = ("", -1)
        self._began = (0.0, 0)

    def update(self, stage: str, iteration: int, done: int, now: float) -> float:
        """Rows per second since this stage and iteration began."""
        if (stage, iteration) != self._place:
            self._place, self._began = (stage, iteration), (now, done)
        seconds = now - self._began[0]
        return (done - self._began[1]) / seconds if seconds > 0.2 else 0.0


def describe(view: dict[str, Any], rate: float) -> tuple[str, str]:
    """(what is done, what is waited for) of a job's view."""
    progress = view.get("progress") or {}
    stage = STAGES.get(progress.get("stage", ""), progress.get("stage", "") or "starting")
    if progress.get("iteration"):
        stage += f", iteration {progress['iteration']} of at most {progress['iterations']}"
    details = []
    done, total = progress.get("done", 0), progress.get("total", 0)
    if total:
        details.append(f"{done} of {total} rows")
    if rate > 0:
        left = (total - done) / rate
        details.append(f"{rate:,.0f} rows/s, {left:.0f} s left")
    waiting = view.get("waiting")
    if not view.get("disk", {}).get("ok", True):
        details.append(f"waiting: {view['disk']['detail']}")
    elif waiting and waiting["why"] != "own_work":
        details.append(told(view))
    elif not view.get("transport", {}).get("up", True):
        details.append(f"no broker: {view['transport']['detail']}")
    return stage, "; ".join(details)


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
