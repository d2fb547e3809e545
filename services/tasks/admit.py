"""The provider's first task: does the policy accept the contract, and is the data set fit for it?"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learning import parts
from messages import unsequenced
from protocol.contract import INFERENCE_COLUMNS_MAX, ContractError, JobContract
from protocol.contract_rules import decode_contract
from protocol.policy import Decision, asks, decide, read_policy
from protocol.scoring_contract import AnyContract
from protocol.state import PROVIDER
from protocol.stop_rules import columns_wrong
from services.models.warming import WarmStartRefused, starts_of
from services.store.ledger import DAY_S, DivisionsSpent, Ledger, PointsSpent
from services.tables.queries import source_of
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table, TableError, data_digest, read_table, schema_digest
from services.tasks.compute import TaskContext, TaskResult


def _decline(decision: Decision, own_reason: str = "") -> TaskResult:
    """`own_reason`: what stays here instead of the partner's text."""
    output = {"reason_code": decision.reason_code, "reason": decision.reason}
    return TaskResult({**output, "own_reason": own_reason} if own_reason else output, ())


def judge(contract_bytes: bytes, partner: str, settings: Mapping[str, Any], *, me: str) -> Decision:
    """What the policy in `settings` of the provider `me` says of a contract that `partner` proposes."""
    try:
        contract = decode_contract(contract_bytes)
    except ContractError as error:
        return Decision(reason_code=error.code, reason=error.reason)
    policy = read_policy(settings["policy"]).of(partner)
    return decide(contract, policy, frozenset(settings["datasets"]), provider=me)


def table_of(name: str, dataset: Mapping[str, Any]) -> Table:
    """The table of a provider's data set as the settings have it. Raises TableError."""
    return read_table(
        source_of(name, dataset),
        identifier=dataset["id"],
        columns=dataset.get("columns") or None,
        steps=dataset.get("steps"),
    )


