"""A private RabbitMQ of Debian's package: on loopback ports of its own, with its own data directory.

For tests and for demonstrations on one machine. It shares nothing with a RabbitMQ that the machine may run:
own ports, own epmd (Erlang's name server), own cookie, no listener outside 127.0.0.1. It dies with the
process that started it.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.applying import make
from broker.definitions import shared
from broker.installation import PROGRAMS, PrivateBrokerError, ensure_installed, free_ports, is_free
from broker.listeners import CERTIFICATE_LOGIN, MQTT, Tls, private_listeners
from broker.management import Management, ManagementError
from broker.topology import VHOST, Limits, Version, parse_version

START_TIMEOUT_S: Final = 240.0
STOP_TIMEOUT_S: Final = 30.0
EPMD_TIMEOUT_S: Final = 5.0
ADMINISTRATOR: Final = "administrator"

# Kills the process group "$1" and the epmd on port "$2" when its standard input closes, that is when the
# process that started the broker is gone, however it went.
_WATCHER: Final = """
read -r _
kill -s KILL -- "-$1"
tries=0
until epmd -port "$2" -kill || [ $tries -ge 30 ]; do tries=$((tries + 1)); sleep 0.1; done
"""


class PrivateBroker:
    """One private RabbitMQ node. Usable as a context manager, `with` and `async with`.

    Args:
        directory: for its data, kept after `stop`. Without it a temporary one, removed by `discard`.
        parties: get queues, users and passwords at `start`; more with `add_parties`.
        config: further lines of rabbitmq.conf.
        plugins: further plug-ins.
        limits: byte limits of the queues of `parties`.
        tls: take TLS connections as well, at `tls_port`, and log in clients by the name in their certificate.
        mqtt: those of `parties` that speak MQTT, or an empty collection; not given, the node does not take MQTT.
            It does at `mqtt_port` and, with `tls`, at `mqtts_port`.
        programs: the directory of another `rabbitmq-server` than Debian's.

    """

    def __init__(
        self,
        directory: Path | None = None,
        parties: Sequence[str] = (),
        *,
        config: str = "",
        plugins: Sequence[str] = (),
        limits: Limits | None = None,
        tls: Tls | None = None,
        mqtt: Collection[str] | None = None,
        programs: Path = PROGRAMS,
    ) -> None:
        self._programs = programs
        self.directory = directory or Path(tempfile.mkdtemp(prefix="warren-rabbitmq-"))
        self._temporary = directory is None
        self._parties = tuple(parties)
        self._config = config
        further = (*([CERTIFICATE_LOGIN] if tls else []), *([] if mqtt is None else [MQTT]), *plugins)
        self._plugins = tuple(dict.fromkeys(("rabbitmq_management", *further)))
        self._tls = tls
        self._mqtt = mqtt
        self._limits = limits
        self.amqp_port, self.management_port, self._dist_port, self._epmd_port, self.tls_port, *more = free_ports(7)
        self.mqtt_port, self.mqtts_port = more
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._passwords: dict[str, str] = {}
        self._version: Version | None = None
        self._made: list[Mapping[str, object]] = []

    def __repr__(self) -> str:
        return f"PrivateBroker(amqp_port={self.amqp_port})"

    def amqp_url(self, party: str, *, port: int | None = None) -> str:
        """Where `party` connects, password included; `port` of a proxy in between."""
        return f"amqp://{party}:{self._passwords[party]}@127.0.0.1:{port or self.amqp_port}/{VHOST}"

    def mqtt_url(self, party: str, *, port: int | None = None) -> str:
        """The same for a party that speaks MQTT."""
        return f"mqtt://{party}:{self._passwords[party]}@127.0.0.1:{port or self.mqtt_port}/{VHOST}"

    @property
    def admin_amqp_url(self) -> str:
        """Where an administrator connects with all permissions, to read sizes and to observe."""
        return self.amqp_url(ADMINISTRATOR)

    @property
    def admin_url(self) -> str:
        """The management URL of an administrator, for `broker.applying.apply`."""
        return f"http://{ADMINISTRATOR}:{self._passwords[ADMINISTRATOR]}@127.0.0.1:{self.management_port}"

    @property
    def version(self) -> Version | None:
        """The server's version, as soon as it has been started."""
        return self._version

    @property
    def running(self) -> bool:
        """Whether the node's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the node and return when it takes connections and has its topology.

        The first time the topology is applied to the running node; later the node loads it at boot from its
        definitions file, as `deploy/` does, whatever became of its data.

        Raises:
            PrivateBrokerError: it is not installed and cannot be, or it does not start.

        """
        ensure_installed(self._programs)
        self._write_files()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [str(self._programs / "rabbitmq-server")],
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCHER, "sh", str(self._process.pid), str(self._epmd_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_start()
            if not self._made:
                self.add_parties(self._parties, limits=self._limits, mqtt=self._mqtt or ())
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut the node down in order; its data stay. Nothing happens when it does not run."""
        if self.running:
            assert self._process is not None
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the node at once (SIGKILL), as a crash would; its data stay. `start` brings it back."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._kill_epmd()

    def restart(self) -> None:
        """Kill the node and start it again with the same data and ports."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Kill the node and remove everything it had stored; `start` brings it back empty, from its definitions."""
        self.kill()
        shutil.rmtree(self.directory / "data")

    def discard(self) -> None:
        """Kill the node and remove its data; they stay where the directory was given."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def add_parties(self, parties: Sequence[str], *, limits: Limits | None = None, mqtt: Collection[str] = ()) -> None:
        """Make queues among `parties`, and users with passwords of their own; raises `TopologyError`.

        Those of `parties` that are in `mqtt` speak MQTT.
        """
        if not parties:
            return
        for party in parties:
            self._passwords.setdefault(party, secrets.token_urlsafe(24))
        self._write_passwords()
        passwords = {party: self._passwords[party] for party in parties}

        def wanted(version: Version) -> Mapping[str, object]:
            return shared(parties, version=version, limits=limits, passwords=passwords, mqtt=mqtt)

        self.add(wanted, overwrite_users=passwords)

    def add(self, wanted: Callable[[Version], Mapping[str, object]], *, overwrite_users: Collection[str] = ()) -> None:
        """Make what a document of `broker.definitions` says, now and at each start; raises `TopologyError`."""
        assert self._version is not None
        make(self.admin_url, wanted, overwrite_users=overwrite_users)
        self._made.append(wanted(self._version))
        self._write_definitions()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An orderly stop takes six seconds, and nobody waits for what such a node still holds.
        self.discard()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _kill_epmd(self) -> None:
        """End the node's epmd, which would stay for ever; it refuses until it has noticed the node's death."""
        epmd = shutil.which("epmd")
        deadline = time.monotonic() + EPMD_TIMEOUT_S
        while epmd and not is_free(self._epmd_port) and time.monotonic() < deadline:
            command = [epmd, "-port", str(self._epmd_port), "-kill"]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:  # noqa: S603
                time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        root = self.directory
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        return inherited | {
            "HOME": str(root / "home"),
            "RABBITMQ_NODENAME": "warren@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(root / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(root / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(root / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(root / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(root / "data"),
            "RABBITMQ_LOG_BASE": str(root / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(root / "schema"),
            "RABBITMQ_PID_FILE": str(root / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
        }

    def _write_files(self) -> None:
        root = self.directory
        (root / "home").mkdir(parents=True, exist_ok=True)
        self._load_passwords()
        (root / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        self._write_definitions()
        mqtt_ports = None if self._mqtt is None else (self.mqtt_port, self.mqtts_port)
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self.management_port}",
            f"load_definitions = {root / 'definitions.json'}",
            "vm_memory_high_watermark.absolute = 1GB",
            "disk_free_limit.absolute = 50MB",
            # The write-ahead log is kept in memory as well: 512 MiB unless told otherwise.
            "raft.wal_max_size_bytes = 33554432",
            "cluster_name = warren-private",
            *private_listeners(self._tls, self.tls_port, mqtt_ports),
            self._config,
        ]
        (root / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _write_definitions(self) -> None:
        """What the node loads at boot: the administrator, and the parties that have been added."""
        administrators = {ADMINISTRATOR: self._passwords[ADMINISTRATOR]}
        whole = shared((), administrators=administrators)
        for part in self._made:
            for kind in ("users", "permissions", "topic_permissions", "queues", "bindings", "parameters"):
                whole[kind] = [*_list(whole.get(kind, [])), *_list(part.get(kind, []))]
            # The same for every party.
            whole |= {kind: part[kind] for kind in ("policies",) if kind in part}
        _write_private(self.directory / "definitions.json", json.dumps(whole))

    def _load_passwords(self) -> None:
        path = self.directory / "passwords.json"
        if path.exists():
            self._passwords = json.loads(path.read_text())
        self._passwords.setdefault(ADMINISTRATOR, secrets.token_urlsafe(24))
        self._write_passwords()

    def _write_passwords(self) -> None:
        _write_private(self.directory / "passwords.json", json.dumps(self._passwords))

    def _await_start(self) -> None:
        management = Management(self.admin_url)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running:
                raise PrivateBrokerError(f"RabbitMQ ended while it started: {self._last_words()}")
            # RabbitMQ opens its AMQP port last, when plug-ins run and definitions are loaded.
            if _speaks_amqp(self.amqp_port):
                try:
                    self._version = parse_version(management.version())
                except ManagementError:
                    pass
                else:
                    return
            time.sleep(0.1)
        raise PrivateBrokerError(f"RabbitMQ did not start in {START_TIMEOUT_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = (self.directory / "server.log").read_text(errors="replace").splitlines()
        errors = [line for line in lines if "[error]" in line]
        said = "\n".join(errors[:15] or lines[-15:])
        return f"it said\n{said}\n(more in {self.directory})"


def _speaks_amqp(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
            line.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(line.recv(1))
    except OSError:
        return False


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
