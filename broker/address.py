"""A broker's URL, what of it may be shown, and in one sentence why a connection to it does not come about."""

import errno
import os
import re
import socket
import ssl
from asyncio import IncompleteReadError
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from aiormq.exceptions import AuthenticationError, InvalidFrameError, ProbableAuthenticationError
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from broker.certificates import CertificateError, read_certificate
from broker.hosts import is_this_machine
from broker.topology import VHOST

APPLY_HINT: Final = "run `warren broker apply`"

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_NO_CONNECTION: Final = {
    errno.ECONNREFUSED: "nobody listens there: is the broker running, and is the port right?",
    errno.ECONNRESET: "the connection was ended from there",
    errno.EPIPE: "the connection was ended from there",
    errno.ETIMEDOUT: "no answer in time",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "there is no way to it on the network",
}

# Numbers of OpenSSL (x509_vfy.h) for what is wrong with a certificate.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_HOST_MISMATCH: Final = (62, 64)


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A broker's URL with everything in it, and the parts that may be shown.

    Attributes:
        url: with the password, if there is one.
        place: host and port.
        user: as the broker will know us.
        vhost: the virtual host.
        password: empty when a certificate takes its place.
        authority: file of the authorities that the broker's certificate is checked with; empty: the system's.
        certificate: file of our certificate; empty: none.
        key: file of its key.
        encrypted: whether TLS is spoken.

    """

    url: str
    place: str
    user: str
    vhost: str
    password: str
    authority: str
    certificate: str
    key: str
    encrypted: bool

    @classmethod
    def parse(cls, url: str, party: str, heartbeat_s: int, *, allow_plain: bool = False) -> "Address":
        """Read `amqp[s]://...`; raises ValueError, also where it goes without TLS to another machine."""
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError("a broker's URL is amqps://user:password@host/vhost")
        if parts.scheme == "amqp" and not allow_plain and not is_this_machine(parts.hostname):
            raise ValueError(f"the broker at {parts.hostname} is another machine: its URL must begin with amqps://")
        path = parts.path if parts.path not in ("", "/") else f"/{VHOST}"
        query = {"heartbeat": str(heartbeat_s), "name": f"warren {party}"} | dict(parse_qsl(parts.query))
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        return cls(
            url=urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), "")),
            place=f"{parts.hostname}:{port}",
            user=unquote(parts.username or party),
            vhost=unquote(path[1:]),
            password=unquote(parts.password or ""),
            authority=query.get("cafile", ""),
            certificate=query.get("certfile", ""),
            key=query.get("keyfile", ""),
            encrypted=parts.scheme == "amqps",
        )

    def explain(self, error: Exception) -> str:
        """A sentence for the operator, without the password: what is wrong and whose it is to mend."""
        if isinstance(error, ProbableAuthenticationError | AuthenticationError):
            return f"the broker at {self.place} refuses the login of {self.user}{self.as_whom()}"
        if isinstance(error, InvalidFrameError):
            # What aiormq makes of a refused vhost.
            return f"the broker at {self.place} refuses {self.user} the vhost {self.vhost}: {APPLY_HINT}"
        if self.encrypted:
            # First what can be seen here: a broker that refuses a certificate may hang up without saying why.
            said = own_fault(self, datetime.now(UTC)) or self._explain_tls(error)
            if said:
                return said
        elif _hung_up(error):
            scheme = urlsplit(self.url).scheme
            return f"the broker at {self.place} ended the connection at once: if it takes TLS only, the URL begins {scheme}s://"
        text = in_words(error)
        if self.password:
            text = text.replace(self.password, "***")
        return f"waiting for the broker at {self.place} ({text[:300]})"

    def as_whom(self) -> str:
        """The name that our certificate gives us, where it is the login."""
        if not self.certificate or self.password:
            return ""
        try:
            name = read_certificate(Path(self.certificate)).name
        except CertificateError:
            return ""
        return f" by the certificate {self.certificate} of {name}: no user has that name there, {APPLY_HINT}"

    def _explain_tls(self, error: Exception) -> str:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._explain_certificate(cause)
            if isinstance(cause, ssl.SSLError) and cause.reason:
                said = self._explain_alert(cause.reason)
                if said:
                    return said
        if _hung_up(error):
            wants = f"does not take our certificate {self.certificate}" if self.certificate else "wants a certificate"
            return (
                f"the broker at {self.place} ended the connection without a word, as one does that {wants}: "
                "its cacertfile must hold the authority that signed ours"
            )
        return ""

    def _explain_certificate(self, error: ssl.SSLCertVerificationError) -> str:
        broker = f"the certificate of the broker at {self.place}"
        match error.verify_code:
            case code if code == _EXPIRED:
                return f"{broker} has expired: whoever runs the broker renews it; is the clock of this machine right?"
            case code if code == _NOT_YET_VALID:
                return f"{broker} is not valid yet: compare the clocks of this machine and of the broker's"
            case code if code in _HOST_MISMATCH:
                return f"{broker} is for another host: use a name in the URL that is in it ({error.verify_message})"
            case _:
                known = self.authority or "the system's authorities"
                return (
                    f"{broker} is not signed by an authority in {known}: ask whoever runs the broker for its ca.pem; "
                    f"until then somebody else may be answering ({error.verify_message})"
                )

    def _explain_alert(self, reason: str) -> str:
        ours = f"our certificate {self.certificate or '(none)'}"
        match reason:
            case "TLSV13_ALERT_CERTIFICATE_REQUIRED":
                return f"the broker at {self.place} wants a client certificate: certfile and keyfile in the URL"
            case "SSLV3_ALERT_CERTIFICATE_EXPIRED":
                return f"the broker at {self.place} says that {ours} has expired: compare the clocks, or renew it"
            case "TLSV1_ALERT_UNKNOWN_CA" | "SSLV3_ALERT_BAD_CERTIFICATE" | "SSLV3_ALERT_CERTIFICATE_UNKNOWN":
                return (
                    f"the broker at {self.place} does not take {ours}: its cacertfile must hold the authority that "
                    "signed it"
                )
            case "WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE":
                return f"at {self.place} nobody speaks TLS: a broker's TLS listener is 5671 as a rule, for MQTT 8883"
            case _:
                return ""


def in_words(error: BaseException) -> str:
    """Why there is no connection, without the numbers of the operating system; of what is not known kind and text."""
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "no address is known for this host name"
    # Of a name with several addresses, asyncio tells what became of each in one text.
    said = {int(number) for cause in causes for number in _ERRNO.findall(str(cause))}
    said |= {cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno}
    for number, words in _NO_CONNECTION.items():
        if number in said:
            return words
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"


def own_fault(address: Address, now: datetime) -> str:
    """What is wrong with the files that a URL names, as far as can be seen on this machine; empty if nothing is."""
    for key, file in (("cafile", address.authority), ("certfile", address.certificate), ("keyfile", address.key)):
        if file and not os.access(file, os.R_OK):
            problem = "cannot be read by this user" if Path(file).exists() else "is not there"
            return f"the file {file} ({key} in the broker's URL) {problem}"
    if not address.certificate:
        return ""
    try:
        found = read_certificate(Path(address.certificate))
    except CertificateError as error:
        return f"certfile in the broker's URL: {error}"
    if found.expired(now):
        return f"our certificate {address.certificate} has expired on {found.not_after:%Y-%m-%d}: have it renewed"
    if now < found.not_before:
        return (
            f"our certificate {address.certificate} is valid from {found.not_before:%Y-%m-%d %H:%M} UTC only: "
            "is the clock of this machine right?"
        )
    return _key_fault(address)


def _key_fault(address: Address) -> str:
    if not address.key:
        return f"the broker's URL names the certificate {address.certificate} without its key: add keyfile"
    try:
        key = load_pem_private_key(Path(address.key).read_bytes(), password=None)
    except (ValueError, TypeError):
        return f"the file {address.key} (keyfile in the broker's URL) holds no private key in PEM without a password"
    if key.public_key() != load_pem_x509_certificate(Path(address.certificate).read_bytes()).public_key():
        return f"the key {address.key} is not the one of the certificate {address.certificate}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, each once: aiormq raises errors from themselves."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__ or following.__context__


def _hung_up(error: Exception) -> bool:
    return any(isinstance(cause, ConnectionResetError | IncompleteReadError) for cause in _causes(error))
