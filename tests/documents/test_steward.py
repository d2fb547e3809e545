"""The commands of docs/consent.md, as a steward types them, beside two daemons."""

import sys

from services.cli import app
from services.cli.failures import DONE, guarded
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.party.configuration import load_party
from tests.audit.recorded import MARKS, job_of, write_tables
from tests.parties import make_parties, until


def test_a_steward_approves_declines_pauses_and_takes_back_from_the_command_line(tmp_path, monkeypatch, capsys):
    paths = make_parties(tmp_path, write_tables(tmp_path, 60, "logistic"), marks=MARKS)
    policy = paths[PROVIDER].parent / "policy.toml"
    policy.write_text(policy.read_text() + 'approval = "ask"\n')
    partner = NAMES[BUSINESS]

    def warren(*words: str) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["warren", *words, "--party", str(paths[PROVIDER])])
        assert guarded(app) == DONE, words
        return capsys.readouterr().out

    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        first, second, third = (
            business.ask("submit", job=job_of("logistic", max_iterations=1, chunk_rows_max=60))["job"] for _ in range(3)
        )
        for job in (first, second, third):
            until(lambda job=job: job in {each["job"] for each in provider.ask("pending")}, f"{job} asks")
        shown = warren("pending")
        assert all(job in shown for job in (first, second, third))
        warren("decline", second, "--reason", "not this month")
        assert wait_for(business, second)["outcome"] == "declined"
        warren("revoke", third, "--reason", "no more")
        assert wait_for(business, third)["outcome"] == "declined"
        warren("pause", "--partner", partner)
        assert partner in warren("orders")
        warren("approve", first)
        warren("resume", "--partner", partner)
        assert wait_for(business, first)["outcome"] == "done"
        warren("revoke", "--partner", partner)
        assert partner in warren("orders")
        warren("allow", "--partner", partner)
        assert partner not in warren("orders")
