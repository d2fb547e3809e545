"""Requests to sign: the key stays where it is made, and a certificate is in the name that its signer meant."""

import asyncio
import re
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker import applying
from broker.amqp import AmqpOptions, AmqpTransport
from broker.certificates import Authority, CertificateError, make_development, read_certificate
from broker.signing import make_request, sign_request
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, guarded
from tests.broker.collector import Collector
from tests.broker.stories import in_time, running
from tests.broker.test_certificates import certificate, serves, signs_in
from tests.rabbitmq import CERTIFICATE_PARTIES, certificates, running_broker, tls_url

OWN, PEER = CERTIFICATE_PARTIES
NOW = datetime.now(UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "broker.md"


def gets_in(files: Path) -> None:
    """The session's broker lets the party in with its certificate in `files`, or the test fails by its time limit."""
    asyncio.run(applying.apply(running_broker().admin_url, CERTIFICATE_PARTIES))

    async def story() -> None:
        transport = AmqpTransport(tls_url(OWN, files=files), OWN, [PEER], options=AmqpOptions())
        async with running(transport, Collector()):
            await transport.connected()

    in_time(story())


def authority(directory: Path) -> Path:
    """A directory with the authority of the session's broker."""
    directory.mkdir(exist_ok=True)
    for name in ("ca.pem", "ca.key"):
        shutil.copy(certificates() / name, directory)
    return directory


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "tls", *arguments])
    return guarded(app)


def test_a_signed_request_lets_its_party_in_and_the_key_has_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = authority(tmp_path / "tls")
    assert run(monkeypatch, "request", str(tmp_path / "keys"), "--name", OWN) == DONE
    key = tmp_path / "keys" / f"{OWN}.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    request, made = str(tmp_path / "keys" / f"{OWN}.csr.pem"), str(tmp_path / "keys" / f"{OWN}.pem")
    assert run(monkeypatch, "sign", request, "--authority", str(files), "--name", OWN, "--out", made) == DONE
    assert signs_in(Path(made), files / "ca.pem")
    assert load_pem_private_key(key.read_bytes(), None).public_key() == certificate(Path(made)).public_key()
    shutil.copy(files / "ca.pem", tmp_path / "keys")
    gets_in(tmp_path / "keys")


def test_hosts_are_those_that_the_signer_names_and_not_those_of_the_request(tmp_path: Path) -> None:
    make_development(tmp_path / "tls", ["rabbitmq"], ["shop"], now=NOW)
    known = Authority.load(tmp_path / "tls")
    _, request = make_request(tmp_path / "keys", "rabbitmq", ["rabbitmq", "elsewhere.example"])
    (tmp_path / "one.pem").write_bytes(sign_request(request, known, "rabbitmq", now=NOW, days=3, hosts=["rabbitmq"]))
    assert serves(tmp_path / "one.pem", tmp_path / "tls" / "ca.pem", "rabbitmq", NOW)
    assert not serves(tmp_path / "one.pem", tmp_path / "tls" / "ca.pem", "elsewhere.example", NOW)
    (tmp_path / "two.pem").write_bytes(sign_request(request, known, "rabbitmq", now=NOW, days=3))
    assert read_certificate(tmp_path / "two.pem").hosts == ()


def test_a_request_in_another_name_or_none_is_refused_with_its_file(tmp_path: Path) -> None:
    make_development(tmp_path / "tls", ["rabbitmq"], ["shop"], now=NOW)
    known = Authority.load(tmp_path / "tls")
    _, request = make_request(tmp_path / "keys", "bank")
    with pytest.raises(CertificateError, match=r"bank\.csr\.pem: the request is for 'bank', not for 'shop'"):
        sign_request(request, known, "shop", now=NOW, days=3)
    for file, said in (
        ("tls/shop.pem", "no certificate request"),
        ("none", "cannot be read"),
        ("tls", "cannot be read"),
    ):
        with pytest.raises(CertificateError, match=said):
            sign_request(tmp_path / file, known, "shop", now=NOW, days=3)
    other = make_request(tmp_path / "other", "bank")[1].read_text().splitlines()
    mixed = request.read_text().splitlines()
    request.write_text("\n".join([*mixed[:3], *other[3:]]))
    with pytest.raises(CertificateError, match=r"bank\.csr\.pem"):
        sign_request(request, known, "bank", now=NOW, days=3)


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = make_request(tmp_path, "bank")
    before = key.read_bytes()
    assert run(monkeypatch, "request", str(tmp_path), "--name", "bank") == BAD_INPUT
    assert key.read_bytes() == before
    for name in ("", "a/b", "..", "a" * 65, "a\n"):
        with pytest.raises(CertificateError, match="no name for a certificate"):
            make_request(tmp_path, name)


def test_what_the_document_says_of_openssl_makes_certificates_that_are_accepted(tmp_path: Path) -> None:
    files = authority(tmp_path / "openssl")
    (block,) = [
        found for found in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "openssl" in found
    ]
    done = subprocess.run(["bash", "-e", "-c", block], cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert signs_in(files / f"{OWN}.pem", files / "ca.pem")
    assert serves(files / "broker.pem", files / "ca.pem", "localhost", datetime.now(UTC))
    gets_in(files)
