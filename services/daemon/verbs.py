"""What the control socket can do: the verbs behind `warren submit`, `check`, `jobs`, `job`, `cancel` and so on."""

import asyncio
import dataclasses
import os
import resource
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from learning.solvers.warm import Start
from messages import unsequenced
from protocol.contract import ContractError, encode_contract, job_id
from protocol.state import BUSINESS
from services import __version__
from services.audit.purging import forget_pages, with_results
from services.daemon.arguments import job_of, number_of, text_of
from services.daemon.consent_verbs import ConsentVerbs, words_of
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon
from services.daemon.desk import PartnerUnknown
from services.daemon.estimate import estimate
from services.daemon.job_file import JobFile, business_table, job_from, make_contract
from services.daemon.policy_verbs import PolicyVerbs
from services.daemon.scoring_verbs import ScoringVerbs
from services.daemon.serve import cpu_seconds, peak_bytes, view_of
from services.engine.decisions import JobOver, JobUnknown
from services.engine.records import AuditError
from services.engine.timings import StageTimes
from services.models.warming import WarmStartRefused, first_gradient_of, starts_of
from services.party.configuration import ConfigError, Party
from services.party.logs import LogBook
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table, TableError

PROBE_TIMEOUT_S = 20.0
PROBE_TIMEOUT_MAX_S = 7 * 86_400.0
PARKED_SHOWN_MAX = 100_000


class Prepared(NamedTuple):
    """What a job file becomes: contract, table, partners, salt of the digests, and the parameters to start from."""

    contract: bytes
    table: Table
    partners: list[str]
    salt: bytes
    job: JobFile
    starts: tuple[Start, ...]


