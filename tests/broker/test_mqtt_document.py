"""docs/mqtt.md says what the program does."""

import re
from pathlib import Path

from broker.mqtt_line import MqttAddress
from broker.rights import session_rights, watcher_rights
from broker.sessions import session_name, session_queue_name, session_settings
from broker.topology import EXCHANGE, VHOST
from services.daemon.status import ENDED_TOLD_S, INTERVAL_S, JOBS_TOLD_MAX
from tests.documents.commands import resolved

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")


def test_every_url_of_the_document_can_be_used_and_means_what_it_says() -> None:
    urls = re.findall(r"mqtts://[^\s\"`]+", DOCUMENT)
    assert len(urls) >= 3
    for url in urls:
        address = MqttAddress.parse(url, "plant", allow_plain=False)
        assert (address.about.vhost, address.port, address.about.authority) == ("warren", 8883, "ca.pem")


def test_every_command_of_the_document_exists_with_its_options() -> None:
    commands = re.findall(r"(?:`|^ {4})warren ([^`\n]+)", DOCUMENT, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        path, _ = resolved(f"warren {command}")
        assert path, command


def test_the_settings_and_names_that_the_document_gives_are_the_program_s() -> None:
    for line in session_settings(VHOST, EXCHANGE, "anywhere"):
        if "listeners" not in line:
            assert line in DOCUMENT
    for traffic in ("control", "bulk"):
        assert f"`{session_name('plant', traffic)}`" in DOCUMENT
        assert session_queue_name("plant", traffic).removeprefix("mqtt-subscription-warren.plant.") in DOCUMENT
        allowed = session_rights("plant", EXCHANGE).topic_read
        assert re.fullmatch(allowed, f"from.*.to.plant.{traffic}.#")
    own = watcher_rights("dashboard", EXCHANGE).configure
    assert re.match(own, "mqtt-subscription-warren-watch.dashboard.1qos1")
    assert "begins with `warren-watch.dashboard.`" in " ".join(DOCUMENT.split())


def test_the_times_that_the_document_gives_are_the_program_s() -> None:
    text = " ".join(DOCUMENT.split())
    assert f"every {INTERVAL_S:.0f} seconds" in text
    assert f"{JOBS_TOLD_MAX} at most" in text
    assert ENDED_TOLD_S == 86_400
    assert "until a day after their end" in text
