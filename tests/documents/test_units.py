"""The unit file for systemd: what systemd itself says of it, and what the page beside it promises."""

import configparser
import shutil
import subprocess

from tests.documents.blocks import ROOT

UNIT = ROOT / "deploy" / "systemd" / "warren@.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    assert analyze, "install it as root with `apt-get install systemd`"
    # As installed for a party, but for its user and its program, which are not on this machine.
    text = UNIT.read_text().replace("/usr/local/lib/warren/bin/warren", "/bin/true").replace("warren-%i", "root")
    path = tmp_path / "warren@bank.service"
    path.write_text(text)
    found = subprocess.run([analyze, "verify", path], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", path], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout


def test_the_unit_stops_a_daemon_in_order_and_does_not_try_a_bad_configuration_again():
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"
    assert service["RestartPreventExitStatus"] == "2"
    assert int(service["TimeoutStopSec"]) >= 30
    assert service["ExecStart"].endswith("warren serve /etc/warren/%i/party.toml")
    for name in ("ProtectSystem", "NoNewPrivileges", "PrivateDevices", "ProtectHome", "RestrictAddressFamilies"):
        assert service[name], name
