"""Contracts: `decode_contract`, and what a policy says of those that are read."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from messages.keys import check_name
from protocol.contract import ContractError, FurtherProvider, contract_digest, encode_contract, job_id, parties_of
from protocol.contract_rules import decode_contract
from protocol.policy import Policy, decide
from services.daemon.serve import expiry_of
from tests.fuzz.oracle import bounded_memory, check_text
from tests.fuzz.samples import contract
from tests.fuzz.values import mutate_packed

MODULES: Final = ("protocol/contract.py", "protocol/contract_rules.py")
HELD: Final = True
INPUT_BYTES_MAX: Final = 4096

_SOURCES: Final = (
    *MODULES,
    "protocol/policy.py",
    "messages/schemas.py",
    "messages/unsequenced.py",
    "learning/links/family.py",
    "protocol/stop_rules.py",
)
POLICIES: Final = (Policy(), Policy(accept=False, tasks=(), max_iterations=1, key_bits_min=4096), Policy(psi_quota=1))


_FURTHER: Final = FurtherProvider(name="bureau", key=bytes(32), dataset="scores")


_DIVIDED: Final[dict[str, Any]] = {"parts_commitment": bytes(32)}
_STOPS: Final[dict[str, Any]] = {"stop_metric": "auc", "patience": 2, "stop_every": 1, "stop_evaluations_max": 4}
_WARM: Final[dict[str, Any]] = {"warm_start": "a-job", "first_gradient": 1.0}


def seeds() -> Iterator[bytes]:
    yield contract()
    for fields in (
        {"protocol_version": 2},
        {"leakage_version": 2},
        {"provider": "shop"},
        {"key_bits": 1024},
        {"key_bits": 1024, "marks": ("insecure",)},
        {"release_noise": 0.0},
        {"release_noise": 0.0, "marks": ("small_sample",)},
        {"business_columns": 1},
        {"business_columns": 1, "marks": ("few_columns", "reproducible")},
        {"task": "linear", "label_bound": 2.0**39},
        {"further": (_FURTHER,)},
        {"further": (_FURTHER, _FURTHER)},
        {"further": (_FURTHER,), "validation": 0.25, "parts_commitment": bytes(32)},
        {"further": (_FURTHER,), "task": "linear", "weighted": True},
        {"validation": 0.25},
        {"validation": 0.5, "test": 0.5, "parts_commitment": bytes(32)},
        {"task": "tweedie"},
        {"inference": True},
        {"inference": True, "further": (_FURTHER,)},
        {"inference": True, "business_columns": 60},
        {"inference": True, "task": "linear", "weighted": True},
        {"inference": True, "task": "tweedie", "tweedie_power": 1.0, "curvature": 1.0},
        {"inference": True, "l1": 0.5},
        {"inference": True, **_DIVIDED, "sample_set": "fraction", "batches": 2},
        {"inference": True, "task": "linear", **_WARM},
        {"warm_start": "a-job"},
        {"l1": 0.5, **_DIVIDED, "sample_set": "growing", "batches": 2},
        {**_WARM, **_DIVIDED, "sample_set": "growing", "batches": 2},
        {"further": (_FURTHER,), "solver": "block"},
        {"sample_set": "full", "batches": 2, **_DIVIDED},
        {"solver": "block", "max_iterations": 1000},
        {"evaluate": ("test", "training")},
        {"evaluate": ("validation",)},
        {"evaluate": ("training",), "further": (_FURTHER,)},
        {**_STOPS, **_DIVIDED, "validation": 0.25},
        {**_STOPS, "patience": 0},
        {**_STOPS, "stop_metric": "rmse"},
        {**_STOPS, "stop_metric": ""},
        {**_STOPS, "inference": True, **_DIVIDED, "validation": 0.25},
        _STOPS,
        {"classes": 3},
        {"classes": 3, "shifted": True},
        {"folds": 2, **_DIVIDED},
        {"folds": 2, **_DIVIDED, "penalties": (0.5, 0.25), "l2": 0.125},
        {"folds": 2, **_DIVIDED, "penalties": (0.5, 0.25), "l2": 0.25},
        {"folds": 2, **_DIVIDED, "penalties": (0.5, 0.25), "l2": 0.25, "l1": 0.5},
    ):
        yield contract(**fields)
    yield contract() + bytes(70_000)


mutate = mutate_packed


def fuzz_one(data: bytes) -> None:
    with bounded_memory():
        try:
            found = decode_contract(data)
        except ContractError as error:
            assert check_name(error.code.replace("_", "-")) and error.reason == str(error)
            check_text(str(error), modules=_SOURCES, names=[*_names(data), *_quoted(str(error))], chars_max=500)
            assert expiry_of(data) == 0.0
            assert len(parties_of(data)) in range(10)
            return
        assert encode_contract(found) == data
        assert check_name(job_id(data)).endswith(contract_digest(data).hex()[:16])
        assert expiry_of(data) == found.expires_at
        assert parties_of(data) == found.parties == (found.business, *found.providers)
        assert found.holders == (found.business, found.providers[-1])
        for policy in POLICIES:
            for provider in (*found.providers, "nobody"):
                decision = decide(found, policy, frozenset({"features"}), provider=provider)
                assert decision.acceptable == (decision.reason == "")
                check_text(decision.reason, modules=_SOURCES, names=[*_names(data), "nobody"], chars_max=500)


def _quoted(text: str) -> list[str]:
    """An unknown field's name and an unknown task or mark, which msgspec quotes."""
    return re.findall("unknown field `(.*)`", text) + re.findall("Invalid enum value '(.*)'", text)


def _names(data: bytes) -> Iterator[str]:
    """Names of fields, and the names of parties, data sets and marks that a contract gives."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = msgspec.msgpack.decode(data)
        if isinstance(value, dict):
            yield from (key for key in value if isinstance(key, str))
            named = ("business", "provider", "business_dataset", "provider_dataset", "task", "sample_set", "solver")
            yield from (value[name] for name in (*named, "retention") if isinstance(value.get(name), str))
            for entry in value.get("further") if isinstance(value.get("further"), list) else ():
                if isinstance(entry, dict):
                    yield from (text for text in (*entry, *entry.values()) if isinstance(text, str))
            yield from (str(number) for number in value.values() if isinstance(number, int))
            yield from map(str, value.get("marks") or ()) if isinstance(value.get("marks"), list) else ()