class Verbs:
    """The verbs of one daemon."""

    def __init__(self, party: Party, daemon: Daemon, book: LogBook) -> None:
        self._party = party
        self._daemon = daemon
        self._book = book
        self._times = StageTimes()

    def table(self) -> dict[str, Verb]:
        """Verb names and what answers them."""
        return {
            "submit": self.submit,
            "check": self.check,
            "jobs": self.jobs,
            "job": self.job,
            "cancel": self.cancel,
            "purge": self.purge,
            "logs": self.logs,
            "parked": self.parked,
            "status": self.status,
            **ScoringVerbs(self._party, self._daemon).table(),
            **ConsentVerbs(self._party, self._daemon).table(),
            **PolicyVerbs(self._party, self._daemon).table(),
        }

    async def _prepare(self, request: dict[str, Any]) -> Prepared:
        try:
            job = job_from(request.get("job"), text_of(request, "where", "job"))
            partners = [name for name, _ in job.providers]
            for name in partners:
                if name not in self._party.peers:
                    raise ConfigError(
                        f"key partner: {name!r} is no peer of {self._party.file.name}; add its public identity "
                        "with `warren peer add FILE`"
                    )
            table = await asyncio.to_thread(business_table, self._party, job, request.get("table"))
            salt = secrets.token_bytes(32)
            contract = await asyncio.to_thread(
                make_contract,
                job,
                table,
                self._party.identity.public,
                *(self._party.peers[name] for name in partners),
                salt=salt,
                first_gradient=first_gradient_of(self._party.data_directory, job.warm_start),
            )
            starts = starts_of(
                self._party.data_directory, contract, BUSINESS, table.prepared_columns, tuple(table.classes)
            )
        except (ConfigError, TableError, ContractError, WarmStartRefused) as error:
            raise ControlError("bad_input", str(error)) from None
        return Prepared(encode_contract(contract), table, partners, salt, job, starts)

    async def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read and snapshot the data set, make the contract, start the job."""
        contract, table, partners, salt, _, starts = await self._prepare(request)
        name = job_id(contract)
        snapshot = await asyncio.to_thread(pack_snapshot, table, starts)
        facts = msgspec.msgpack.encode({"salt": salt})
        await self._daemon.submit(
            name, partners[0], contract=contract, blobs=((snapshot, len(table.identifiers)),), facts=facts
        )
        return {"job": name}

    async def check(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the partners whether they are there and would accept; estimate what the job costs with the first."""
        contract, table, partners, _, job, _ = await self._prepare(request)
        timeout_s = number_of(request, "timeout_s", PROBE_TIMEOUT_S, least=0, most=PROBE_TIMEOUT_MAX_S)
        answers = await asyncio.gather(*(self._probe(name, contract, timeout_s) for name in partners))
        answer, rows, columns = answers[0], len(table.identifiers), len(table.prepared_columns)
        return {
            "partner": msgspec.to_builtins(answer),
            "partners": {name: msgspec.to_builtins(found) for name, found in zip(partners, answers, strict=True)},
            "own": {
                "software_version": __version__,
                "rows": rows,
                "columns": columns,
            },
            "estimate": estimate(job, rows, columns, answer.rows, answer.columns, len(table.classes)),
        }

    async def _probe(self, partner: str, contract: bytes, timeout_s: float) -> unsequenced.PeerAnswer:
        try:
            return await self._daemon.probe(partner, unsequenced.PeerProbe(contract=contract), timeout_s=timeout_s)
        except TimeoutError:
            state = self._daemon.transport_state
            raise ControlError(
                "unreachable",
                f"{partner} does not answer ({'its daemon is not running' if state.up else state.detail})",
            ) from None
        except PartnerUnknown as error:
            raise ControlError("bad_input", str(error)) from None

    async def jobs(self, request: dict[str, Any]) -> list[dict[str, object]]:
        """All jobs of this party."""
        del request
        waits, now = msgspec.to_builtins(await self._daemon.waits()), time.time()
        found = await self._daemon.jobs()
        return [{**view_of(view), "waiting": waits.get(view.job), "now": now} for view in found]

    async def job(self, request: dict[str, Any]) -> dict[str, Any]:
        """One job: where it stands, counters, stage times, where its results are."""
        try:
            view = await self._daemon.job(job_of(request))
        except JobUnknown as error:
            raise ControlError("unknown_job", f"{error}; `warren jobs` lists them") from None
        results = self._party.data_directory / "results" / view.job
        state = self._daemon.transport_state
        waits = msgspec.to_builtins(await self._daemon.waits(view.job))
        return {
            **view_of(view),
            "waiting": waits.get(view.job),
            "contract": await self._daemon.journal.read(lambda connection: words_of(connection, view.job)),
            "statistics": await self._daemon.statistics(view.job),
            "seconds": await self._daemon.journal.read(lambda connection: self._times.read(connection, view.job)),
            "results": str(results) if results.exists() else "",
            "transport": {"up": state.up, "detail": state.detail},
            "disk": self._disk(),
            "now": time.time(),
        }

    async def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        """End a job."""
        job = job_of(request)
        try:
            await self._daemon.cancel(job, text_of(request, "reason", "") or "no reason given")
        except JobUnknown as error:
            raise ControlError("unknown_job", f"{error}; `warren jobs` lists them") from None
        except JobOver as error:
            raise ControlError("job_over", f"{error}; nothing was cancelled") from None
        waits = await self._daemon.waits(job)
        told = waits.get(job)
        return {"job": job, "waiting": msgspec.to_builtins(told) if told else None}

    async def purge(self, request: dict[str, Any]) -> dict[str, Any]:
        """Erase what is kept of a job that has ended."""
        try:
            done = with_results(self._party, await self._daemon.purge(job_of(request)))
        except AuditError as error:
            raise ControlError("bad_input", str(error)) from None
        await asyncio.to_thread(forget_pages, self._party)
        return dataclasses.asdict(done)

    async def logs(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The newest log lines of a job."""
        job = job_of(request)
        lines = self._book.lines(job)
        if not lines:
            try:
                await self._daemon.job(job)
            except JobUnknown as error:
                raise ControlError("unknown_job", f"{error}; `warren jobs` lists them") from None
        return lines

    async def parked(self, request: dict[str, Any]) -> dict[str, Any]:
        """The newest parked deliveries, and how many there are of each code."""
        limit = int(number_of(request, "limit", 50, least=0, most=PARKED_SHOWN_MAX))
        rows = await self._daemon.parked(limit)
        return {"rows": msgspec.to_builtins(rows), "codes": await self._daemon.parked_codes()}

    async def status(self, request: dict[str, Any]) -> dict[str, Any]:
        """CPU seconds, event-loop lag, memory, transport, disk, what the journal cost."""
        del request
        state = self._daemon.transport_state
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "own_cpu_seconds": usage.ru_utime + usage.ru_stime,
            "cpu_seconds": cpu_seconds(self._daemon),
            "lag_worst_s": self._daemon.lag.worst,
            "peak_bytes": sum(map(peak_bytes, (os.getpid(), *self._daemon.worker_processes))),
            "workers": list(self._daemon.worker_processes),
            "transport": {"up": state.up, "detail": state.detail},
            "journal": await self._daemon.cost(),
            "disk": self._disk(),
        }

    def _disk(self) -> dict[str, Any]:
        trouble = self._daemon.disk.trouble
        if not trouble:
            return {"ok": True, "detail": ""}
        directory = self._party.data_directory
        advice = f"make room in {directory}: nothing is lost, and the daemon goes on by itself"
        return {"ok": False, "detail": f"cannot write ({trouble}); {advice}"}


def read_results(directory: Path) -> tuple[bytes, bytes]:
    """(parameters.json, history.json) of a results directory."""
    return (directory / "parameters.json").read_bytes(), (directory / "history.json").read_bytes()
