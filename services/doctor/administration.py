"""The broker as an administrator sees it, through its management API: queue arguments, permissions, its clock."""

import contextlib
import email.utils
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from broker.management import Management, ManagementError
from broker.rights import Permissions, delivery_rights, shovel_rights
from broker.topology import (
    EXCHANGE,
    VHOST,
    delivery_user,
    linked_queues,
    parse_version,
    party_queues,
    permissions,
    shovel_user,
)
from services.doctor.clock import Clock, Reading
from services.doctor.finding import Finding, Patient, fault, fine, unknown
from services.doctor.links import check_links, linked_peers
from services.party.configuration import LOCAL_HOSTS, ConfigError

HINT: Final = (
    "give an administrator's URL with --management, for instance https://admin@broker.example:15671: the password is "
    "asked for, or comes from --administrator-file admin=FILE"
)
_REMAKE: Final = (
    "arguments cannot be changed: let both daemons finish what is under way (`warren jobs`), delete the queue, and run "
    "`warren broker apply`; what partners have not confirmed is sent again"
)


def check_administration(patient: Patient, url: str, clock: Clock) -> tuple[list[Finding], list[Reading]]:
    """What an administrator sees, and what time it is at the broker. Blocks. Raises ConfigError for a bad URL."""
    if not url:
        return [unknown("queues", "the arguments of queues were not looked at", HINT)], []
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--management: give http[s]://user@host:port")
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        raise ConfigError(f"--management: http:// without TLS to {parts.hostname}; use https://")
    trusted = _authorities(patient)
    reading = _time_at(url, clock, trusted)
    broker = urlsplit(patient.file.broker)
    vhost, user = unquote(broker.path[1:]) or VHOST, unquote(broker.username or patient.file.name)
    try:
        found = _compare(patient, Management(url, ssl_context=trusted), vhost, user)
    except ManagementError as error:
        advice = "is the URL that of the management plug-in, and the user an administrator?"
        found = [unknown("queues", f"the management API does not answer: {error}", advice)]
    return found, reading


def _authorities(patient: Patient) -> ssl.SSLContext:
    """The system's authorities, and the one that party.toml names for the broker."""
    context = ssl.create_default_context()
    for name in parse_qs(urlsplit(patient.file.broker).query).get("cafile", []):
        # One that cannot be read is told with TLS.
        with contextlib.suppress(OSError):
            context.load_verify_locations(patient.directory / name)
    return context


def _compare(patient: Patient, management: Management, vhost: str, user: str) -> list[Finding]:
    version, me = parse_version(management.version()), patient.file.name
    peers = linked_peers(management, vhost, patient.peers)
    mqtt = patient.file.broker.startswith("mqtt")
    # Sessions are the plug-in's: nobody else makes them.
    queues = {} if mqtt else {queue.name: queue for queue in party_queues(me, patient.peers, version)}
    queues |= {queue.name: queue for queue in linked_queues(me, peers, version)} if peers else {}
    rights = {user: permissions(me, mqtt=mqtt)}
    beside = permissions(me, mqtt=mqtt, beside_sessions=True)
    if (_of_topic(management, vhost, user) or {}).get("write") == beside.topic_write:
        rights[user] = beside  # parties that speak MQTT are at this broker, too
    for peer in peers:
        rights[shovel_user(peer)] = shovel_rights(peer)
        rights[delivery_user(peer)] = delivery_rights(me, peer, EXCHANGE)
    found: list[Finding] = []
    for queue in queues.values():
        found += _of_arguments(queue.name, queue.arguments, management, vhost)
    for name, wanted in rights.items():
        found += _of_permissions(name, wanted, management, vhost)
    users = ", ".join(rights)
    found = found or [fine("queues", f"arguments of all queues and the permissions of {users} are as they should be")]
    return found + check_links(management, vhost, peers)


def _of_permissions(user: str, wanted: Permissions, management: Management, vhost: str) -> list[Finding]:
    seen = _of_user(management, ("permissions", vhost, user))
    topic = _of_topic(management, vhost, user)
    rights = {"configure": wanted.configure, "write": wanted.write, "read": wanted.read}
    return [
        *_of_rights("permission", user, seen, rights),
        *_of_rights("topic permission", user, topic, {"write": wanted.topic_write, "read": wanted.topic_read}),
    ]


def _of_arguments(name: str, wanted: Mapping[str, object], management: Management, vhost: str) -> list[Finding]:
    seen = _of_user(management, ("queues", vhost, name))
    if seen is None:
        advice = "run `warren broker apply` with all parties"
        return [fault("queues", "queue_missing", f"queue {name} is missing at the broker", advice)]
    actual: Mapping[str, object] = seen.get("arguments") or {}
    # How much a queue may hold is the administrator's choice.
    names = sorted((wanted.keys() | actual.keys()) - {"x-max-length-bytes"})
    other = [
        f"{key} is {actual.get(key, 'missing')!s}, not {wanted.get(key, 'there')!s}"
        for key in names
        if actual.get(key) != wanted.get(key)
    ]
    if not other:
        return []
    return [fault("queues", "queue_arguments", f"queue {name} has other arguments: {'; '.join(other)}", _REMAKE)]


def _of_rights(kind: str, user: str, seen: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> list[Finding]:
    code = f"{kind.replace(' ', '_')}_missing"
    if seen is None:
        advice = "run `warren broker apply` with all parties"
        return [fault("rights", code, f"{user} has no {kind} at the broker", advice)]
    other = [
        f"{name} is {seen.get(name)!r}, not {right!r}" for name, right in wanted.items() if seen.get(name) != right
    ]
    if not other:
        return []
    advice = "run `warren broker apply` with all parties; it sets them anew"
    return [fault("rights", code, f"the {kind} of {user} differs: {'; '.join(other)}", advice)]


def _of_user(management: Management, path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """An object of the API; None where there is none. Raises ManagementError."""
    try:
        found = management.get(*path)
    except ManagementError as error:
        if error.status == 404:
            return None
        raise
    return found if isinstance(found, dict) else None


def _of_topic(management: Management, vhost: str, user: str) -> Mapping[str, Any] | None:
    try:
        found = management.get("topic-permissions", vhost, user)
    except ManagementError as error:
        if error.status == 404:
            return None
        raise
    rows = found if isinstance(found, list) else []
    return next((row for row in rows if row.get("exchange") == EXCHANGE), None)


def _time_at(url: str, clock: Clock, trusted: ssl.SSLContext) -> list[Reading]:
    """The time in the header of an answer, whatever it is; no credentials are needed for it."""
    parts = urlsplit(url)
    host = parts.hostname if ":" not in (parts.hostname or "") else f"[{parts.hostname}]"
    place = urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else str(host), "/", "", ""))
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))
    opener = urllib.request.build_opener(*handlers)
    sent = clock()
    try:
        with opener.open(place, timeout=10) as answer:
            said = answer.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        with error:
            said = error.headers.get("Date", "")
    except (OSError, ValueError):
        return []
    received = clock()
    try:
        theirs = email.utils.parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return []
    return [Reading("the broker", theirs, sent, received)]
