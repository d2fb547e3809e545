"""The transport over RabbitMQ's MQTT plug-in (MQTT 3.1.1, aiomqtt), for a party that cannot speak AMQP.

The plug-in maps topics to routing keys of the exchange that everybody else uses, so partners notice nothing. Four
connections, so that no traffic holds up the other and a refused message disturbs none:

* two that read, each a persistent session with one traffic class, because the broker hands over only so much
  unacknowledged per session (`mqtt.prefetch`, 10): in one session, bulk that waits would stop control;
* two that send, because RabbitMQ answers a message that it does not take by closing the connection; and a fifth
  one, for status, when there is any.

Messages are acknowledged by hand, when the journal has them. What MQTT 3.1.1 cannot say: that no queue takes a
message (it is confirmed, and the partner's silence tells), and why one was refused.
"""

import asyncio
import functools
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from broker.inbox import Inbox
from broker.mqtt_line import LineLost, MqttAddress, MqttLine, Take
from broker.sessions import APPLY_HINT, session_filter, session_name
from broker.topology import TRAFFIC, is_probe, probe_key
from broker.transport import MESSAGE_BYTES_MAX, Delivery, PublishCode, PublishFailed, Receiver, TransportState
from broker.waiting import any_set, heed_cancellation

log = structlog.get_logger(__name__)

STATUS: Final = "status"
REFUSAL_S: Final = 0.2
"""So long after its sending line a reading line may be lost for it to be the same loss and no refusal."""


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """Sizes and times of an `MqttTransport`.

    Attributes:
        message_bytes_max: a larger body is refused before it is sent.
        publish_timeout_s: how long a publish waits for the broker's confirm.
        connect_timeout_s: how long an attempt to connect or to subscribe may take.
        keepalive_s: a line that is silent for about twice as long is lost.
        backoff_min_s: pause after a lost connection; doubles as long as connections do not last.
        backoff_max_s: the longest pause; a connection that held for longer begins with the shortest again.
        probe_s: a session that was silent for so long is asked for a sign of life, and has as long to give it.

    """

    message_bytes_max: int = MESSAGE_BYTES_MAX
    publish_timeout_s: float = 30.0
    connect_timeout_s: float = 10.0
    keepalive_s: int = 10
    backoff_min_s: float = 0.3
    backoff_max_s: float = 10.0
    probe_s: float = 30.0


class _Sender:
    """The line by which one class of messages is sent, while there is one. `wanted`: there is something to send."""

    def __init__(self) -> None:
        self.line: MqttLine | None = None
        self.ready = asyncio.Event()
        self.wanted = asyncio.Event()


