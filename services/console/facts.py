"""What the console says, as plain values: read by the verbs of the control socket, and from the journal.

Convergence and figures of a model are this party's own: they go to its console and nowhere else.
"""

import asyncio
import time
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, func, select

from protocol.contract import ContractError
from protocol.scoring_contract import AnyContract, read_any
from services import __version__
from services.audit.so_far import SoFar
from services.console.kinds import words_of
from services.console.months import Month, month_of
from services.console.terms import terms_of, title_of
from services.daemon.control import ControlError, answer
from services.daemon.convergence import convergence
from services.daemon.party_process import Running
from services.daemon.standing import Rate, describe
from services.engine.records import contract_of_job
from services.models.described import facts_of
from services.models.store import ModelStore
from services.models.version import ModelDamaged
from services.party.back_ends import back_ends
from services.store.grants import grants
from services.store.journal_schema import outbox, partners

FRESH_S: Final = 0.9
"""How old an overview may be that several pages share."""
LINES_SHOWN_MAX: Final = 120
OVER_SHOWN_MAX: Final = 100
PARKED_SHOWN_MAX: Final = 50
ROLE_WORDS: Final = {
    "business": "business",
    "provider": "provider",
    "scoring-business": "business, scoring",
    "scoring-provider": "provider, scoring",
}


class Facts:
    """Of one running daemon. All methods belong on its event loop. They raise ControlError."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._so_far = SoFar(running.party.file.name)
        self._rates: dict[str, Rate] = {}
        self._titles: dict[str, str] = {}
        self._overview: tuple[float, dict[str, Any]] = (-FRESH_S, {})
        self._gate = asyncio.Lock()
        self.started_at = time.time()

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """What a verb of the control socket answers. Raises ControlError."""
        found = await answer(self._running.verbs, verb, arguments)
        if "error" in found:
            raise ControlError(found["error"]["code"], found["error"]["message"])
        return found["ok"]

    async def overview(self) -> dict[str, Any]:
        """Every page's head, and the list of jobs, newest first."""
        async with self._gate:  # several pages ask at once, one reads
            made_at, found = self._overview
            if time.monotonic() - made_at > FRESH_S:
                found = await self._read_overview()
                self._overview = (time.monotonic(), found)
        return found

    async def _read_overview(self) -> dict[str, Any]:
        daemon = self._running.daemon
        state, disk = daemon.transport_state, daemon.disk
        shown = {"transport": {"up": state.up, "detail": state.detail}}
        views = await self.ask("jobs")
        await self._entitle([view["job"] for view in views])
        self._forget({view["job"] for view in views})
        running = [view for view in views if view["status"] == "running"]
        over = [view for view in views if view["status"] != "running"]
        return {
            "party": self._running.party.file.name,
            "version": __version__,
            "started_at": self.started_at,
            "transport": shown["transport"],
            "disk": {"ok": not disk.trouble, "detail": disk.trouble},
            "pending": await self.ask("pending"),
            "orders": await self.ask("orders"),
            "jobs": [self._card({**view, **shown}) for view in (*running[::-1], *over[-OVER_SHOWN_MAX:][::-1])],
            "over": len(over),
        }

    async def _entitle(self, names: Sequence[str]) -> None:
        """Read what kind of job each is, once: a contract does not change."""
        new = [name for name in names if name not in self._titles]
        if new:
            read = self._running.daemon.journal.read
            self._titles |= await read(lambda connection: {name: _title(connection, name) for name in new})

    def _forget(self, names: Set[str]) -> None:
        """Jobs leave the journal; what is remembered of them leaves with them."""
        for known in (self._titles, self._rates):
            for name in known.keys() - names:
                del known[name]

    def _card(self, view: dict[str, Any]) -> dict[str, Any]:
        progress = view["progress"] or {}
        pace = self._rates.setdefault(view["job"], Rate())
        rate = pace.look(progress, time.monotonic()) if view["status"] == "running" else 0.0
        left = pace.left() if view["status"] == "running" else None
        return {
            "job": view["job"],
            "title": self._titles.get(view["job"], "Job"),
            "role": ROLE_WORDS.get(view["role"], view["role"]),
            "partners": view["partners"],
            "status": view["status"],
            "outcome": view["outcome"] or view["status"],
            "reason_code": view["reason_code"],
            "reason": view["reason"],
            "created_at": view["created_at"],
            "updated_at": view["updated_at"],
            "progress": progress,
            "rate": round(rate, 3),
            "left_s": None if left is None else round(left, 1),
            "waiting": view["waiting"],
            "stage": describe(view, rate)[0],
        }

    async def job(self, name: str) -> dict[str, Any]:
        """Everything about one job that changes while it runs."""
        view = await self.ask("job", id=name)
        await self._entitle([name])
        read = self._running.daemon.journal.read
        return {
            **self._card(view),
            "length": view["length"],
            "head": view["head"],
            "expires_at": view["expires_at"],
            "seconds": view["seconds"],
            "statistics": view["statistics"],
            "results": await asyncio.to_thread(_kept, view["results"], self._running.party.directory),
            "convergence": await read(lambda connection: convergence(connection, name)),
            "so_far": _in_words(await read(lambda connection: self._so_far.read(connection, name))),
            "figures": await asyncio.to_thread(_figures, view["results"]),
            "lines": (await self.ask("logs", id=name))[-LINES_SHOWN_MAX:],
        }

    async def contract(self, name: str) -> dict[str, Any]:
        """The contract of a job, in plain words and field by field."""
        await self.ask("job", id=name)  # says what is wrong with a name
        data, purged_at = await self._running.daemon.journal.read(lambda connection: contract_of_job(connection, name))
        try:
            contract: AnyContract = read_any(data)
        except ContractError as error:
            raise ControlError("bad_input", f"the contract of this job cannot be read: {error}") from None
        return {**terms_of(contract), "purged_at": purged_at}

    async def peers(self) -> dict[str, Any]:
        """The own fingerprint and those of all peers, with the last sign of each."""
        heard = await self._running.daemon.journal.read(_heard)
        party = self._running.party
        return {
            "own": {"name": party.file.name, "fingerprint": party.identity.public.fingerprint},
            "peers": [
                {"name": name, "fingerprint": peer.fingerprint, "heard_at": heard.get(name, 0.0)}
                for name, peer in sorted(party.peers.items())
            ],
        }

    async def month(self, name: str) -> dict[str, Any]:
        """What was released in a calendar month (UTC), by partner, over all jobs. `name`: 2026-11; "": this one."""
        try:
            month = Month.named(name) if name else Month.of(time.time())
        except ValueError as error:
            raise ControlError("bad_request", str(error)) from None
        found = await asyncio.to_thread(grants, self._running.party.data_directory)
        views = await self._running.daemon.jobs()
        return month_of(month, found, views, now=time.time())

    async def models(self) -> list[dict[str, Any]]:
        """What this party keeps of its models, newest first; no parameter is shown."""
        store = ModelStore(self._running.party.data_directory)
        try:
            kept = await asyncio.to_thread(store.all)
        except ModelDamaged as error:
            raise ControlError("bad_input", str(error)) from None
        return [facts_of(one) for one in reversed(kept)]

    async def system(self) -> dict[str, Any]:
        """The daemon and its broker."""
        party = self._running.party
        parts = urlsplit(party.file.broker)
        status = await self.ask("status")
        return {
            **status,
            "broker": {
                "address": f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}",
                "vhost": parts.path.lstrip("/") or "/",
                "sealed_line": parts.scheme.endswith("s"),
            },
            "outbox": await self._running.daemon.journal.read(_outbox),
            "tasks_waiting": sum(self._running.daemon.tasks_waiting.values()),
            "back_ends": [
                {"work": one.work, "name": one.name, "why": one.why, "advice": one.advice} for one in back_ends()
            ],
            "parked": await self.ask("parked", limit=PARKED_SHOWN_MAX),
        }


