"""Routing keys, status keys and MQTT topics: how a message is addressed."""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from messages.schemas import BULK

NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
KIND: Final = re.compile(r"(?=.{1,40}\Z)[a-z]+(\.[a-z]+)*")


class Traffic(StrEnum):
    """The two classes of traffic; control is served first."""

    CONTROL = "control"
    BULK = "bulk"


class RoutingKey(NamedTuple):
    """The parts of `from.<sender>.to.<recipient>.<control|bulk>.<job>.<kind>`."""

    sender: str
    recipient: str
    traffic: Traffic
    job: str
    kind: str


class AddressError(ValueError):
    """A name or key that cannot be an address; the text says which."""


def shown(text: str, letters_max: int) -> str:
    """A foreign text in quotes, cut and without letters that would write on a terminal."""
    return "'" + "".join(letter if letter.isprintable() else "?" for letter in text[:letters_max]) + "'"


def check_name(name: str, what: str = "name") -> str:
    """The name itself, if it is one. Raises AddressError naming `what`."""
    if not NAME.fullmatch(name):
        raise AddressError(f"{what} {shown(name, 60)} must be 1 to 40 of a-z, 0-9 and -")
    return name


def check_kind(kind: str) -> str:
    """The kind itself, if it is one: words of a-z with dots between. Raises AddressError."""
    if not KIND.fullmatch(kind):
        raise AddressError(f"kind {shown(kind, 60)} must be words of a-z with dots between, 40 letters at most")
    return kind


def traffic_of(kind: str) -> Traffic:
    """The class that a kind of message travels in."""
    return Traffic.BULK if kind in BULK else Traffic.CONTROL


def routing_key(sender: str, recipient: str, kind: str, job: str) -> str:
    """The routing key of a message. Raises AddressError."""
    for name, what in ((sender, "sender"), (recipient, "recipient"), (job, "job")):
        check_name(name, what)
    return f"from.{sender}.to.{recipient}.{traffic_of(kind)}.{job}.{check_kind(kind)}"


def parse_routing_key(key: str) -> RoutingKey:
    """The inverse of `routing_key`. Raises AddressError."""
    words = key.split(".", 6)
    if len(words) != 7 or words[0] != "from" or words[2] != "to":
        raise AddressError(f"{shown(key, 200)} is no routing key of this protocol")
    _, sender, _, recipient, traffic, job, kind = words
    for name, what in ((sender, "sender"), (recipient, "recipient"), (job, "job")):
        check_name(name, what)
    if traffic != traffic_of(check_kind(kind)):
        raise AddressError(f"{shown(kind, 60)} does not travel as {shown(traffic, 20)}")
    return RoutingKey(sender, recipient, Traffic(traffic), job, kind)


def status_key(party: str, job: str) -> str:
    """The routing key of a party's status of a job."""
    return f"status.{check_name(party, 'party')}.{check_name(job, 'job')}"


def to_mqtt(key: str) -> str:
    """A routing key as an MQTT topic (RabbitMQ's plug-in maps `.` to `/`). Raises AddressError for a wildcard."""
    if set(key) & set("/+#*"):
        raise AddressError(f"{shown(key, 200)} has a character that MQTT or AMQP keeps for itself")
    return key.replace(".", "/")


def from_mqtt(topic: str) -> str:
    """The inverse of `to_mqtt`."""
    if set(topic) & set(".+#*"):
        raise AddressError(f"{shown(topic, 200)} has a character that MQTT or AMQP keeps for itself")
    return topic.replace("/", ".")
