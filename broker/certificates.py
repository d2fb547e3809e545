"""X.509 certificates: a development authority that makes them, and what one says of itself.

For trials and tests. In production every organisation has an authority of its own, and keys are made where they
are used; what has to be in the certificates is the same.

A directory made here holds

* `ca.pem` and `ca.key`, the authority;
* `broker.pem` and `broker.key`, for the broker, valid for its host names;
* `<party>.pem` and `<party>.key` per party, whose common name is its broker user;
* `for-<peer>/` per linked organisation, the three files that its broker needs to collect from ours:
  `<party>.ca.pem`, and `<party>.pem` and `<party>.key`, whose common name is `shovel.<peer>`.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.topology import check_name, shovel_user

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
RESERVED: Final = ("ca", "broker")
"""Names of files that no party can have."""

_BACKDATED: Final = timedelta(minutes=5)
"""Another machine's clock may be a little late."""


class CertificateError(Exception):
    """A certificate cannot be made or read; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        name: the common name, at RabbitMQ the user.
        hosts: host names and addresses that it is valid for; none for a client's.
        issuer: the common name of who signed it.
        not_before: from when it is valid, UTC.
        not_after: until when it is valid, UTC.

    """

    name: str
    hosts: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime

    def expired(self, now: datetime) -> bool:
        """Whether it is over at `now`."""
        return now > self.not_after

    def days_left(self, now: datetime) -> int:
        """Whole days until it is over; below 0 when it is."""
        return (self.not_after - now) // timedelta(days=1)


def read_certificate(path: Path) -> CertificateFacts:
    """The first certificate of a PEM file; raises `CertificateError`."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{path}: holds no certificate in PEM") from None
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        hosts: tuple[str, ...] = ()
    else:
        addresses = names.get_values_for_type(x509.IPAddress)
        hosts = (*names.get_values_for_type(x509.DNSName), *map(str, addresses))
    return CertificateFacts(
        name=common_name(found.subject),
        hosts=hosts,
        issuer=common_name(found.issuer),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, now: datetime, days: int = AUTHORITY_DAYS) -> "Authority":
        """A fresh one that calls itself `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _key_usage(signs_certificates=True)
        certificate = (
            _builder(subject, subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, directory: Path) -> "Authority":
        """The one of `ca.pem` and `ca.key`; raises `CertificateError`."""
        try:
            certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
        except OSError as error:
            raise CertificateError(f"{error.filename}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise CertificateError(f"{directory}: ca.pem or ca.key is damaged; start with an empty directory") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CertificateError(f"{directory}: ca.key is not the key of ca.pem; start with an empty directory")
        return cls(certificate, key)

    def issue(self, name: str, now: datetime, days: int, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """Certificate and key in PEM: for a server that is reached as `hosts`, without them for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.certify(key.public_key(), name, now, days, hosts), pem_of_key(key)

    def certify(
        self,
        key: CertificatePublicKeyTypes,
        name: str,
        now: datetime,
        days: int,
        hosts: Sequence[str] = (),
    ) -> bytes:
        """The certificate in PEM of a key that somebody else has."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(subject, self.certificate.subject, key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(signer, critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([host_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return _pem(builder.sign(self.key, hashes.SHA256()))


def make_development(
    directory: Path,
    hosts: Sequence[str],
    parties: Sequence[str],
    *,
    peers: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
    renew: bool = False,
    shared_keys: bool = False,
    now: datetime | None = None,
) -> list[str]:
    """Fill a directory as the heading says, and tell it in lines for the operator.

    What is there already is kept, so that a party can be added later.

    Args:
        directory: made with mode 0700 when it is missing.
        hosts: names and addresses under which clients reach the broker; `localhost` and 127.0.0.1 are added.
        parties: get a client certificate each.
        peers: organisations with a broker of their own that collect from this one; then there is one party.
        days: validity of everything but the authority.
        renew: make the certificates of broker, parties and peers anew, with the authority that is there.
        shared_keys: let other users read the keys, as containers with user ids of their own have to; the directory
            itself stays closed to them.
        now: the beginning of validity; the present when not given.

    Raises:
        CertificateError: a name is none, or a file is damaged.

    """
    _check(hosts, parties, peers)
    now = now or datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = []
    if not (directory / "ca.pem").exists():
        authority = Authority.make(f"Warren development authority of {' and '.join(parties)}"[:64], now)
        write_file(directory / "ca.key", pem_of_key(authority.key), 0o600)
        write_file(directory / "ca.pem", _pem(authority.certificate), 0o644)
        told.append(f"{directory / 'ca.pem'}: a new authority")
    authority = Authority.load(directory)
    served = tuple(dict.fromkeys((*hosts, "localhost", "127.0.0.1")))
    wanted = [(directory / "broker", hosts[0], served), *((directory / party, party, ()) for party in parties)]
    wanted += [(directory / f"for-{peer}" / parties[0], shovel_user(peer), ()) for peer in peers]
    for path, name, valid_for in wanted:
        certificate, key = path.parent / f"{path.name}.pem", path.parent / f"{path.name}.key"
        if certificate.exists() and not renew:
            told.append(f"{certificate}: kept, valid until {read_certificate(certificate).not_after:%Y-%m-%d}")
            continue
        path.parent.mkdir(exist_ok=True, mode=0o700)
        certificate_pem, key_pem = authority.issue(name, now, days, valid_for)
        write_file(key, key_pem, 0o644 if shared_keys else 0o600)
        write_file(certificate, certificate_pem, 0o644)
        said = f"hosts {', '.join(valid_for)}" if valid_for else f"broker user {name}"
        told.append(f"{certificate}: {said}, valid until {now + timedelta(days=days):%Y-%m-%d}")
    for peer in peers:
        write_file(directory / f"for-{peer}" / f"{parties[0]}.ca.pem", _pem(authority.certificate), 0o644)
    return told


def _check(hosts: Sequence[str], parties: Sequence[str], peers: Sequence[str]) -> None:
    if not hosts or not parties:
        raise CertificateError("give at least one host of the broker and one party")
    if peers and len(parties) != 1:
        raise CertificateError("a broker that peers collect from is one party's: give one party")
    for name in (*parties, *peers):
        try:
            check_name(name)
        except ValueError as error:
            raise CertificateError(str(error)) from None
        if name in RESERVED:
            raise CertificateError(f"no party can be called {name} here: its files would be those of the {name}")
    for host in hosts:
        host_name(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(host: str) -> x509.GeneralName:
    """A host of a certificate. Raises CertificateError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertificateError(f"{host[:60]!r} is no host name") from None


def common_name(name: x509.Name) -> str:
    """The name that a certificate or a request is for."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM, not encrypted."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file that never has more readers than `mode` says; raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    path.chmod(mode)
