"""The broker as a party that speaks MQTT finds it: login, subscription, and what it may and may not send.

Under a client identifier of its own, so that a running daemon keeps its lines; what is sent is this party's question to
itself, which its transport knows and drops, or has no recipient.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from aiomqtt.exceptions import MqttConnectError

from broker.mqtt_line import LineLost, MqttAddress, MqttLine
from broker.sessions import session_filter, session_name
from broker.topology import probe_key
from services.doctor.finding import Finding, Patient, fault, fine
from services.doctor.tls import CONNECT_TIMEOUT_S, REACH

APPLY: Final = "have the broker's administrator run `warren broker apply` with all parties and `--mqtt` for this one"
KEEPALIVE_S: Final = 10
REFUSAL_S: Final = 5.0


async def check_session(patient: Patient, url: str) -> list[Finding]:
    """What can be seen of the broker over MQTT. `url`: with paths that are absolute."""
    me = patient.file.name
    try:
        address = MqttAddress.parse(url, me, allow_plain=False)
    except ValueError as error:
        return [fault("broker", "broker_url", f"the key broker in party.toml: {error}", "write mqtts://host/vhost")]
    came = asyncio.Event()
    probe = probe_key(me, me, "control")

    def take(routing_key: str, body: bytes, ack: Callable[[], None]) -> None:
        del body
        ack()
        if routing_key == probe:
            came.set()

    line = MqttLine(
        address,
        session_name(me, "probe"),
        tls=address.tls_context(),
        persistent=False,
        keepalive_s=KEEPALIVE_S,
        answer_s=CONNECT_TIMEOUT_S,
        take=take,
    )
    try:
        try:
            await line.open()
        except Exception as error:
            if isinstance(error, MqttConnectError):
                advice = f"compare name, password and vhost: {APPLY}"
                return [fault("broker", "login_refused", address.explain(error), advice)]
            return [fault("broker", "broker_unreachable", address.explain(error), REACH)]
        found = [fine("broker", f"the broker at {address.about.place} lets {address.about.user} in over MQTT")]
        return found + await _rights(line, address, me, probe, came)
    finally:
        await line.close()


async def _rights(line: MqttLine, address: MqttAddress, me: str, probe: str, came: asyncio.Event) -> list[Finding]:
    user = address.about.user
    try:
        await line.read(session_filter(me, "control"))
    except LineLost:
        what = f"{user} may not subscribe to {session_filter(me, 'control')}, or exchange and vhost are other ones"
        return [fault("rights", "read_refused", what, APPLY)]
    try:
        await line.send(probe, b"", REFUSAL_S)
        async with asyncio.timeout(REFUSAL_S):
            await came.wait()
    except LineLost:
        what = f"{user} may not send in its own name: the broker closed the line at {probe}"
        return [fault("rights", "topic_permission_missing", what, APPLY)]
    except TimeoutError:
        what = "what this party sends to itself does not come back"
        return [fault("queues", "binding_missing", what, "is mqtt.exchange in the broker's rabbitmq.conf `warren`?")]
    nobody = f"nobody-{secrets.token_hex(8)}"
    try:
        await line.send(f"from.{nobody}.to.{nobody}.control.none.none", b"", REFUSAL_S)
    except (LineLost, TimeoutError):
        return [fine("rights", f"{user} may do what a party has to, and not write in others' names")]
    what = f"{user} may write in the name of others: its topic permission is missing or too wide"
    return [fault("rights", "topic_permission_missing", what, APPLY)]
