"""Links to brokers of other organisations, as the administrator of the own broker sees them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from broker.management import Management, ManagementError
from broker.topology import delivery_user, out_queue_name
from services.doctor.finding import Finding, fault, fine, note, unknown

SETTLED_S: Final = 12.0
"""RabbitMQ's figures lag behind by 5 s and more: what is wrong for longer is wrong."""
_PAUSE_S: Final = 0.5


def linked_peers(management: Management, vhost: str, peers: Sequence[str]) -> list[str]:
    """Those of `peers` that a shovel here collects from, or that something here waits for; none at a shared broker.

    Raises ManagementError.
    """
    return [
        peer
        for peer in peers
        if management.exists("queues", vhost, out_queue_name(peer))
        or management.exists("parameters", "shovel", vhost, f"from.{peer}")
    ]


def check_links(management: Management, vhost: str, peers: Sequence[str]) -> list[Finding]:
    """Whether what `peers` say arrives, and what they are told is collected. Blocks. Raises ManagementError."""
    if not peers:
        return []
    try:
        management.get("shovels", vhost)
    except ManagementError as error:
        if error.status != 404:
            raise
        advice = "`rabbitmq-plugins enable rabbitmq_shovel_management`, or look at `rabbitmqctl shovel_status`"
        return [unknown("links", "whether links run was not looked at: RabbitMQ does not show its shovels", advice)]
    found = [finding for peer in peers for finding in _settled(management, vhost, peer)]
    return found or [fine("links", f"links run with {', '.join(peers)}")]


def _settled(management: Management, vhost: str, peer: str) -> list[Finding]:
    """What is wrong with a link for longer than figures lag behind. One that goes down at once is up between whiles."""
    deadline, well = time.monotonic() + SETTLED_S, 0
    while True:
        seen = _of_link(management, vhost, peer)
        well = 0 if seen else well + 1
        if well == 2 or (seen and time.monotonic() > deadline):
            return seen
        time.sleep(_PAUSE_S)


def _of_link(management: Management, vhost: str, peer: str) -> list[Finding]:
    return [*_of_shovel(management, vhost, peer), *_of_collecting(management, vhost, peer)]


def _of_shovel(management: Management, vhost: str, peer: str) -> list[Finding]:
    """What comes from the peer."""
    name = f"from.{peer}"
    shovel = next((entry for entry in _records(management.get("shovels", vhost)) if entry.get("name") == name), None)
    if shovel is None:
        advice = "run `warren broker apply --own ... --peer ...`"
        return [fault("links", "link_missing", f"there is no shovel {name}: nothing of {peer} arrives", advice)]
    if shovel.get("state") != "running":
        place = urlsplit(str(shovel.get("src_uri", ""))).netloc or f"the broker of {peer}"
        why = shovel.get("reason", "no reason given")
        what = f"the shovel {name} is {shovel.get('state')}: nothing of {peer} arrives ({why})"
        advice = (
            f"can this broker reach {place}, and does that one take the certificate that {peer} has made for it? "
            "The logs of both brokers say"
        )
        return [fault("links", "link_down", what, advice)]
    if not any(_is_publishing(channel, vhost, peer) for channel in _records(management.get("channels"))):
        refused = f"refused for user '{delivery_user(peer)}'"
        what = f"the shovel {name} hands nothing over: at {peer}'s broker lies a message that {peer} may not send"
        advice = f"this broker's log has its key (`{refused}`); let {peer} remove it, then run `warren broker apply`"
        return [fault("links", "link_stuck", what, advice)]
    return []


def _is_publishing(channel: Mapping[str, Any], vhost: str, peer: str) -> bool:
    return channel.get("user") == delivery_user(peer) and channel.get("vhost") == vhost


def _of_collecting(management: Management, vhost: str, peer: str) -> list[Finding]:
    """What goes to the peer."""
    name = out_queue_name(peer)
    if not management.exists("queues", vhost, name):
        return []  # told with the other queues
    queue = management.get("queues", vhost, name)
    if isinstance(queue, dict) and not queue.get("consumers"):
        advice = f"is the broker of {peer} there, and its link to this one? What waits is kept"
        return [note("links", "link_uncollected", f"nobody collects {name}: {peer} hears nothing", advice)]
    return []


def _records(answer: object) -> list[Mapping[str, Any]]:
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []
