"""The console's verbs behind `warren predict`."""

import asyncio
from typing import Any

from protocol.contract import job_id
from protocol.state import SCORING_BUSINESS
from services.console_arguments import number_of, text_of
from services.control import ConsoleError, Verb
from services.daemon import Daemon
from services.job_file import EXPIRES_IN_HOURS_MAX
from services.models.store import ModelRetired, ModelUnknown
from services.models.version import ModelDamaged
from services.party import ConfigError, Party
from services.scoring_job import Asked, prepare
from services.tables import TableError


class ScoringVerbs:
    """The verbs of one daemon that score."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._party = party
        self._daemon = daemon

    def table(self) -> dict[str, Verb]:
        """Verb names and what answers them."""
        return {"predict": self.predict}

    async def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a scoring job: of all rows of a file, or one that answers lookups."""
        mode = text_of(request, "mode", "batch")
        if mode not in ("batch", "lookup"):
            raise ConsoleError("bad_request", "argument mode: batch or lookup")
        asked = Asked(
            model=text_of(request, "model"),
            source=text_of(request, "business", ""),
            mode="lookup" if mode == "lookup" else "batch",
            purpose=text_of(request, "purpose", ""),
            provider_dataset=text_of(request, "provider_dataset", ""),
            retention="full" if text_of(request, "retention", "digests") == "full" else "digests",
            expires_in_hours=number_of(request, "expires_in_hours", 0.0, least=0.0, most=EXPIRES_IN_HOURS_MAX),
        )
        try:
            prepared = await asyncio.to_thread(prepare, self._party, asked)
        except (ConfigError, TableError, ModelUnknown, ModelRetired, ModelDamaged) as error:
            raise ConsoleError("bad_input", str(error)) from None
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
