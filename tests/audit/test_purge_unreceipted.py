"""What the partner has not confirmed yet outlives a purge."""

from services.engine.records import AuditError
from tests.services import house, toy

JOB = "job-1"


def test_messages_that_the_partner_has_no_receipt_for_are_still_delivered(tmp_path) -> None:
    async def story() -> None:
        town = house.Town(tmp_path, fields={"surroundings": house.on_virtual_time()})
        async with house.running(town.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=2))
            refused = False
            try:
                await shop.purge(JOB)
            except AuditError:
                refused = True
            assert refused
            await shop.cancel(JOB, "enough")
            assert (await shop.wait(JOB)).outcome == "cancelled"
            done = await shop.purge(JOB)
            assert done.unreceipted == 2
            assert done.events > 0
            assert any("2 sealed messages stay" in sentence for sentence in done.sentences())
            async with house.running(town.daemon("bank")) as bank:
                assert (await house.ended(bank, JOB)).outcome == "cancelled"
                await house.counted(shop, JOB, "messages_sent", 2)

    house.run(story)
