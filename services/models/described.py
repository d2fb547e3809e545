"""A model version in plain values, for people and programs. No parameter is among them."""

from typing import Any

from services.models.store import Kept


def facts_of(kept: Kept) -> dict[str, Any]:
    """A model for people and programs; no parameter is among it."""
    version, terms = kept.version, kept.version.terms
    document = version.document
    return {
        "model": version.model,
        "party": version.party,
        "role": version.role,
        "business": terms.business,
        "providers": ", ".join(terms.providers),
        "task": version.task,
        "rows": version.rows,
        "columns": len(version.columns),
        "iterations": document["iterations"],
        "converged": document["converged"],
        "metrics": version.metrics,
        "status": "retired" if kept.retirement else "in use",
        "retired_at": kept.retirement.at if kept.retirement else None,
        "retired_because": kept.retirement.reason if kept.retirement else "",
        "created_at": version.created_at,
        "contract_digest": version.contract_digest.hex(),
        "data_digest": version.data_digest.hex(),
        "schema_digest": version.schema_digest.hex(),
        "software_version": version.software_version,
        "logic_version": version.logic_version,
        "journal": {"first": 1, "last": version.length, "head": version.head.hex()},
    }
