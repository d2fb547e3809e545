"""The broker as this party's own user finds it: login, vhost, exchange, queues, and what it may and may not do.

Nothing is taken from a queue, and what is sent is either this party's question to itself, which its transport knows and
drops, or has no recipient.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from broker.connection import OwnConnection
from broker.sessions import session_queue_name
from broker.topology import EXCHANGE, TRAFFIC, VHOST, out_queue_name, probe_key, queue_name
from services.doctor.finding import Finding, Level, Patient, fault, fine, note
from services.doctor.session import check_session
from services.doctor.tls import CONNECT_TIMEOUT_S, REACH, check_tls, reason_of
from services.party.broker_url import with_files_from

APPLY: Final = "have the broker's administrator run `warren broker apply` with all parties"
ANSWER_TIMEOUT_S: Final = 15.0


async def check_line(patient: Patient, now: float) -> list[Finding]:
    """Everything that can be seen of the broker with this party's own credentials. `now`: seconds since 1970."""
    try:
        url = urlsplit(patient.file.broker)
        port = url.port
    except ValueError:
        return [fault("broker", "broker_url", "the key broker in party.toml is no URL", "write amqps://host/vhost")]
    found = await asyncio.to_thread(check_tls, patient, url, now) if url.scheme in ("amqps", "mqtts") else []
    if any(finding.level is Level.FAULT for finding in found):
        return found
    if not url.scheme.startswith("amqp"):
        return found + await check_session(patient, _whole(patient, url))
    where = f"the broker at {url.hostname}:{port or (5671 if url.scheme == 'amqps' else 5672)}"
    logging.getLogger("aiormq").addHandler(logging.NullHandler())  # what it would print is in the finding
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await aio_pika.connect(_whole(patient, url), connection_class=OwnConnection)
    except Exception as error:
        return [*found, _no_connection(patient, url, where, error)]
    async with connection:
        found.append(fine("broker", f"{where} lets {_user(patient, url)} into the vhost {_vhost(url)}"))
        return found + await Probes(patient, connection, _user(patient, url)).all()


def _whole(patient: Patient, url: SplitResult) -> str:
    """The URL with its vhost, and files found from where party.toml lies."""
    path = url.path if url.path not in ("", "/") else f"/{VHOST}"
    return with_files_from(patient.directory, urlunsplit((url.scheme, url.netloc, path, url.query, "")))


def _user(patient: Patient, url: SplitResult) -> str:
    return unquote(url.username or patient.file.name)


def _vhost(url: SplitResult) -> str:
    return unquote(url.path[1:]) or VHOST


def _no_connection(patient: Patient, url: SplitResult, where: str, error: Exception) -> Finding:
    user, vhost = _user(patient, url), _vhost(url)
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            advice = (
                f"set the password of {user} anew (`warren broker apply ... --password-file`) and in party.toml; with "
                f"a client certificate its common name has to be {user}"
            )
            return fault("broker", "login_refused", f"{where} refuses the login of {user}", advice)
        case InvalidFrameError():
            # What aiormq makes of a vhost that is refused or is not there.
            what = f"{where} has no vhost {vhost}, or does not let {user} into it"
            return fault("broker", "vhost_wrong", what, f"the URL in party.toml should end in /{VHOST}; else {APPLY}")
        case _:
            return fault("broker", "broker_unreachable", f"{where} cannot be reached: {reason_of(error)}", REACH)


