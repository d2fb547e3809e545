"""What a contract says, for people: in sentences, and field by field."""

from typing import Any

import msgspec

from protocol.contract import defaults_of
from protocol.plain import sentences
from protocol.scoring_contract import AnyContract, ScoringContract


def terms_of(contract: AnyContract) -> dict[str, Any]:
    """A contract in sentences, and all its fields as they stand."""
    fields = {
        name: value.hex() if isinstance(value := getattr(contract, name), bytes) else _plain(value)
        for name in defaults_of(type(contract))
    }
    return {
        "sentences": list(sentences(contract)),
        "fields": fields,
    }


def title_of(contract: AnyContract) -> str:
    """What kind of job it is, in a few words."""
    if isinstance(contract, ScoringContract):
        return "Scoring" if contract.mode == "batch" else "Lookups"
    return f"{contract.task.capitalize()} model{f' of {contract.classes} classes' if contract.classes else ''}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return {name: _plain(one) for name, one in msgspec.structs.asdict(value).items()}
    return value.hex() if isinstance(value, bytes) else value
