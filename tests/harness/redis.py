"""Redis on this machine: one server, one with a replica, or a cluster of three, with append-only files; and the small client that the harness
itself uses."""
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess

from .process import HarnessError, Process, free_ports, wait_for
from .tools import ROOT

CONFIG = """\
bind 127.0.0.1
port {port}
dir {data}
appendonly yes
appendfsync {appendfsync}
aof-load-truncated no
save ""
maxmemory-policy noeviction
daemonize no
{role}{users}"""
ADMIN = "harness"  # the user of the harness itself, where there are users
CLUSTER = "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 2000\n" \
    "cluster-port {bus}\ncluster-announce-port {port}\n"
REPLICA = "replicaof 127.0.0.1 {port}\nrepl-diskless-sync-delay 0\n"
SLOTS = 16384
NODES = {"single": 1, "pair": 2, "cluster": 3}
PIPELINE_MAX = 500
AOF_LOOK_BYTES = 4 << 20
TRANSACTION = re.compile(rb"\r\nMULTI\r\n.*?\r\nEXEC\r\n", re.DOTALL)
VECTOR_KEY = b"}:v\r\n"  # a flush ends with it (aggregator/rollup/flush.c)
MOVE_KEYS = 20


class RedisError(Exception):
    """An error reply."""


class Connection:
    """One connection; commands in, decoded replies out."""

    def __init__(self, port, timeout_s=5, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.file = self.socket.makefile("rb")
        if password is not None:
            self.call("AUTH", ADMIN, password)

    def close(self):
        """Close it."""
        self.file.close()
        self.socket.close()

    def send(self, *words):
        """Queue one command."""
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def receive(self):
        """One reply: bytes, int, list or None; an error reply is returned as RedisError inside lists and raised at the top."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]

    def call(self, *words):
        """One command, one reply."""
        self.send(*words)
        return self.receive()


class Redis:
    """One server, one with a replica, or a cluster of three masters. Clients are sent to `client_ports`, which are others when a proxy stands
    in between; a replica follows its primary through `replication_port`, so that either can be pointed elsewhere.
    """

    def __init__(self, folder, settings, *, run_dir, log_dir, bound, name="redis"):
        self.folder, self.settings = folder, settings
        self.nodes = {}
        for node in range(1, len(settings["ports"]) + 1):
            node_name = name if len(settings["ports"]) == 1 else "%s-%d" % (name, node)
            self.nodes[node_name] = Process(node_name, run_dir, log_dir, bound)
        self.primary = next(iter(self.nodes))  # of a pair

    @staticmethod
    def new_settings(kind="single", appendfsync="everysec", users=False):
        """Choose ports and, with users, a password for all of them. The nodes of a cluster speak to each other at `bus_ports`."""
        ports = free_ports(2 * NODES[kind])
        ports, bus_ports = ports[:NODES[kind]], ports[NODES[kind]:]
        return {"kind": kind, "ports": ports, "bus_ports": bus_ports, "client_ports": ports, "replication_port": ports[0], "appendfsync": appendfsync,
                "password": secrets.token_hex(16) if users else None}

    @property
    def cluster(self):
        """Whether it is a cluster."""
        return self.settings["kind"] == "cluster"

    @property
    def _serving(self):
        """The ports that have the data."""
        return [self.port(self.primary)] if self.settings["kind"] == "pair" else self.settings["ports"]

    @property
    def address(self):
        """host:port,... for clients."""
        return ",".join("127.0.0.1:%d" % port for port in self.settings["client_ports"])

    def data_dir(self, name):
        """The folder of one node's files."""
        return os.path.join(self.folder, name)

    def port(self, name):
        """A node's own port."""
        return self.settings["ports"][list(self.nodes).index(name)]

    def _role(self, name):
        if self.cluster:
            index = list(self.nodes).index(name)
            return CLUSTER.format(port=self.settings["client_ports"][index], bus=self.settings["bus_ports"][index])
        return REPLICA.format(port=self.settings["replication_port"]) if self.is_replica(name) else ""

    def start_node(self, name):
        """Start one node; it may still be loading when this returns."""
        data = self.data_dir(name)
        os.makedirs(data, exist_ok=True)
        path = os.path.join(data, "redis.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(CONFIG.format(port=self.port(name), data=data, appendfsync=self.settings["appendfsync"], role=self._role(name),
                                     users=self._users(data)))
        self._mend(data)
        # Debian's redis-server package brings a running service with it. The same program is in redis-tools as redis-check-rdb; which of the
        # two it is, it decides by the name it is called by.
        server = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if server is None:
            raise HarnessError("redis-server is missing")
        self.nodes[name].spawn(["redis-server", path], executable=server)

    def _users(self, data):
        """The users of deploy/redis, and the harness."""
        if self.settings["password"] is None:
            return ""
        digest = "#" + hashlib.sha256(self.settings["password"].encode()).hexdigest()
        with open(os.path.join(ROOT, "deploy/redis/users.acl"), encoding="ascii") as shipped:
            text = shipped.read().replace("#PASSWORD", digest)
        with open(os.path.join(data, "users.acl"), "w", encoding="ascii") as file:
            file.write(text + "user %s on %s ~* &* +@all\n" % (ADMIN, digest))
        return "aclfile %s\n" % os.path.join(data, "users.acl")

    def _connect(self, port, timeout_s=5):
        return Connection(port, timeout_s, self.settings["password"])

    @staticmethod
    def _mend(data):
        """As production does before each start: cut a torn tail back to a whole transaction. Redis 7.0 by itself cuts inside of one, and
        executes the stump when it is started the second time."""
        manifest = os.path.join(data, "appendonlydir", "appendonly.aof.manifest")
        if os.path.exists(manifest):
            done = subprocess.run(["redis-check-aof", "--fix", manifest], input="y\n", capture_output=True, text=True, check=False)
            if done.returncode:
                raise HarnessError("redis-check-aof: " + done.stdout[-300:])

    def start(self):
        """Start every node that does not run."""
        for name, process in self.nodes.items():
            if not process.alive():
                self.start_node(name)

    def _answers(self, name, *command):
        try:
            connection = self._connect(self.port(name), 2)
            try:
                return connection.call(*command)
            finally:
                connection.close()
        except (OSError, RedisError):
            return None

    def wait_ready(self, timeout_s=30):
        """Wait until every node answers, and the cluster is whole (made first, when it is new)."""
        for name, process in self.nodes.items():
            wait_for("%s to be ready" % name, lambda n=name: self._answers(n, "PING") == b"PONG", timeout_s, alive=process.alive)
        if self.cluster:
            if b"cluster_slots_assigned:0" in (self._answers("redis-1", "CLUSTER", "INFO") or b""):
                self._make_cluster()
            for name in self.nodes:
                wait_for("the cluster to be whole", lambda n=name: b"cluster_state:ok" in (self._answers(n, "CLUSTER", "INFO") or b""), timeout_s)
        for name in self.nodes:
            if self.is_replica(name):
                wait_for("the replica to follow", lambda n=name: self._follows(n), timeout_s)

    def _follows(self, name):
        return b"master_link_status:up" in (self._answers(name, "INFO", "replication") or b"")

    def is_replica(self, name):
        """Whether a node only follows."""
        return self.settings["kind"] == "pair" and name != self.primary

    def promote(self):
        """Make the replica of a pair the primary; the old one goes on as it is until it is ended. Its name."""
        old, self.primary = self.primary, next(name for name in self.nodes if name != self.primary)
        if self._answers(self.primary, "REPLICAOF", "NO", "ONE") != b"OK":
            raise HarnessError("%s can not be promoted" % self.primary)
        return old

    def _make_cluster(self):
        share = SLOTS // len(self.nodes) + 1
        for index, name in enumerate(self.nodes):
            self._answers(name, "CLUSTER", "ADDSLOTSRANGE", index * share, min(SLOTS, (index + 1) * share) - 1)
            self._answers(name, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            self._answers("redis-1", "CLUSTER", "MEET", "127.0.0.1", self.port(name), self.settings["bus_ports"][index])

    def move_slot(self, key, random):
        """Move a key's slot, and all that is in it, from the node of a cluster that has it to another; (keys, from, to)."""
        links = {name: self._connect(self.port(name), 30) for name in self.nodes}
        try:
            slot = next(iter(links.values())).call("CLUSTER", "KEYSLOT", key)
            ids = {name: link.call("CLUSTER", "MYID") for name, link in links.items()}
            source = next(name for name, link in links.items() if self._owns(link, slot, ids[name]))
            target, count = random.choice([name for name in links if name != source]), 0
            links[target].call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
            links[source].call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
            while keys := links[source].call("CLUSTER", "GETKEYSINSLOT", slot, MOVE_KEYS):
                links[source].call("MIGRATE", "127.0.0.1", self.port(target), "", 0, 10_000, "KEYS", *keys)
                count += len(keys)
            for name in (target, *(name for name in links if name != target)):
                links[name].call("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
            return count, source, target
        finally:
            for link in links.values():
                link.close()

    @staticmethod
    def _owns(link, slot, node):
        return any(first <= slot <= last and master[2] == node for first, last, master, *_ in link.call("CLUSTER", "SLOTS"))

    def many(self, commands):
        """The replies to many commands, in order, pipelined per server. The first word after a command's name is its key, which says
        what server has it."""
        replies, left = [None] * len(commands), list(enumerate(commands))
        for port in self._serving:
            if not left:
                break
            connection, moved = self._connect(port), []
            try:
                for start in range(0, len(left), PIPELINE_MAX):
                    chunk = left[start:start + PIPELINE_MAX]
                    for _, words in chunk:
                        connection.send(*words)
                    for index, words in chunk:
                        try:
                            replies[index] = connection.receive()
                        except RedisError as error:
                            if not str(error).startswith("MOVED "):
                                raise
                            moved.append((index, words))
            finally:
                connection.close()
            left = moved
        if left:
            raise RedisError("MOVED to nobody")
        return replies

    def hashes(self, keys):
        """{key: {field: value}} of many hashes."""
        keys = list(keys)
        replies = self.many([("HGETALL", key) for key in keys])
        return {key: dict(zip(reply[::2], reply[1::2])) for key, reply in zip(keys, replies)}

    def set_all(self, parameter, value):
        """CONFIG SET on every node."""
        for name in self.nodes:
            self._answers(name, "CONFIG", "SET", parameter, value)

    def keys(self):
        """Every key, of one server."""
        (keys,) = self.many([("KEYS", "*")])
        return keys

    def flush_all(self):
        """Empty it."""
        for port in self._serving:
            connection = self._connect(port)
            connection.call("FLUSHALL", "SYNC")
            connection.close()

    def set_everywhere(self, name, value):
        """CONFIG SET on every node."""
        for port in self.settings["ports"]:
            connection = self._connect(port)
            connection.call("CONFIG", "SET", name, value)
            connection.close()

    def kill(self):
        """kill -9 of every node."""
        for process in self.nodes.values():
            process.kill()

    stop = kill

    def _newest_aof(self, name):
        folder = os.path.join(self.data_dir(name), "appendonlydir")
        parts = [part for part in os.listdir(folder) if part.endswith(".incr.aof")]
        return os.path.join(folder, max(parts, key=lambda part: int(part.split(".")[-3])))

    def aof_end(self, name):
        """Where a node's append-only file ends: its newest part, and the bytes in it."""
        path = self._newest_aof(name)
        return path, os.path.getsize(path)

    def aof_written(self, name, since):
        """Bytes that a node has appended to its newest part since an `aof_end`: to all of it, if that one was another part (Redis begins a new one
        when it rewrites the file)."""
        path, size = self.aof_end(name)
        return size - (since[1] if path == since[0] else 0)

    def cut_aof_tail(self, name, count):
        """Cut bytes off the end of a dead node's newest append-only file, as a power cut would; how many were cut."""
        if self.nodes[name].alive():
            raise HarnessError("%s runs" % name)
        path, size = self.aof_end(name)
        os.truncate(path, max(0, size - count))
        return size - os.path.getsize(path)

    def cut_aof_in_flush(self, name):
        """Cut a dead node's newest append-only file in the middle of its last flush; how many bytes were cut.

        Not in any script's last transaction: what the exporter has written is no reason for an aggregator to rewind.
        """
        path, size = self.aof_end(name)
        with open(path, "rb") as file:
            start = max(0, size - AOF_LOOK_BYTES)
            file.seek(start)
            data = file.read()
        flushes = [found.span() for found in TRANSACTION.finditer(data) if VECTOR_KEY in found.group()]
        if not flushes:
            raise HarnessError("no whole flush at the end of %s's append-only file" % name)
        begin, end = flushes[-1]
        return self.cut_aof_tail(name, size - start - (begin + end) // 2)

    def freeze(self, name):
        """SIGSTOP: it is there, and does not answer."""
        self.nodes[name].signal(signal.SIGSTOP)

    def thaw(self, name):
        """SIGCONT."""
        self.nodes[name].signal(signal.SIGCONT)
