"""RabbitMQ's management HTTP API, as far as the topology needs it: a few PUTs and GETs.

Source: RabbitMQ's "HTTP API Reference" of the management plug-in (`/api/...`).
"""

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 64 * 2**20


class ManagementError(Exception):
    """A request failed. `status` is the HTTP status, 0 when there was no answer; no secret is in the text."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Management:
    """A client for one broker.

    Args:
        url: `http[s]://user:password@host:port`. User and password stay out of every repr and error.
        ssl_context: how to check an https server; the system's authorities when not given.

    """

    def __init__(self, url: str, *, ssl_context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a management URL is http[s]://user:password@host:port")
        host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
        port = f":{parts.port}" if parts.port else ""
        self._root = urlunsplit((parts.scheme, host + port, parts.path.rstrip("/"), "", ""))
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        self._authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.HTTPSHandler(context=ssl_context)]
        if parts.hostname in ("localhost", "127.0.0.1", "::1"):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def __repr__(self) -> str:
        return f"Management({self._root!r})"

    def version(self) -> str:
        """The server's version text, such as "3.10.8"; raises `ManagementError`."""
        overview = self.get("overview")
        return str(overview.get("rabbitmq_version", "")) if isinstance(overview, dict) else ""

    def exists(self, *path: str) -> bool:
        """Whether GET `/api/<path>` finds something; raises `ManagementError`."""
        try:
            self.get(*path)
        except ManagementError as error:
            if error.status == 404:
                return False
            raise
        return True

    def get(self, *path: str) -> object:
        """The decoded answer to GET `/api/<path>`; raises `ManagementError`."""
        return self._request("GET", path, None)

    def put(self, *path: str, body: object) -> None:
        """PUT `/api/<path>`; raises `ManagementError`."""
        self._request("PUT", path, body)

    def post(self, *path: str, body: object) -> object:
        """POST `/api/<path>` and the decoded answer; raises `ManagementError`."""
        return self._request("POST", path, body)

    def delete(self, *path: str) -> None:
        """DELETE `/api/<path>`; raises `ManagementError`."""
        self._request("DELETE", path, None)

    def _request(self, method: str, path: tuple[str, ...], body: object) -> object:
        url = f"{self._root}/api/" + "/".join(quote(part, safe="") for part in path)
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked in __init__
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                text = answer.read(ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as error:
            with error:
                reason = _reason(error.read(65_536))
            raise ManagementError(error.code, f"{method} {url}: {error.code} {reason}") from None
        except (OSError, ValueError) as error:
            raise ManagementError(0, f"no answer from {self._root}: {_cause(error)}") from None
        return json.loads(text) if text else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Credentials go to the host that was named and to no other."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing: the redirect becomes an `HTTPError`."""


def make_definitions(
    management: Management,
    vhost: str,
    definitions: Mapping[str, object],
    *,
    overwrite_users: Collection[str] = (),
) -> list[str]:
    """Make what a definitions document says of one vhost, and tell it in lines for the operator.

    One request per thing and no import of all at once: an import keeps quiet about a queue that exists with
    other arguments. A user that exists is left alone unless it is among `overwrite_users`.

    Raises:
        ManagementError: the broker refused; what came before is made, and doing it again is harmless.

    """
    done = []
    if not management.exists("vhosts", vhost):
        management.put("vhosts", vhost, body={"default_queue_type": "quorum"})
        done.append(f"vhost {vhost}")
    for kind in ("exchanges", "queues"):
        for thing in _records(definitions[kind]):
            management.put(kind, vhost, str(thing["name"]), body=_without(thing, "name", "vhost"))
            done.append(f"{kind[:-1]} {thing['name']}")
    for binding in _records(definitions["bindings"]):
        path = ("bindings", vhost, "e", str(binding["source"]), "q", str(binding["destination"]))
        management.post(*path, body={"routing_key": binding["routing_key"], "arguments": {}})
    for user in _records(definitions["users"]):
        name = str(user["name"])
        if name in overwrite_users or not management.exists("users", name):
            management.put("users", name, body=_without(user, "name"))
            done.append(f"user {name}")
    return done + _make_rules(management, vhost, definitions)


def _make_rules(management: Management, vhost: str, definitions: Mapping[str, object]) -> list[str]:
    """Permissions of users, shovels and policies."""
    done = []
    for kind in ("permissions", "topic_permissions"):
        for right in _records(definitions[kind]):
            body = _without(right, "user", "vhost")
            management.put(kind.replace("_", "-"), vhost, str(right["user"]), body=body)
            done.append(f"{kind.replace('_', ' ')} of {right['user']}")
    for parameter in _records(definitions.get("parameters", [])):
        component, name = str(parameter["component"]), str(parameter["name"])
        management.put("parameters", component, vhost, name, body={"value": parameter["value"]})
        done.append(f"{component} {name}")
    for policy in _records(definitions.get("policies", [])):
        management.put("policies", vhost, str(policy["name"]), body=_without(policy, "name", "vhost"))
        done.append(f"policy {policy['name']}")
    return done


def _records(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def _without(record: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in names}


def _cause(error: OSError | ValueError) -> str:
    """Why there was no answer; it names the host at most."""
    cause = getattr(error, "reason", error)  # of a URLError
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    return str(getattr(cause, "strerror", None) or cause)


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("reason", ""))[:500]
    except (ValueError, AttributeError):
        return ""
