"""TLS to the broker: whom it says it is, until when, and whether this party's authority vouches for it."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs

from cryptography import x509

from broker.certificates import CertificateError, read_certificate
from services.doctor.finding import Finding, Level, Patient, fault, fine, note

CONNECT_TIMEOUT_S: Final = 10.0
EXPIRES_SOON: Final = timedelta(days=30)

# OpenSSL's X509_V_ERR_*; see `man 1 openssl-verification-options`.
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_HOST: Final = (62, 64)
_RENEW: Final = "have it renewed by who made it (a development certificate: `warren tls dev --renew`)"


def check_tls(patient: Patient, url: SplitResult, now: float) -> list[Finding]:
    """The broker's certificate and this party's own. Blocks for a few seconds at most. `now`: seconds since 1970."""
    query = {name: patient.directory / values[0] for name, values in parse_qs(url.query).items()}
    when = datetime.fromtimestamp(now, UTC)
    own = [
        finding
        for name, what in (("cafile", "the authority"), ("certfile", "the client certificate"))
        if name in query
        for finding in _look_at_file(query[name], what, when)
    ]
    if any(finding.code == "certificate_unreadable" for finding in own):
        return own
    return own + _look_at_server(url.hostname or "", url.port or 5671, query, when)


def _look_at_file(path: Path, what: str, now: datetime) -> list[Finding]:
    try:
        facts = read_certificate(path)
    except CertificateError as error:
        advice = "put it there, or correct its path in the key broker of party.toml"
        return [fault("tls", "certificate_unreadable", f"{what}: {error}", advice)]
    return _of_dates(f"{what} {path}", facts.not_before, facts.not_after, now)


def _of_dates(what: str, begins: datetime, ends: datetime, now: datetime) -> list[Finding]:
    """What the dates of a certificate say; nothing where there is time."""
    if now > ends:
        return [fault("tls", "certificate_expired", f"{what} expired on {ends:%Y-%m-%d %H:%M} UTC", _RENEW)]
    if now < begins:
        what = f"{what} is valid from {begins:%Y-%m-%d %H:%M} UTC on only"
        return [fault("tls", "certificate_not_yet", what, "compare this machine's clock with another one")]
    if ends - now < EXPIRES_SOON:
        return [note("tls", "certificate_expires", f"{what} expires on {ends:%Y-%m-%d}", _RENEW)]
    return []


def _look_at_server(host: str, port: int, query: dict[str, Path], now: datetime) -> list[Finding]:
    where = f"the broker at {host}:{port}"
    try:
        shown = _certificate_of(host, port)
    except OSError as error:
        return [fault("broker", "broker_unreachable", f"{where} cannot be reached: {reason_of(error)}", REACH)]
    found = _of_dates(f"the certificate of {where}", shown.not_valid_before_utc, shown.not_valid_after_utc, now)
    try:
        context = ssl.create_default_context(cafile=query.get("cafile"))
        if "certfile" in query:
            context.load_cert_chain(query["certfile"], query.get("keyfile"))
        with _line(host, port) as plain, context.wrap_socket(plain, server_hostname=host) as line:
            version = line.version()
    except ssl.SSLCertVerificationError as error:
        found += _of_refusal(error, where, query.get("cafile"), shown)
    except (OSError, ValueError) as error:
        advice = "the key broker in party.toml has to name a certificate and the key that belongs to it"
        found.append(fault("tls", "tls_failed", f"{where}: no TLS: {reason_of(error)}", advice))
    if any(finding.level is Level.FAULT for finding in found):
        return found
    ends = shown.not_valid_after_utc
    return [*found, fine("tls", f"{where} speaks {version}, its certificate is valid until {ends:%Y-%m-%d}")]


REACH: Final = (
    "is the broker running, is the name in the key broker of party.toml right, and does a firewall let this machine "
    "out? A daemon waits for it meanwhile, and nothing is lost"
)


def _of_refusal(
    error: ssl.SSLCertVerificationError, where: str, authority: Path | None, shown: x509.Certificate
) -> list[Finding]:
    """What OpenSSL has against the server's certificate, where the dates have not said it already."""
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return []
    if error.verify_code in _HOST:
        what = f"the certificate of {where} is for other names"
        advice = "use one of its names in the key broker of party.toml, or have a certificate made for this name"
        return [fault("tls", "certificate_host", what, advice)]
    issuer = shown.issuer.rfc4514_string()
    known = f"the authority in {authority}" if authority else "the authorities of this system"
    what = f"{known} does not vouch for {where}: its certificate is issued by {issuer} ({error.verify_message})"
    advice = (
        "ask the broker's operator for the authority's certificate by a way you trust and name it with `cafile=` in "
        "the key broker of party.toml; if you have the right one, somebody else answers in the broker's place"
    )
    return [fault("tls", "authority_wrong", what, advice)]


def _certificate_of(host: str, port: int) -> x509.Certificate:
    """The certificate that a server shows, whoever vouches for it. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only looked at: nothing is said on this line.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _line(host, port) as plain, context.wrap_socket(plain, server_hostname=host) as line:
        data = line.getpeercert(binary_form=True)
    if data is None:
        raise OSError("it shows no certificate")
    return x509.load_der_x509_certificate(data)


@contextmanager
def _line(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as line:
        yield line


def reason_of(error: Exception) -> str:
    """Why, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error.strerror or "TLS failed").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)[:200] or type(error).__name__
