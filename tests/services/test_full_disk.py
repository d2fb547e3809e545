"""A disk without room: what must be kept waits for it, the operator is told, and neither job nor daemon ends.

`/dev/full` is a file that is always there and never has room.
"""

import asyncio
from pathlib import Path

import pytest
import structlog

from services.daemon.control import ControlClient
from services.daemon.local import NAMES, PROVIDER, connect, embedded, wait_for
from services.engine.disk import LINGER_S, DiskWatch
from services.party.configuration import load_party
from services.party.logs import LogBook, configure
from tests.parties import until
from tests.services import house, toy
from tests.services.test_local import JOB, parties


def test_a_task_without_room_is_run_again_until_there_is_and_does_not_fail(tmp_path: Path) -> None:
    town = house.Town(tmp_path, fields={"workers": 0})
    kept = tmp_path / "shop" / "hoard"
    kept.parent.mkdir()
    kept.symlink_to("/dev/full")

    async def tried(shop: house.Daemon) -> bool:
        return (await shop.statistics("job-1")).get("tasks_run_again", 0) >= 5

    async def story() -> None:
        async with house.running(town.daemon("bank")), house.running(town.daemon("shop")) as shop:
            await shop.submit("job-1", "bank", contract=toy.contract(trouble="hoard"))
            await house.until(lambda: tried(shop))
            assert shop.disk.trouble == "No space left on device"
            kept.unlink()
            assert (await shop.wait("job-1")).outcome == "done"
            assert "task_failures" not in await shop.statistics("job-1")

    asyncio.run(story())
    assert kept.read_bytes() == b"kept"


def test_results_without_room_are_written_once_there_is_and_the_daemon_says_so(tmp_path: Path) -> None:
    paths = parties(tmp_path / "parties")
    with embedded(paths), connect(load_party(paths[0])) as business:
        job = business.ask("submit", job={**JOB, "partner": f"{NAMES[PROVIDER]}/features"})["job"]
        results = business.data_directory / "results"
        blocked = results / f".{job}.new" / "parameters.json"
        blocked.parent.mkdir(parents=True)
        blocked.symlink_to("/dev/full")
        view = until(lambda: over(business, job), "the job is done")
        assert (view["outcome"], view["results"]) == ("done", "")
        said = until(lambda: business.ask("status")["disk"]["detail"], "the full disk is told")
        assert "No space left on device" in said
        assert str(business.data_directory) in said
        assert business.ask("job", id=job)["disk"] == {"ok": False, "detail": said}
        blocked.unlink()
        assert wait_for(business, job)["results"] == str(results / job)
        assert b"coefficients" in (results / job / "parameters.json").read_bytes()


def over(console: ControlClient, job: str) -> dict[str, object] | None:
    view = console.ask("job", id=job)
    return view if view["status"] != "running" else None


def test_a_log_without_room_loses_its_lines_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = structlog.get_config()
    book = LogBook()
    with (
        pytest.raises(OSError, match="No space left"),  # when it is closed
        Path("/dev/full").open("w", buffering=1) as full,
    ):
        monkeypatch.setattr("sys.stderr", full)
        configure(book)
        try:
            for number in range(1000):
                structlog.get_logger().info("a line", job="job-1", number=number)
        finally:
            structlog.configure(**before)
    assert book.lines("job-1")[-1]["number"] == 999


def test_trouble_is_told_between_two_tries_and_no_longer() -> None:
    now = 100.0
    watch = DiskWatch(lambda: now)
    assert watch.trouble == ""
    watch.failed("database or disk is full")
    now += LINGER_S - 0.1
    assert watch.trouble == "database or disk is full"
    now += 0.2
    assert watch.trouble == ""
