"""One MQTT connection of one client identifier, from its opening until it is lost. `broker.mqtt` opens the next one."""

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from broker.address import Address
from broker.hosts import is_this_machine
from broker.sessions import APPLY_HINT, routing_key_of
from broker.topology import VHOST
from messages.keys import to_mqtt

CLOSE_TIMEOUT_S: Final = 2.0
QOS: Final = 1
REFUSED_FROM: Final = 128
"""Codes of a SUBACK from here on are refusals (MQTT 3.1.1, section 3.9.3)."""
FILES: Final = frozenset({"cafile", "certfile", "keyfile"})

# What the library would say is in the reason of a lost line; its warnings about many open publishes are not.
_QUIET: Final = logging.getLogger("broker.mqtt.library")
_QUIET.setLevel(logging.CRITICAL)

Take = Callable[[str, bytes, Callable[[], None]], None]
"""Takes a message over: routing key, body and what acknowledges it."""


class LineLost(Exception):
    """The connection is of no more use; the text is a sentence for the operator, free of secrets."""


@dataclass(frozen=True, slots=True, repr=False)
class MqttAddress:
    """A broker's URL with everything in it. `about` says what may be shown."""

    host: str
    port: int
    about: Address

    @classmethod
    def parse(cls, url: str, party: str, *, allow_plain: bool) -> "MqttAddress":
        """Read `mqtt[s]://user:password@host:port/vhost?cafile=...`.

        Raises:
            ValueError: the URL is malformed, or goes without TLS to another machine.

        """
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("a broker's URL is mqtts://user:password@host/vhost")
        if parts.scheme == "mqtt" and not allow_plain and not is_this_machine(parts.hostname):
            raise ValueError(f"the broker at {parts.hostname} is another machine: its URL must begin with mqtts://")
        query = dict(parse_qsl(parts.query))
        if unknown := sorted(set(query) - FILES):
            raise ValueError(f"a broker's URL with mqtts:// takes {', '.join(sorted(FILES))}, not {unknown[0]}")
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        about = Address(
            url=url,
            place=f"{parts.hostname}:{port}",
            user=unquote(parts.username or party),
            vhost=unquote(parts.path.strip("/")) or VHOST,
            password=unquote(parts.password or ""),
            authority=query.get("cafile", ""),
            certificate=query.get("certfile", ""),
            key=query.get("keyfile", ""),
            encrypted=parts.scheme == "mqtts",
        )
        return cls(parts.hostname, port, about)

    def login(self) -> tuple[str | None, str | None]:
        """User name and password as RabbitMQ's plug-in takes them; none for a login with a client certificate."""
        about = self.about
        return (f"{about.vhost}:{about.user}", about.password) if about.password else (None, None)

    def tls_context(self) -> ssl.SSLContext | None:
        """How to check the server, read from the files anew; raises OSError for files that cannot be read."""
        about = self.about
        if not about.encrypted:
            return None
        context = ssl.create_default_context(cafile=about.authority or None)
        if about.certificate:
            context.load_cert_chain(about.certificate, about.key or None)
        return context

    def explain(self, error: Exception) -> str:
        """A sentence for the operator, without the password: what is wrong and whose it is to mend."""
        about = self.about
        if isinstance(error, MqttConnectError):
            # RabbitMQ's plug-in has the same answer for a wrong user, password and vhost.
            refused = f"the broker at {about.place} refuses the login of {about.user} to the vhost {about.vhost}"
            return f"{refused}{about.as_whom()} ({error})"
        return about.explain(error)