class MqttTransport:
    """The transport of one party at a RabbitMQ with the MQTT plug-in.

    Args:
        url: `mqtts://user:password@host/warren?cafile=...`, or with `&certfile=...&keyfile=...` and without a
            password to log in with a client certificate. The vhost is `warren` unless named.
        party: whose sessions are read, and in whose name is sent.
        ssl_context: instead of the files in the URL.
        allow_plain: take `mqtt://` without TLS for a host that is not this machine.
        options: sizes and times.

    Attributes:
        probes_answered: how often a silent session gave the sign of life that it was asked for.

    Raises:
        ValueError: the URL is malformed, or goes without TLS to another machine.

    """

    def __init__(
        self,
        url: str,
        party: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        allow_plain: bool = False,
        options: MqttOptions | None = None,
    ) -> None:
        self._options = options or MqttOptions()
        self._address = MqttAddress.parse(url, party, allow_plain=allow_plain)
        self._party = party
        self._ssl_context = ssl_context
        self._inbox = Inbox()
        self._senders = {traffic: _Sender() for traffic in (*TRAFFIC, STATUS)}
        for traffic in TRAFFIC:
            self._senders[traffic].wanted.set()
        self._reading = False
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._down.set()
        self._paused = False
        self._resumed = asyncio.Event()
        self.probes_answered = 0
        self._state = TransportState(False, f"waiting for the broker at {self._address.about.place}", 0)

    def __repr__(self) -> str:
        return f"MqttTransport({self._party!r} at {self._address.about.place})"

    @property
    def state(self) -> TransportState:
        """The present state."""
        return self._state

    async def connected(self) -> None:
        """Wait until the transport is up."""
        await self._up.wait()

    def pause(self) -> None:
        """Give the receiver nothing more; publishing goes on.

        The sessions stay open, as what is not acknowledged is all that the broker hands over; they are opened
        anew by `resume`, which is how it comes again.
        """
        self._paused = True
        self._inbox.shut()
        if self._up.is_set():
            self._note()

    def resume(self) -> None:
        """Consume again."""
        self._paused = False
        self._resumed.set()

    async def publish(self, routing_key: str, body: bytes) -> None:
        """See `Transport.publish`. To nowhere is no error here: MQTT 3.1.1 has no word for it."""
        if len(body) > self._options.message_bytes_max:
            detail = f"{len(body)} bytes are more than {self._options.message_bytes_max}"
            raise PublishFailed(PublishCode.OVERSIZED, detail)
        words = routing_key.split(".")
        bulk = len(words) > 4 and words[4] == "bulk"
        sender = self._senders[STATUS if words[0] == STATUS else "bulk" if bulk else "control"]
        sender.wanted.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.publish_timeout_s
        try:
            if self._up.is_set():
                async with asyncio.timeout_at(deadline):
                    await any_set(sender.ready, self._down)
            if not self._up.is_set() or sender.line is None:
                raise PublishFailed(PublishCode.DISCONNECTED, self._state.detail)
            # The line itself has to notice that time is over: it is of no more use then.
            await sender.line.send(routing_key, body, deadline - loop.time())
        except TimeoutError:
            detail = f"no confirm within {self._options.publish_timeout_s:g} s"
            raise PublishFailed(PublishCode.TIMEOUT, detail) from None
        except LineLost as lost:
            raise await self._publish_failed(routing_key, lost) from None

    async def _publish_failed(self, routing_key: str, lost: LineLost) -> PublishFailed:
        """A line that was lost alone was closed by the broker, which has no other word for "no"."""
        try:
            async with asyncio.timeout(REFUSAL_S):
                await self._down.wait()
        except TimeoutError:
            detail = (
                f"the broker closed the line at {routing_key}: a queue for it is full, or the user may not "
                f"send it ({APPLY_HINT})"
            )
            return PublishFailed(PublishCode.REFUSED, detail)
        return PublishFailed(PublishCode.DISCONNECTED, str(lost))

    async def run(self, receiver: Receiver) -> None:
        """See `Transport.run`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.serve(receiver))
            group.create_task(self._keep(self._read))
            for traffic in self._senders:
                group.create_task(self._keep(functools.partial(self._send, traffic)))

    async def _keep(self, once: Callable[[], Awaitable[str]]) -> NoReturn:
        """Call `once`, which returns why its lines were lost, again and again with jittered pauses."""
        options, loop = self._options, asyncio.get_running_loop()
        pause_s = options.backoff_min_s
        while True:
            began = loop.time()
            # Whatever a library throws at garbage from the network must not end a daemon.
            try:
                reason = await once()
            except LineLost as error:
                reason = str(error)
            except Exception as error:
                reason = self._address.explain(error)
            heed_cancellation()
            if not reason:
                continue
            if not self._up.is_set():
                self._set_state(False, reason)
            if loop.time() - began > options.backoff_max_s:
                pause_s = options.backoff_min_s
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - guards nothing
            pause_s = min(pause_s * 2, options.backoff_max_s)

    # -- sending --------------------------------------------------------------------------------------------

    async def _send(self, traffic: str) -> str:
        """Have a line to send `traffic` by until it is lost."""
        sender = self._senders[traffic]
        await sender.wanted.wait()
        line = self._line(f"{session_name(self._party, traffic)}.out", persistent=False)
        try:
            await line.open()
            sender.line = line
            sender.ready.set()
            self._note()
            await line.lost.wait()
        finally:
            sender.line = None
            sender.ready.clear()
            await line.close()
        return self._away(line.reason)

    # -- reading --------------------------------------------------------------------------------------------

    async def _read(self) -> str:
        """Read both sessions until one of them is lost, or, with no reason to tell, until `resume` is called."""
        self._resumed.clear()
        lines = [self._session(traffic) for traffic in TRAFFIC]
        lost = True
        try:
            if not self._paused:
                self._inbox.open()
            for traffic, line in zip(TRAFFIC, lines, strict=True):
                await line.open()
                await line.read(session_filter(self._party, traffic))
            self._reading = True
            self._note()
            await self._watch(lines)
            lost = any(line.lost.is_set() for line in lines)
        finally:
            self._inbox.shut()
            if lost:
                self._reading = False
                self._note()
            reasons = [line.reason for line in lines if line.reason]
            for line in lines:
                await line.close()
        return self._away(reasons[0]) if lost else ""

    def _session(self, traffic: str) -> MqttLine:
        def take(routing_key: str, body: bytes, ack: Callable[[], None]) -> None:
            if is_probe(routing_key):
                ack()
            else:
                self._inbox.put(traffic, Delivery(routing_key, body, _awaited(ack)))

        return self._line(session_name(self._party, traffic), persistent=True, take=take)

    async def _watch(self, lines: Sequence[MqttLine]) -> None:
        """Return when a line is lost or the transport was resumed; asks silent sessions for a sign of life."""
        async with asyncio.TaskGroup() as group:
            probing = [
                group.create_task(self._probe(traffic, line)) for traffic, line in zip(TRAFFIC, lines, strict=True)
            ]
            await any_set(self._resumed, *(line.lost for line in lines))
            for task in probing:
                task.cancel()

    async def _probe(self, traffic: str, line: MqttLine) -> NoReturn:
        probe_s, loop = self._options.probe_s, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(line.heard_at + probe_s - loop.time(), probe_s / 10))
            # With something unacknowledged the broker may rightly be silent.
            if line.held or loop.time() < line.heard_at + probe_s:
                continue
            line.sign.clear()
            try:
                await self.publish(probe_key(self._party, self._party, traffic), b"")
                async with asyncio.timeout(probe_s):
                    await line.sign.wait()
                self.probes_answered += 1
            except PublishFailed:
                # That line has troubles of its own; when it is back it is asked again.
                continue
            except TimeoutError:
                line.lose(f"session {session_name(self._party, traffic)} gave no sign of life")

    # -- both -----------------------------------------------------------------------------------------------

    def _line(self, identifier: str, *, persistent: bool, take: Take | None = None) -> MqttLine:
        return MqttLine(
            self._address,
            identifier,
            tls=self._ssl_context or self._address.tls_context(),
            persistent=persistent,
            keepalive_s=self._options.keepalive_s,
            answer_s=self._options.connect_timeout_s,
            take=take,
        )

    def _note(self) -> None:
        """Take notice of lines that came or went. A sending line that goes alone takes nothing down."""
        if self._up.is_set() and not self._reading:
            self._up.clear()
            self._down.set()
            self._set_state(False, f"waiting for the broker at {self._address.about.place}")
        elif self._reading and all(self._senders[traffic].line for traffic in TRAFFIC):
            changed = not self._up.is_set()
            self._down.clear()
            self._up.set()
            detail = f"connected to {self._address.about.place}" + (", paused" if self._paused else "")
            self._set_state(True, detail, changed=changed)

    def _set_state(self, up: bool, detail: str, *, changed: bool = False) -> None:
        said_before = self._state.detail
        self._state = TransportState(up, detail, self._state.changes + int(changed))
        if detail != said_before:
            log.info("broker_connected" if up else "broker_away", party=self._party, detail=detail)

    def _away(self, reason: str) -> str:
        return f"{reason}; waiting for the broker at {self._address.about.place}"


def _awaited(ack: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        ack()

    return acknowledge
