"""A job is run by the rules that its contract names, also after an upgrade that brought new ones."""

import pytest
from sqlalchemy import update

from protocol.contract import LOGIC_VERSION, LOGIC_VERSIONS
from protocol.machines import ROLES, ROLES_BY_VERSION, LogicUnknown, role_of
from services.engine import jobs
from services.engine.timings import StageTimes
from services.store.journal_schema import jobs as jobs_table
from services.store.retention import Terms
from tests.services import house, toy

JOB = "job-1"


class Newer(toy.Toy):
    """Rules after the toy's, which would not take any of its events."""

    logic_version = 2

    def step(self, state, event):
        raise AssertionError("a job of version 1 met the rules of version 2")


NEWER = {"business": Newer("business"), "provider": Newer("provider")}


def test_every_known_version_has_its_machines():
    assert set(ROLES_BY_VERSION) == LOGIC_VERSIONS
    assert ROLES_BY_VERSION[LOGIC_VERSION] is ROLES
    for version, roles in ROLES_BY_VERSION.items():
        for name in roles:
            assert role_of(version, name) is roles[name]


def test_an_unknown_version_is_named_with_what_there_is():
    with pytest.raises(LogicUnknown, match=r"logic version 99 is not known: this software has 1"):
        role_of(99, "business")
    with pytest.raises(LogicUnknown, match="there is no role 'broker'"):
        role_of(LOGIC_VERSION, "broker")


def test_a_contract_of_the_former_version_runs_by_the_former_rules(town):
    async def story():
        place = town(roles=NEWER, earlier_roles={1: toy.ROLES}, terms_of=lambda _: Terms(logic_version=1))
        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=2))
            assert (await shop.wait(JOB)).outcome == "done"
            assert (await house.ended(bank, JOB)).outcome == "done"
            for daemon in (shop, bank):
                record = await daemon.journal.read(lambda c: jobs.load(c, JOB))
                assert (record.logic_version, record.state_tag) == (1, f"{jobs.STATE_SCHEMA}.1")

    house.run(story)


def test_a_job_whose_rules_are_gone_fails_at_both_parties_with_the_reason(town):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="wait", chunks=2))
            await house.applied(bank, 1)
            await bank.journal.write(lambda c: c.execute(update(jobs_table).values(logic_version=99)))
            await shop.cancel(JOB, "enough")
            ended = await house.ended(bank, JOB)
            assert (ended.outcome, ended.reason_code) == ("failed", "logic_unknown")
            assert "logic version 99" in ended.reason
            # The console shows it, although the chain's last events are no machine's.
            times = await bank.journal.read(lambda connection: StageTimes().read(connection, JOB))
            assert times["total"] >= 0

    house.run(story)
