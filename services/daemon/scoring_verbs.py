"""The control socket's verbs behind `warren predict`."""

import asyncio
from typing import Any, Final

from protocol.contract import job_id
from protocol.state import SCORING_BUSINESS
from services.daemon.arguments import number_of, text_of
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon
from services.daemon.job_file import EXPIRES_IN_HOURS_MAX
from services.daemon.lookups import LookupRefused
from services.daemon.scoring_job import Asked, prepare
from services.models.store import ModelRetired, ModelUnknown
from services.models.version import ModelDamaged, SeveralClasses
from services.party.configuration import ConfigError, Party
from services.tables.table import TableError

LOOKUP_TIMEOUT_S: Final = 5.0
LOOKUP_TIMEOUT_MAX_S: Final = 600.0


class ScoringVerbs:
    """The verbs of one daemon that score."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._party = party
        self._daemon = daemon

    def table(self) -> dict[str, Verb]:
        """Verb names and what answers them."""
        return {"predict": self.predict, "lookup": self.lookup}

    async def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a scoring job: of all rows of a file, or one that answers lookups."""
        mode = text_of(request, "mode", "batch")
        if mode not in ("batch", "lookup"):
            raise ControlError("bad_request", "argument mode: batch or lookup")
        asked = Asked(
            model=text_of(request, "model"),
            source=text_of(request, "business", ""),
            identifier=text_of(request, "identifier", ""),
            mode="lookup" if mode == "lookup" else "batch",
            purpose=text_of(request, "purpose", ""),
            provider_dataset=text_of(request, "provider_dataset", ""),
            retention="full" if text_of(request, "retention", "digests") == "full" else "digests",
            expires_in_hours=number_of(request, "expires_in_hours", 0.0, least=0.0, most=EXPIRES_IN_HOURS_MAX),
        )
        try:
            prepared = await asyncio.to_thread(prepare, self._party, asked)
        except (ConfigError, TableError, ModelUnknown, ModelRetired, ModelDamaged, SeveralClasses) as error:
            raise ControlError("bad_input", str(error)) from None
        job = job_id(prepared.contract)
        await self._daemon.submit(
            job,
            prepared.partner,
            contract=prepared.contract,
            blobs=prepared.blobs,
            facts=prepared.facts,
            role=SCORING_BUSINESS,
        )
        return {"job": job}

    async def lookup(self, request: dict[str, Any]) -> dict[str, Any]:
        """The score of one row by its identifier, from a job that answers lookups."""
        timeout_s = number_of(request, "timeout_s", LOOKUP_TIMEOUT_S, least=0.0, most=LOOKUP_TIMEOUT_MAX_S)
        try:
            found = await self._daemon.lookups.score(text_of(request, "model"), text_of(request, "id"), timeout_s)
        except LookupRefused as error:
            raise ControlError(error.code, str(error)) from None
        except TimeoutError:
            state = self._daemon.transport_state
            why = "its daemon does not answer" if state.up else state.detail
            raise ControlError("unreachable", f"no answer within {timeout_s:g} s: {why}") from None
        return found.to_object()
