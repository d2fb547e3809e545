"""`warren serve`: one party's daemon with its control socket, built from party.toml."""

import asyncio
import functools
import os
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from broker.schemes import transport_at
from broker.transport import Transport
from messages import unsequenced
from paillier import choice
from protocol.closing import result_names
from protocol.contract import ContractError, read_contract
from protocol.machines import ROLES, ROLES_BY_VERSION, answering_role
from protocol.policy import read_policy
from protocol.scoring_contract import decode_any, read_any
from protocol.state import SCORING_BUSINESS
from services import __version__
from services.daemon.daemon import Daemon, DaemonConfig
from services.daemon.keeping import version_of
from services.engine.jobs import JobView
from services.engine.surroundings import Surroundings
from services.models.store import ModelStore
from services.models.version import ModelDamaged
from services.party.back_ends import back_ends
from services.party.configuration import Party
from services.store.retention import DIGESTS, Terms, contract_of
from services.store.segments import BlobError
from services.tasks.admit import probe

log = structlog.get_logger("serve")

MODEL_RESULTS = 2
"""Results that every trained model has: its parameters and history."""
RESULTS_OF = {SCORING_BUSINESS: ("scores.csv", "unmatched.csv")}
"""The result files of jobs that train no model."""
RESULTS_RETRY_S = 2.0


def expiry_of(contract: bytes) -> float:
    """When a contract expires, seconds since 1970; 0 for bytes that are no contract (the machine refuses them)."""
    try:
        return float(decode_any(contract).expires_at)
    except ContractError:
        return 0.0


def parties_of(contract: bytes) -> tuple[str, ...]:
    """All parties of a contract, the business first; none for bytes that are no contract."""
    try:
        return read_any(contract).parties
    except ContractError:
        return ()


def terms_of(party: Party, contract: bytes, policy: Mapping[str, Any] | None = None) -> Terms:
    """What a contract says of retention and rules; the newest rules refuse what is none, or is of unknown rules.

    A partner that proposes `full` to a party whose policy does not allow it is declined, and must not make that
    party keep anything.
    """
    try:
        found = read_any(contract)
    except ContractError:
        return Terms()
    mine = party.file.name not in found.parties[1:] or found.retention in (
        read_policy(dict(party.policy if policy is None else policy)).of(found.business).retention
    )
    return Terms(
        retention=found.retention if mine else DIGESTS,
        logic_version=found.logic_version if found.logic_version in ROLES_BY_VERSION else 0,
    )


def make_daemon(
    party: Party,
    transport: Transport | None = None,
    *,
    accept_restored: bool = False,
    surroundings: Surroundings | None = None,
) -> Daemon:
    """The daemon of a party; without `transport`, over the broker that its file names. See DaemonConfig.

    Raises kernel.library.KernelError when the environment asks for a kernel that cannot be had.
    """
    for part in back_ends():
        log.info("back end", work=part.work, name=part.name, why=part.why)
    if transport is None:
        transport = transport_at(party.broker_url, party.file.name, list(party.peers), declare=party.file.declare)

    async def answer(partner: str, message: unsequenced.PeerProbe) -> unsequenced.PeerAnswer:
        ask = functools.partial(
            probe,
            message.contract,
            partner,
            dict(daemon.settings),
            me=party.file.name,
            version=__version__,
            backend=choice.select().name,
            data=party.data_directory,
        )
        answered = await asyncio.to_thread(ask)
        code, reason = await daemon.consent.against(partner, message.contract) if answered.acceptable else ("", "")
        if not code:
            return answered
        return msgspec.structs.replace(answered, acceptable=False, reason_code=code, reason=reason[:2000])

    config = DaemonConfig(
        identity=party.identity,
        peers=party.peers,
        data_directory=party.data_directory,
        roles=ROLES,
        workers=party.file.workers,
        settings=party.settings,
        journal_url=party.file.journal,
        expiry_of=expiry_of,
        terms_of=lambda contract: terms_of(party, contract, daemon.settings["policy"]),
        parties_of=parties_of,
        earlier_roles=ROLES_BY_VERSION,
        answering_role=answering_role,
        answer_probe=answer,
        accept_restored=accept_restored,
        surroundings=surroundings or Surroundings(),
    )
    daemon = Daemon(config, transport)
    return daemon


