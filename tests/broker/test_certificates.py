"""The development authority: who its certificates are good for, and for how long."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from broker.certificates import CertificateError, make_development, read_certificate
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, FAILED, guarded

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def serves(path: Path, authority: Path, host: str, at: datetime = NOW) -> bool:
    """Whether a strict verifier takes a certificate as that of the server `host`."""
    policy = PolicyBuilder().store(Store([certificate(authority)])).time(at)
    try:
        policy.build_server_verifier(x509.DNSName(host)).verify(certificate(path), [])
    except VerificationError:
        return False
    return True


def signs_in(path: Path, authority: Path) -> bool:
    """Whether a certificate is signed by `authority`, and for clients only."""
    certificate(path).verify_directly_issued_by(certificate(authority))
    usage = certificate(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    return list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_brokers_certificate_is_good_for_its_hosts_and_for_no_other(tmp_path: Path) -> None:
    make_development(tmp_path, ["rabbitmq", "broker.example"], ["shop", "bank"], now=NOW)
    broker, authority = tmp_path / "broker.pem", tmp_path / "ca.pem"
    assert read_certificate(broker).hosts == ("rabbitmq", "broker.example", "localhost", "127.0.0.1")
    for host in ("broker.example", "localhost"):
        assert serves(broker, authority, host)
    assert not serves(broker, authority, "other.example")
    assert not signs_in(broker, authority)
    assert signs_in(tmp_path / "shop.pem", authority)
    assert not serves(tmp_path / "shop.pem", authority, "shop")


def test_a_certificate_is_over_on_its_day_and_not_known_to_another_authority(tmp_path: Path) -> None:
    make_development(tmp_path / "one", ["rabbitmq"], ["shop"], days=30, now=NOW)
    make_development(tmp_path / "other", ["rabbitmq"], ["shop"], now=NOW)
    broker, authority = tmp_path / "one" / "broker.pem", tmp_path / "one" / "ca.pem"
    assert serves(broker, authority, "rabbitmq", NOW + timedelta(days=29))
    assert not serves(broker, authority, "rabbitmq", NOW + timedelta(days=31))
    assert not serves(broker, tmp_path / "other" / "ca.pem", "rabbitmq")
    facts = read_certificate(broker)
    assert facts.days_left(NOW) == 30
    assert [facts.expired(NOW + timedelta(days=days)) for days in (29, 31)] == [False, True]


def test_keys_are_the_owners_only_unless_containers_are_to_read_them(tmp_path: Path) -> None:
    make_development(tmp_path / "closed", ["rabbitmq"], ["shop"])
    make_development(tmp_path / "open", ["rabbitmq"], ["shop"], shared_keys=True)

    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    for name in ("ca", "broker", "shop"):
        assert mode(f"closed/{name}.key") == 0o600
    assert [mode(f"open/{name}.key") for name in ("ca", "broker", "shop")] == [0o600, 0o644, 0o644]
    assert mode("open") == mode("closed") == 0o700


def test_running_again_adds_what_is_missing_and_only_renewing_replaces(tmp_path: Path) -> None:
    make_development(tmp_path, ["rabbitmq"], ["shop"], now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    told = make_development(tmp_path, ["rabbitmq"], ["shop", "bank"], now=NOW)
    assert f"{tmp_path / 'shop.pem'}: kept, valid until 2027-03-01" in told
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert signs_in(tmp_path / "bank.pem", tmp_path / "ca.pem")
    make_development(tmp_path, ["rabbitmq"], ["shop", "bank"], renew=True, now=NOW + timedelta(days=300))
    assert (tmp_path / "ca.pem").read_bytes() == before["ca.pem"]
    assert (tmp_path / "shop.key").read_bytes() != before["shop.key"]
    assert read_certificate(tmp_path / "shop.pem").days_left(NOW) == 665


def test_a_peer_is_handed_a_certificate_for_its_shovel_alone_and_no_key_of_ours(tmp_path: Path) -> None:
    make_development(tmp_path, ["broker.shop.example"], ["shop"], peers=["bank"])
    handed = tmp_path / "for-bank"
    assert sorted(path.name for path in handed.iterdir()) == ["shop.ca.pem", "shop.key", "shop.pem"]
    assert read_certificate(handed / "shop.pem").name == "shovel.bank"
    own = {(tmp_path / name).read_bytes() for name in ("ca.key", "broker.key", "shop.key")}
    assert (handed / "shop.key").read_bytes() not in own


@pytest.mark.parametrize(
    ("hosts", "parties", "peers", "said"),
    [
        (["rabbitmq"], ["broker"], [], "called broker"),
        (["rabbitmq"], ["ca"], [], "called ca"),
        (["rabbitmq"], ["../shop"], [], "party's name"),
        (["rabbitmq"], ["shop"], ["bank/../.."], "party's name"),
        (["rabbitmq"], ["shop", "bank"], ["bureau"], "give one party"),
        ([], ["shop"], [], "at least one host"),
        (["bröker"], ["shop"], [], "no host name"),
    ],
)
def test_names_that_would_go_astray_are_refused_before_anything_is_written(
    tmp_path: Path, hosts: list[str], parties: list[str], peers: list[str], said: str
) -> None:
    with pytest.raises(CertificateError, match=said):
        make_development(tmp_path / "made", hosts, parties, peers=peers)
    assert not (tmp_path / "made").exists()


def test_an_authority_that_does_not_fit_its_key_is_named(tmp_path: Path) -> None:
    make_development(tmp_path, ["rabbitmq"], ["shop"])
    (tmp_path / "ca.key").write_bytes((tmp_path / "shop.key").read_bytes())
    with pytest.raises(CertificateError, match=r"ca\.key is not the key of ca\.pem"):
        make_development(tmp_path, ["rabbitmq"], ["bank"])
    (tmp_path / "ca.key").write_text("nothing")
    with pytest.raises(CertificateError, match="damaged"):
        make_development(tmp_path, ["rabbitmq"], ["bank"])
    with pytest.raises(CertificateError, match="no certificate in PEM"):
        read_certificate(tmp_path / "ca.key")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "tls", *arguments])
    return guarded(app)


def test_the_commands_make_certificates_and_say_of_one_that_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = str(tmp_path / "tls")
    assert run(monkeypatch, "dev", files, "--broker", "rabbitmq", "--party", "shop", "--days", "40") == DONE
    assert "broker user shop, valid until" in capsys.readouterr().out
    assert run(monkeypatch, "show", f"{files}/broker.pem") == DONE
    assert "broker.pem: rabbitmq, hosts rabbitmq, localhost, 127.0.0.1, by Warren" in capsys.readouterr().out
    make_development(tmp_path / "old", ["rabbitmq"], ["shop"], days=1, now=NOW - timedelta(days=900))
    assert run(monkeypatch, "show", f"{files}/broker.pem", f"{tmp_path}/old/shop.pem") == FAILED
    assert "(EXPIRED)" in capsys.readouterr().out
    assert run(monkeypatch, "show", f"{tmp_path}/none.pem") == BAD_INPUT
    assert run(monkeypatch, "dev", files, "--broker", "rabbitmq", "--party", "Shop") == BAD_INPUT
