"""Requests to sign: keys that are made where they are used, and certificates of one's own authority for them.

A key never travels. Its owner makes it with a request (PKCS #10, RFC 2986); who runs the authority says in whose name
the request may be, because a broker lets a certificate's common name in as that user.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.certificates import Authority, CertificateError, common_name, host_name, pem_of_key, write_file

NAME_LENGTH_MAX = 64
"""Of a common name (RFC 5280, appendix A.1)."""


def make_request(directory: Path, name: str, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
    """A fresh key and a request for it: `<name>.key`, mode 0600, and `<name>.csr.pem`. Returns their paths.

    Args:
        directory: made with mode 0700 when it is missing.
        name: the common name: a party, `shovel.<peer>`, or a broker's first host.
        hosts: names and addresses of a server; none of a client.

    Raises:
        CertificateError: a name is none, or a key of this name is there already.

    """
    if not 0 < len(name) <= NAME_LENGTH_MAX or "/" in name or name.startswith(".") or not name.isprintable():
        raise CertificateError(f"{name[:80]!r} is no name for a certificate: 1 to {NAME_LENGTH_MAX} characters, no /")
    names = [host_name(host) for host in hosts]
    key_path, request_path = directory / f"{name}.key", directory / f"{name}.csr.pem"
    if key_path.exists():
        raise CertificateError(
            f"{key_path}: there is a key already; name a new directory, or remove it if it is not used"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, hashes.SHA256())
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(key_path, pem_of_key(key), 0o600)
    write_file(request_path, request.public_bytes(serialization.Encoding.PEM), 0o644)
    return key_path, request_path


def sign_request(
    path: Path, authority: Authority, name: str, *, now: datetime, days: int, hosts: Sequence[str] = ()
) -> bytes:
    """The certificate in PEM for a request's key, with the authority's own words about everything else.

    Args:
        path: the request in PEM.
        authority: who signs.
        name: whose it must be. A request in another name is refused.
        now: the beginning of validity.
        days: validity.
        hosts: those of a server; none of a client. What the request asks for is not taken over.

    Raises:
        CertificateError: the file is no request, is damaged, or is in another name.

    """
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        fits = request.is_signature_valid
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise CertificateError(f"{path}: holds no certificate request in PEM") from None
    if not fits:
        raise CertificateError(f"{path}: the request is not signed with its own key; ask for a new one")
    asked = common_name(request.subject)
    if asked != name:
        raise CertificateError(
            f"{path}: the request is for {asked[:80]!r}, not for {name!r}; sign it only if it may be that user"
        )
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) and getattr(key, "key_size", 4096) < 2048:
        raise CertificateError(f"{path}: its key is shorter than 2048 bits; ask for another one")
    return authority.certify(key, name, now, days, hosts)