async def keep_results(party: Party, daemon: Daemon) -> None:
    """Keep the model of every job that is done, and write its results to `<data directory>/results/<job>/`.

    Until cancelled; what cannot be written is tried again for as long as the daemon runs.
    """
    ended: asyncio.Queue[str] = asyncio.Queue()
    daemon.on_end = ended.put_nowait
    await daemon.started()
    waiting = await daemon.done()
    while True:
        waiting = [job for job in waiting if not await _keep_results_of(party, daemon, job)]
        with suppress(TimeoutError):
            async with asyncio.timeout(RESULTS_RETRY_S if waiting else None):
                waiting.append(await ended.get())


async def _keep_results_of(party: Party, daemon: Daemon, job: str) -> bool:
    """Model and results of one job. False: something could not be written yet."""
    directory, models = party.data_directory / "results" / job, ModelStore(party.data_directory)
    view = await daemon.job(job)
    if view.outcome != "done" or not view.results:
        return True
    try:
        if view.role not in RESULTS_OF and not models.has(job):
            try:
                await _keep_model(party, daemon, view, models)
            except ModelDamaged as error:
                # Parameters in a form that no model version has: the results are written all the same.
                log.error("no model kept", job=job, cause=str(error))
        if not directory.exists():
            await _write_results(daemon, view, directory)
    except (OSError, BlobError) as error:
        _note_unwritten(daemon, job, error)
        return False
    return True


def _note_unwritten(daemon: Daemon, job: str, error: OSError | BlobError) -> None:
    cause = str(error)
    if isinstance(error, OSError):
        cause = error.strerror or type(error).__name__
        daemon.disk.failed(cause)
    log.error("results not written yet", job=job, cause=cause)


async def _names(daemon: Daemon, view: JobView) -> tuple[str, ...]:
    """The files that a job's results go to, in their order."""
    if view.role in RESULTS_OF:
        return RESULTS_OF[view.role]
    noted = await daemon.journal.read(lambda connection: contract_of(connection, view.job))
    assert noted is not None
    return result_names(read_contract(noted[0]), view.role)


async def _keep_model(party: Party, daemon: Daemon, view: JobView, models: ModelStore) -> None:
    parameters, history = [await daemon.result(view.job, ref) for ref in view.results[:MODEL_RESULTS]]
    files = dict(zip(await _names(daemon, view), view.results, strict=True))
    figures = await daemon.result(view.job, files["metrics.json"]) if "metrics.json" in files else b""
    version = await daemon.journal.read(
        lambda connection: version_of(
            connection, party.file.name, view.job, parameters, history, time.time(), figures=figures
        )
    )
    if version is not None and await asyncio.to_thread(models.add, version):
        log.info("model kept", job=view.job)


async def _write_results(daemon: Daemon, view: JobView, directory: Path) -> None:
    fresh = directory.with_name(f".{directory.name}.new")
    fresh.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, ref in zip(await _names(daemon, view), view.results, strict=True):
        path = fresh / name
        path.touch(mode=0o600)
        data = await daemon.result(view.job, ref)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    fresh.rename(directory)
    log.info("results written", job=view.job)


def cpu_seconds(daemon: Daemon) -> float:
    """CPU seconds of this process and its workers so far. Workers are read from /proc, where there is one."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    total = usage.ru_utime + usage.ru_stime
    tick = 100.0
    for pid in daemon.worker_processes:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            fields = stat.read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


def peak_bytes(pid: int) -> int:
    """Most memory that a process had resident so far; 0 where there is no /proc to read it from."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(peaks[0]) if peaks else 0


def view_of(view: JobView) -> dict[str, object]:
    """A job as plain values, for the console."""
    plain: dict[str, object] = msgspec.to_builtins(view)
    plain.pop("results", None)
    return plain