def admit(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """Judge the contract; read and snapshot the data set it names. Blob: the snapshot."""
    del inputs
    contract_bytes = arguments["contract"]
    decision = judge(contract_bytes, context.partner.name, context.settings, me=context.party)
    if not decision.acceptable:
        return _decline(decision)
    contract = decode_contract(contract_bytes)
    decision = points_left(contract, context.partner.name, context.settings, context.data_directory, job=context.job)
    if not decision.acceptable:
        return _decline(decision)
    own = contract.entry_of(context.party)
    fingerprints = (context.partner.digest(), context.identity.public.digest())
    strangers = strangers_of(context, contract)
    if (contract.business_key, own.key) != fingerprints or strangers:
        return _decline(
            Decision(
                reason_code="keys_differ",
                reason="the contract names other identity keys than the ones exchanged: compare fingerprints",
            ),
            own_reason=strangers,
        )
    dataset = context.settings["datasets"][own.dataset]
    try:
        table = table_of(own.dataset, dataset)
    except TableError as error:
        # The text names this party's files and columns: they stay here, the partner gets the code.
        context.log.warning("data set refused", dataset=own.dataset, reason=str(error))
        return _decline(
            Decision(
                reason_code="dataset_unfit",
                reason=f"the data set {own.dataset} cannot be used ({error.code}); its owner's job says where",
            ),
            own_reason=f"data set {own.dataset}: {error}",
        )
    columns = len(table.prepared_columns)
    most = min(contract.columns_max, INFERENCE_COLUMNS_MAX) if contract.inference else contract.columns_max
    if columns > most or (columns < 3 and "few_columns" not in contract.marks):
        return _decline(
            Decision(reason_code="columns", reason=f"the data set has {columns} columns, the contract forbids that")
        )
    if reason := columns_wrong(contract, columns):
        return _decline(Decision(reason_code="stopping_refused", reason=reason))
    try:
        starts = starts_of(context.data_directory, contract, PROVIDER, table.prepared_columns)
    except WarmStartRefused as error:
        said = Decision(reason_code="warm_start", reason=f"the model to start from does not fit at {context.party}")
        return _decline(said, own_reason=str(error))
    try:
        note_division(context, contract)
    except DivisionsSpent as error:
        return _decline(Decision(reason_code="divisions_spent", reason=str(error)))
    return TaskResult(
        {
            "reason_code": "",
            "reason": "",
            "rows": len(table.identifiers),
            "columns": columns,
            # Salted with the job secret: an unsalted digest lets the partner try out column names.
            "data_digest": data_digest(table, salt=context.job_secret),
            "schema_digest": schema_digest(table, salt=context.job_secret),
            **({"parts_seed": parts.own_seed(context.job_secret)} if contract.layout.divides else {}),
            **asked(contract, context.settings, context.partner.name),
        },
        ((pack_snapshot(table, starts), len(table.identifiers)),),
    )


def points_left(
    contract: AnyContract, partner: str, settings: Mapping[str, Any], data: Path, *, job: str = ""
) -> Decision:
    """Whether what the partner's former lists left of the policy's psi_quota is enough for this one.

    Counted is a list when its first chunk is answered (`services.tasks.align.grant_points`).
    """
    policy = read_policy(dict(settings["policy"])).of(partner)
    period_s = policy.period_days * DAY_S
    try:
        Ledger(data, partner).check_points(
            job, contract.business_rows, quota=policy.psi_quota, period_s=period_s, now=time.time()
        )
    except PointsSpent as error:
        return Decision(reason_code="psi_quota", reason=str(error))
    return Decision()


def note_division(context: TaskContext, contract: JobContract) -> None:
    """Before a seed of a division is shown, note that it is. Raises DivisionsSpent."""
    if not contract.layout.divides:
        return
    policy = read_policy(dict(context.settings["policy"])).of(context.partner.name)
    ledger = Ledger(context.data_directory, context.partner.name)
    ledger.note_division(context.job, period_s=policy.period_days * DAY_S, now=time.time())


def asked(contract: AnyContract, settings: Mapping[str, Any], partner: str) -> dict[str, list[str]]:
    """What the steward is asked about, for the output of a task that admits; nothing where nobody is asked."""
    found = asks(contract, read_policy(dict(settings["policy"])).of(partner))
    return {"asks": list(found)} if found else {}


def strangers_of(context: TaskContext, contract: AnyContract) -> str:
    """What is wrong with the other providers of a contract; empty where this party has exchanged keys with all."""
    for entry in contract.chain:
        known = context.peers.get(entry.name)
        if entry.name != context.party and (known is None or known.digest() != entry.key):
            return (
                f"the contract's provider {entry.name} is unknown here, or has other keys: exchange identities with it "
                "(warren peer add) before taking part in a job with it"
            )
    return ""


def probe(
    contract_bytes: bytes, partner: str, settings: Mapping[str, Any], *, me: str, version: str, backend: str, data: Path
) -> unsequenced.PeerAnswer:
    """The answer to `peer.probe`: would this contract be accepted, and how much would there be to do?"""
    decision = judge(contract_bytes, partner, settings, me=me)
    rows = columns = 0
    if decision.acceptable:
        contract = decode_contract(contract_bytes)
        decision = points_left(contract, partner, settings, data)
    if decision.acceptable:
        name = contract.entry_of(me).dataset
        dataset = settings["datasets"][name]
        try:
            table = table_of(name, dataset)
            rows, columns = len(table.identifiers), len(table.prepared_columns)
            if found := asked(contract, settings, partner).get("asks"):
                decision = Decision(reason=f"{me} asks its steward: {'; '.join(found)}"[:2000])
        except TableError as error:
            decision = Decision(reason_code="dataset_unfit", reason=f"data set {name}: {error.code}")
    return unsequenced.PeerAnswer(
        software_version=version,
        protocol_version=1,
        logic_version=1,
        backend=backend,
        acceptable=decision.acceptable,
        reason_code=decision.reason_code or "ok",
        reason=decision.reason,
        rows=rows,
        columns=columns,
        free_bytes=shutil.disk_usage(data).free,
    )
