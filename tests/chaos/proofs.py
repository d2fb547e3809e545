"""Whether a model is what its journals give: for jobs that no other run ends like, because rows are drawn for them."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from services.audit.executing import execute
from services.audit.export_file import AUDITOR, PARTNER
from services.audit.exporting import export, reading
from services.audit.reconciling import reconcile
from services.party.configuration import Party


def contradictions(parties: Mapping[str, Party], job: str) -> list[str]:
    """What is wrong with a job of which everything is kept.

    Every task of every party is run again, and must give the bytes that the job went on with, whatever died
    meanwhile; what each has sent is compared with what each has received.
    """
    found, files = [], []
    with TemporaryDirectory() as name:
        for role, party in parties.items():
            whole, files = Path(name) / f"{role}.{AUDITOR}", [*files, Path(name) / f"{role}.{PARTNER}"]
            with reading(party) as connection:
                export(connection, party, job, AUDITOR, whole)
                export(connection, party, job, PARTNER, files[-1])
                again = execute(whole, party, connection, lambda *_: None)
            found += [f"{role}: {what}" for what in (*again.differences, again.replay.difference, *again.notes) if what]
        together = reconcile(*files)
        found += [*map(str, together.findings), *map(str, together.missing)]
        return found if together.holds else [*found, "the exports do not agree"]