def _in_words(so_far: dict[str, Any]) -> dict[str, Any]:
    for line in so_far.get("lines", ()):
        line["words"] = words_of(line["kind"])
    return so_far


def _kept(results: str, home: Path) -> dict[str, Any] | None:
    """The files of a job's results and their directory, as seen from party.toml where it lies beside that."""
    if not results:
        return None
    path = Path(results)
    shown = path.relative_to(home) if path.is_relative_to(home) else path
    return {"directory": str(shown), "files": sorted(file.name for file in path.iterdir() if file.is_file())}


def _figures(results: str) -> dict[str, Any] | None:
    """metrics.json of a job that has been evaluated, at its business."""
    path = Path(results) / "metrics.json"
    if not results or not path.exists():
        return None
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found


def _title(connection: Connection, job: str) -> str:
    try:
        return title_of(read_any(contract_of_job(connection, job)[0]))
    except ContractError:
        return "Job"


def _heard(connection: Connection) -> dict[str, float]:
    return {row.partner: row.heard_at for row in connection.execute(select(partners))}


def _outbox(connection: Connection) -> list[dict[str, Any]]:
    """Messages without a receipt, by partner."""
    rows: Sequence[Any] = connection.execute(
        select(outbox.c.recipient, func.count().label("messages"), func.sum(outbox.c.bytes).label("bytes"))
        .where(outbox.c.sequence > 0)
        .group_by(outbox.c.recipient)
        .order_by(outbox.c.recipient)
    ).all()
    return [{"partner": row.recipient, "messages": row.messages, "bytes": int(row.bytes or 0)} for row in rows]