class Probes:
    """Questions to the broker on one connection, each on a channel of its own: a refusal closes the channel."""

    def __init__(self, patient: Patient, connection: AbstractConnection, user: str) -> None:
        self._me = patient.file.name
        self._peers = patient.peers
        self._declares = patient.file.declare
        self._connection = connection
        self._user = user

    async def all(self) -> list[Finding]:
        """What was found, in an order in which causes come before consequences."""
        if await self._refusal(lambda channel: channel.get_exchange(EXCHANGE, ensure=True)) is not None:
            if self._declares:
                return [note("queues", "exchange_missing", "the exchange is not there yet: `declare` makes it")]
            return [fault("queues", "exchange_missing", f"the exchange {EXCHANGE} is missing at the broker", APPLY)]
        found = [finding for peer in self._peers for finding in await self._of_peer(peer)]
        found += await self._of_strangers()
        if not self._peers:
            advice = "`warren peer add FILE` with the public identity of each partner"
            found.append(note("queues", "peers_none", "this party knows no peer, so no queue was looked at", advice))
        if not any(finding.level is Level.FAULT for finding in found):
            found.append(fine("rights", f"{self._user} may do what a party has to, and not write in others' names"))
        return found

    async def _of_peer(self, peer: str) -> list[Finding]:
        found = []
        for traffic in TRAFFIC:
            found += await self._of_queue(queue_name(traffic, self._me, peer), peer, traffic)
        theirs, out = queue_name("control", peer, self._me), out_queue_name(peer)
        session = session_queue_name(peer, "control")
        if await self._missing(theirs) and await self._missing(out) and await self._missing(session):
            what = f"there is no way to {peer}: neither queue {theirs} nor {out} is at the broker"
            advice = f"{APPLY}; if {peer} speaks MQTT, the way is there once its daemon has connected"
            found.append(fault("queues", "queue_missing", what, advice))
        return found

    async def _of_queue(self, name: str, peer: str, traffic: str) -> list[Finding]:
        if await self._missing(name):
            if self._declares:
                return [note("queues", "queue_missing", f"queue {name} is not there yet: `declare` makes it")]
            return [fault("queues", "queue_missing", f"queue {name} is missing at the broker", APPLY)]
        if await self._unreadable(name):
            what = f"{self._user} may not read queue {name}"
            return [fault("rights", "read_refused", what, f"its read permission has to cover its own queues: {APPLY}")]
        return await self._of_writing(name, probe_key(self._me, peer, traffic))

    async def _missing(self, name: str) -> bool:
        refusal = await self._refusal(lambda channel: channel.declare_queue(name, passive=True))
        return isinstance(refusal, ChannelNotFoundEntity)

    async def _unreadable(self, name: str) -> bool:
        """Whether reading is refused. RabbitMQ looks at the permission first, and then gives nothing: the queue has a
        single active consumer."""

        async def get(channel: AbstractChannel) -> None:
            queue = await channel.get_queue(name, ensure=False)
            message = await queue.get(no_ack=False, fail=False)
            if message is not None:  # a queue with other arguments than ours
                await message.nack(requeue=True)

        return isinstance(await self._refusal(get), ChannelAccessRefused)

    async def _of_writing(self, name: str, key: str) -> list[Finding]:
        match await self._refusal(_publish(key)):
            case ChannelAccessRefused() as refusal:
                topic = "topic" in str(refusal)
                right = f"topic permission on the exchange {EXCHANGE}" if topic else "write permission"
                what = f"{self._user} may not send in its own name: its {right} does not cover {key}"
                return [fault("rights", "topic_permission_missing" if topic else "write_refused", what, APPLY)]
            case PublishError():
                what = f"queue {name} gets no messages: it is not bound to {key}"
                return [fault("queues", "binding_missing", what, APPLY)]
            case DeliveryError():
                what = f"queue {name} is full: what partners send is refused until it is read"
                return [fault("queues", "queue_full", what, "start this party's daemon")]
            case _:
                return []

    async def _of_strangers(self) -> list[Finding]:
        """Whether the broker would take what another party has not said, and a queue that nobody wants."""
        nobody = f"nobody-{secrets.token_hex(8)}"
        refusal = await self._refusal(_publish(f"from.{nobody}.to.{nobody}.control.none.none"))
        if not isinstance(refusal, ChannelAccessRefused):
            what = f"{self._user} may write in the name of others: its topic permission is missing or too wide"
            advice = (
                f"{APPLY}, which sets the topic permission of each party. Signatures keep forged messages from being "
                "applied, but anybody could fill a partner's queues"
            )
            return [fault("rights", "topic_permission_missing", what, advice)]
        return []

    async def _refusal(self, ask: "Ask") -> Exception | None:
        """What the broker has against a question; None: nothing."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                try:
                    await ask(channel)
                finally:
                    await channel.close()
        except ChannelLockedResource:
            return None
        except Exception as error:
            return error
        return None


Ask = Callable[[AbstractChannel], Awaitable[object]]


def _publish(key: str) -> Ask:
    async def ask(channel: AbstractChannel) -> None:
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        await exchange.publish(aio_pika.Message(b""), key, mandatory=True)

    return ask
