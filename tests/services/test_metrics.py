"""What a daemon tells a Prometheus, and what it never tells."""

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.amqp import AmqpTransport
from protocol.state import Phase
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.daemon.loopback import listen
from services.daemon.metrics import Metrics
from services.daemon.metrics_page import serve_metrics
from services.party.configuration import ConfigError, load_party
from tests.broker.stories import control, in_time, insist
from tests.parties import PATIENCE_S
from tests.rabbitmq import fresh_parties, running_broker
from tests.services import gates
from tests.services.bureau import Bureau
from tests.services.quick import JOB, parties

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "warren.json"
JOB_FAMILIES = {
    "warren_job_info", "warren_job_iteration", "warren_job_iterations_max", "warren_job_stage_rows_done",
    "warren_job_stage_rows", "warren_job_rows", "warren_job_silence_seconds", "warren_job_stage_seconds",
}  # fmt: skip

Samples = Mapping[str, list[tuple[dict[str, str], float]]]


def samples(text: str) -> Samples:
    """By name of sample: labels and value of each."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        found.setdefault(family.name, [])
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(found: Samples, family: str, /, **labels: str) -> float:
    [hit] = [number for said, number in found[family] if labels.items() <= said.items()]
    return hit


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, ControlClient], str, Path]]:
    """Two parties that have finished one job; the job; their directory."""
    place = tmp_path_factory.mktemp("metrics") / "parties"
    paths = parties(place)
    with embedded(paths):
        clients = {role: connect(load_party(path)) for role, path in zip(NAMES, paths, strict=True)}
        job = clients[BUSINESS].ask("submit", job={**JOB, "partner": f"{NAMES[PROVIDER]}/features"})["job"]
        for client in clients.values():
            assert wait_for(client, job)["outcome"] == "done"
        yield clients, job, place
        for client in clients.values():
            client.close()


def test_a_running_job_is_named_and_a_finished_one_is_only_counted(tmp_path: Path) -> None:
    async def story() -> None:
        bureau = Bureau(tmp_path)
        with gates.shut((NAMES[PROVIDER], "gradient")):
            async with bureau.both() as daemons:
                metrics = Metrics(bureau.parties[BUSINESS], daemons[BUSINESS])
                job = await bureau.submit(daemons[BUSINESS])
                await bureau.reached(daemons[PROVIDER], Phase.CROSSING)
                during = samples((await metrics.render()).decode())
                gates.release()
                await bureau.parameters(daemons)
                text = (await metrics.render()).decode()
        after = samples(text)
        assert value(during, "warren_jobs", status="running") == 1
        assert value(during, "warren_job_info", job=job, role="business", stage="train") == 1
        assert value(during, "warren_job_iteration", job=job) == 1
        assert value(during, "warren_job_iterations_max", job=job) == 2
        assert value(during, "warren_job_stage_seconds", job=job, stage="align") >= 0
        assert value(during, "warren_job_rows_total", job=job) > 0
        assert job not in text
        assert value(after, "warren_jobs", status="finished", outcome="done") == 1
        assert after.keys() >= JOB_FAMILIES

    asyncio.run(story())


def test_counts_sizes_and_states_of_a_daemon_are_told(
    told: tuple[dict[str, ControlClient], str, Path],
) -> None:
    clients, _, _ = told
    found = samples(clients[PROVIDER].ask("metrics")["text"])
    assert value(found, "warren_build_info", party=NAMES[PROVIDER]) == 1
    assert value(found, "warren_broker_up") == 1
    assert value(found, "warren_published_messages_total", again="no") > 10
    assert value(found, "warren_receipts_outstanding", partner=NAMES[BUSINESS]) == 0
    assert value(found, "warren_events_total", name="messages_received") > 10
    assert value(found, "warren_events_total", name="rows") > 100
    assert value(found, "warren_journal_commits_total") > 10
    assert value(found, "warren_journal_bytes") > 10_000
    assert 0 < value(found, "warren_disk_free_bytes") <= value(found, "warren_disk_size_bytes")
    assert value(found, "warren_disk_writable") == 1
    assert value(found, "warren_cpu_seconds_total", part="workers") > 0
    assert {labels["work"] for labels, _ in found["warren_back_end_info"]} == {"paillier", "alignment"}


def test_no_metric_holds_a_private_value_or_a_name_of_the_data(
    told: tuple[dict[str, ControlClient], str, Path],
) -> None:
    clients, job, place = told
    for role, client in clients.items():
        text = client.ask("metrics")["text"]
        assert job not in text
        party = load_party(place / role / "party.toml")
        results = json.loads((party.data_directory / "results" / job / "parameters.json").read_text())
        words = [repr(number) for number in results["coefficients"].values()]
        numbers = {number for rows in samples(text).values() for _, number in rows}
        assert not numbers & set(results["coefficients"].values())
        names = pl.read_parquet_schema(place / f"{role}.parquet")
        said = set(re.findall(r'"([^"]*)"', text))
        assert not said & {*names, *results["coefficients"], *words}


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_there_are(
    told: tuple[dict[str, ControlClient], str, Path],
) -> None:
    clients, _, _ = told
    known = samples(clients[BUSINESS].ask("metrics")["text"])
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [item["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    named = {name for query in queries for name in re.findall(r"warren_[a-z_]+", query)}
    families = {name.removesuffix("_total") for name in known}
    assert len(queries) > 25
    assert sorted(named - known.keys() - {f"{name}_total" for name in families}) == []
    assert sorted(families - {name.removesuffix("_total") for name in named}) == sorted(UNDRAWN)


UNDRAWN = {
    "warren_back_end_info", "warren_disk_writable", "warren_job_iterations_max", "warren_outbox_bytes",
    "warren_receipts_sent", "warren_started_timestamp_seconds",
}  # fmt: skip
"""Metrics for alerts and for whoever asks."""


def test_metrics_are_served_on_loopback_to_whoever_calls_this_machine_by_its_name(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]

    async def render() -> bytes:
        return b"warren_broker_up 1\n"

    def get(host: str) -> tuple[int, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        line.request("GET", "/metrics", headers={"Host": host})
        answer = line.getresponse()
        return answer.status, answer.read()

    async def story() -> None:
        serving = asyncio.ensure_future(serve_metrics(f"127.0.0.1:{port}", render))
        while not await asyncio.to_thread(listens, port):
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(get, f"127.0.0.1:{port}") == (200, b"warren_broker_up 1\n")
        assert (await asyncio.to_thread(get, "elsewhere.example"))[0] == 400
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not await asyncio.to_thread(listens, port)

    asyncio.run(story())


def listens(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("address", "named"), [("0.0.0.0:9464", "can be reached from elsewhere"), ("127.0.0.1", "an IP address and a port")]
)
def test_an_address_that_others_reach_is_refused(tmp_path: Path, address: str, named: str) -> None:
    path = parties(tmp_path / "parties")[0]
    path.write_text(f'metrics = "{address}"\n{path.read_text()}')
    with pytest.raises(ConfigError, match=named):
        load_party(path)


def test_messages_that_wait_at_a_real_broker_are_told_by_queue() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b")
        sender, reader = (AmqpTransport(running_broker().amqp_url(me), me, [peer]) for me, peer in ((a, b), (b, a)))
        reader.pause()

        async def keep(_: object) -> None:
            raise AssertionError("a paused transport hands nothing over")

        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(sender.run(keep)), group.create_task(reader.run(keep))]
            await reader.connected()
            for body in (b"one", b"two"):
                await insist(lambda body=body: sender.publish(control(a, b), body))
            while await reader.depths() != {f"control.{b}.{a}": 2, f"bulk.{b}.{a}": 0}:
                await asyncio.sleep(0.02)
            for run in runs:
                run.cancel()
        assert await reader.depths() == {}

    in_time(story())