class MqttLine(aiomqtt.Client):
    """An MQTT 3.1.1 connection with acknowledgements by hand. `lost` is set, with `reason`, when it is useless.

    aiomqtt acknowledges a message before anybody has seen it, and answers no call that waits when the line is
    lost; so this class steps in where aiomqtt hears from paho.

    Args:
        address: of the broker.
        identifier: the client identifier; a second connection with it ends this one.
        tls: how to check the server, if the address asks for TLS.
        persistent: the broker keeps the session when the line is lost.
        keepalive_s: a line that is silent for about twice as long is lost.
        answer_s: time limit of connecting, subscribing and closing.
        take: for a line that reads; called from the event loop, must not raise.

    """

    def __init__(
        self,
        address: MqttAddress,
        identifier: str,
        *,
        tls: ssl.SSLContext | None,
        persistent: bool,
        keepalive_s: int,
        answer_s: float,
        take: Take | None = None,
    ) -> None:
        user, password = address.login()
        super().__init__(
            address.host,
            address.port,
            username=user,
            password=password,
            identifier=identifier,
            clean_session=not persistent,
            timeout=answer_s,
            keepalive=keepalive_s,
            tls_context=tls,
            logger=_QUIET,
        )
        self._client.manual_ack_set(True)
        self._client.connect_timeout = answer_s
        self.lost = asyncio.Event()
        self.reason = ""
        self.held = 0
        self.heard_at = asyncio.get_running_loop().time()
        self.sign = asyncio.Event()
        self._taker = take

    async def open(self) -> None:
        """Connect; raises aiomqtt.MqttError or OSError."""
        opening = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread is connecting and cannot be stopped: what it opens must not stay open.
            opening.add_done_callback(self._drop_late)
            raise
        except BaseException:
            self._drop()
            raise
        self._disconnected.add_done_callback(self._note_end)
        if not self._client.is_connected():
            self.lose("the connection was lost at once")

    async def read(self, topics: str) -> None:
        """Subscribe; raises LineLost when the broker does not grant it."""
        refused = f"the broker does not grant the subscription to {topics}: {APPLY_HINT}"
        try:
            codes = await self._unless_lost(self.subscribe(topics, qos=QOS), self.timeout)
        except (aiomqtt.MqttError, LineLost, TimeoutError):
            # RabbitMQ 3 closes the connection of a client that may not subscribe, without an answer.
            raise LineLost(refused) from None
        granted = codes[0] if codes else REFUSED_FROM
        if (granted.value if isinstance(granted, ReasonCode) else granted) >= REFUSED_FROM:
            raise LineLost(refused)

    async def send(self, routing_key: str, body: bytes, timeout_s: float) -> None:
        """Publish and return when the broker has confirmed it.

        Raises:
            LineLost: the line was lost before.
            TimeoutError: there was no answer in time; the line is lost then.

        """
        try:
            await self._unless_lost(self.publish(to_mqtt(routing_key), body, qos=QOS, timeout=math.inf), timeout_s)
        except TimeoutError:
            # paho would count the message as under way for ever.
            self.lose("a message was not confirmed in time")
            raise
        except aiomqtt.MqttError as error:
            self.lose(f"the connection was lost ({error})")
            raise LineLost(self.reason) from None

    def lose(self, reason: str) -> None:
        """Call the line useless."""
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()

    async def close(self) -> None:
        """Close the connection; never raises. A persistent session stays at the broker."""
        self.lose("it was closed")
        self.timeout = CLOSE_TIMEOUT_S
        with suppress(Exception):
            await self.__aexit__(None, None, None)
        self._drop()

    async def _unless_lost(self, call: Awaitable[Any], timeout_s: float) -> Any:
        calling = asyncio.ensure_future(call)
        losing = asyncio.ensure_future(self.lost.wait())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({calling, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise LineLost(self.reason)
            return calling.result()
        finally:
            calling.cancel()
            losing.cancel()

    def _drop(self) -> None:
        """Close the socket, however things stand. Without it, paho's would live as long as the broker answers."""
        with suppress(Exception):
            self._client._sock_close()

    def _drop_late(self, opening: "asyncio.Future[Any]") -> None:
        with suppress(BaseException):
            opening.result()
        self._drop()

    def _note_end(self, disconnected: "asyncio.Future[None]") -> None:
        error = None if disconnected.cancelled() else disconnected.exception()
        self.lose(f"the connection was lost ({error or 'closed'})")

    def _acknowledgement(self, mid: int, qos: int) -> Callable[[], None]:
        done = False

        def ack() -> None:
            nonlocal done
            if done:
                return
            done = True
            self.held -= 1
            # On a lost line the message comes back and the journal knows it: nothing to tell anybody.
            if not self.lost.is_set():
                with suppress(Exception):
                    self._client.ack(mid, qos)

        return ack

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        """Instead of aiomqtt's, which raises at a topic that is no text or has a `#`: at every new line again."""
        del client, userdata
        self.heard_at = self._loop.time()
        self.held += 1
        self.sign.set()
        ack = self._acknowledgement(message.mid, message.qos)
        if self._taker is not None:
            self._taker(routing_key_of(message._topic), bytes(message.payload), ack)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            # aiomqtt would wait for an answer until its time is over.
            self._connected.set_exception(aiomqtt.MqttError("closed before an answer"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
