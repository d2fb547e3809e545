"""Scoring contracts: `decode_scoring` and `decode_any`, and what policies, plain words and the machine say of them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgpack
import msgspec

from messages.keys import check_name
from protocol.contract import ContractError, FurtherProvider, contract_digest, job_id, parties_of
from protocol.machines import answering_role
from protocol.plain import plain_contract
from protocol.policy import Policy, asks, decide_scoring
from protocol.scoring_contract import (
    SCORE_CHUNK_ROWS,
    ScoringContract,
    agreement_of,
    decode_any,
    decode_scoring,
    encode_scoring,
    kind_of_contract,
    read_any,
)
from protocol.state import SCORING_PROVIDER
from services.daemon.serve import expiry_of
from tests.fuzz.identities import ME, PARTNER, identity
from tests.fuzz.oracle import bounded_memory, check_text
from tests.fuzz.samples import contract
from tests.fuzz.values import mutate_packed

MODULES: Final = ("protocol/scoring_contract.py",)
HELD: Final = True
INPUT_BYTES_MAX: Final = 4096

_SOURCES: Final = (*MODULES, "protocol/contract.py", "protocol/contract_rules.py", "protocol/policy.py")
_FURTHER: Final = FurtherProvider(name="bureau", key=bytes(32), dataset="scores")
_POLICIES: Final = (
    Policy(),
    Policy(score_quota=10, approval="ask", ask_for=("scoring", "fellows", "retention")),
    Policy(score_quota=10, fellows=(), retention=("digests", "full")),
    Policy(accept=False, psi_quota=1, automatic_rows_max=1, automatic_scores_max=1),
)


def scoring(**fields: Any) -> bytes:
    """A scoring contract that both may sign."""
    return encode_scoring(
        ScoringContract(
            **{
                "protocol_version": 1,
                "logic_version": 1,
                "leakage_version": 1,
                "nonce": bytes(8),
                "business": PARTNER,
                "provider": ME,
                "business_key": identity(PARTNER).public.digest(),
                "provider_key": identity(ME).public.digest(),
                "provider_dataset": "features",
                "model": "a-job",
                "model_digest": bytes(32),
                "data_digest": bytes(range(32)),
                "business_rows": 100,
                "score_quota": 100,
                "psi_quota": 1000,
                "expires_at": 2**40,
                **fields,
            }
        )
    )


def seeds() -> Iterator[bytes]:
    yield scoring()
    yield contract()
    for fields in (
        {"protocol_version": 2},
        {"leakage_version": 2},
        {"provider": PARTNER},
        {"further": (_FURTHER,), "purpose": "to see who pays\n\x1b[2J"},
        {"further": (_FURTHER, _FURTHER)},
        {"mode": "lookup"},
        {"mode": "lookup", "expires_at": 0},
        {"mode": "lookup", "classes": 3},
        {"classes": 2},
        {"classes": 3, "chunk_rows_max": SCORE_CHUNK_ROWS // 3},
        {"classes": 3, "chunk_rows_max": SCORE_CHUNK_ROWS},
        {"retention": "full", "expires_at": 0},
    ):
        yield scoring(**fields)
    yield scoring() + bytes(70_000)
    yield msgpack.packb({"kind": "score"})
    yield msgpack.packb({"kind": "other"})
    yield b"\x91" * 4_000


mutate = mutate_packed


def fuzz_one(data: bytes) -> None:
    with bounded_memory():
        try:
            found = decode_scoring(data)
        except ContractError as error:
            assert check_name(error.code.replace("_", "-"))
            assert error.reason == str(error)
            check_text(str(error), modules=_SOURCES, names=[*_texts(data), *_quoted(str(error))], chars_max=500)
            _of_any_kind(data)
            return
        assert encode_scoring(found) == data
        assert kind_of_contract(data) == "score"
        assert read_any(data) == decode_any(data) == found
        assert answering_role(data) == SCORING_PROVIDER
        assert check_name(job_id(data)).endswith(contract_digest(data).hex()[:16])
        assert expiry_of(data) == found.expires_at
        # What reads training contracts alone takes it for none of them.
        assert parties_of(data) == ()
        assert found.parties == (found.business, *found.providers)
        assert len(agreement_of(data, bytes(32), found.business_rows)) == 32
        assert any(found.purpose in sentence for sentence in plain_contract(data))
        for policy in _POLICIES:
            assert all(reason for reason in asks(found, policy))
            for provider in (*found.providers, "nobody"):
                decision = decide_scoring(found, policy, frozenset({"features"}), provider=provider)
                assert decision.acceptable == (decision.reason == "")
                check_text(decision.reason, modules=_SOURCES, names=[*_texts(data), "nobody"], chars_max=700)


def _of_any_kind(data: bytes) -> None:
    """What is no scoring contract is a training contract or none, and whoever asks gets an answer."""
    kind = kind_of_contract(data)
    with suppress(ContractError):
        assert not isinstance(decode_any(data), ScoringContract), kind
    assert plain_contract(data)
    assert answering_role(data)
    assert expiry_of(data) >= 0.0


def _quoted(text: str) -> list[str]:
    """An unknown field's name and an unknown kind or mode, which msgspec quotes."""
    return re.findall("unknown field `(.*)`", text) + re.findall("Invalid (?:enum )?value '(.*)'", text)


def _texts(data: bytes) -> Iterator[str]:
    """Names of fields, and all names and numbers that a contract gives."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = msgspec.msgpack.decode(data)
        if isinstance(value, dict):
            yield from (key for key in value if isinstance(key, str))
            yield from (str(one) for key, one in value.items() if isinstance(one, str | int) and key != "purpose")
            for entry in value.get("further") if isinstance(value.get("further"), list) else ():
                if isinstance(entry, dict):
                    yield from (text for text in (*entry, *entry.values()) if isinstance(text, str))
