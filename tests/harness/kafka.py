"""A Kafka cluster in KRaft mode from the jars that deploy/local fetches: one node, or three with replication.

HAPPY PATH: format each node's folder once, start the nodes, ask for metadata until every node is listed: a broker that accepts connections is
not ready yet. Settings of tests: a small JVM, a short broker session so that a restart takes two seconds and not fourteen, no rebalance delay.

Most of a start is loading classes. Beside the jars lies an archive of them as the JVM has them in memory, with which a start takes two thirds of
the time; `python3 -m harness.kafka` makes it. A JVM that it does not fit does without.
"""
import base64
import os
import socket
import struct
import subprocess
import tempfile
import uuid

from . import tools
from .process import HarnessError, Process, free_ports, wait_for

JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
DEBIAN_JAVA = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java"
CLASSES = "classes.jsa"
QUIET = ["-Xlog:disable", "-Xlog:all=error:stderr"]  # about classes that cannot be archived, and archives that do not fit
METADATA, LIST_OFFSETS, DELETE_RECORDS = 3, 2, 21

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{client_port},INTERNAL://127.0.0.1:{internal_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={insync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
unclean.leader.election.enable=false
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=2
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
"""


def java():
    """Debian's Java 17, or what the PATH has."""
    return DEBIAN_JAVA if os.access(DEBIAN_JAVA, os.X_OK) else "java"


def _text(value):
    return struct.pack(">h", len(value)) + value.encode("ascii")


def _read(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def request(port, api, version, body):
    """One request to a broker's port, in Kafka's own protocol; the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        message = struct.pack(">hhi", api, version, 1) + _text("harness") + body
        connection.sendall(struct.pack(">i", len(message)) + message)
        return _read(connection, struct.unpack(">i", _read(connection, 4))[0])[4:]


class _Cursor:
    """Reads the fields of an answer one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        """One number."""
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self):
        """A string or None."""
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode("ascii")

    def many(self, read):
        """An array."""
        return [read() for _ in range(self.take("i"))]


def metadata(port):
    """(broker ports by node, {topic: {partition: leader}}) as one broker sees it."""
    answer = _Cursor(request(port, METADATA, 1, struct.pack(">i", -1)))

    def broker():
        node, _host, node_port = answer.take("i"), answer.text(), answer.take("i")
        answer.text()
        return node, node_port

    def partition():
        answer.take("h")
        number, leader = answer.take("i"), answer.take("i")
        answer.many(lambda: answer.take("i"))
        answer.many(lambda: answer.take("i"))
        return number, leader

    def topic():
        answer.take("h")
        name = answer.text()
        answer.take("b")
        return name, dict(answer.many(partition))

    brokers = dict(answer.many(broker))
    answer.take("i")
    return brokers, dict(answer.many(topic))


def end_offset(port, topic, partition):
    """The high-water mark of a partition, asked of its leader."""
    body = struct.pack(">i", -1) + struct.pack(">i", 1) + _text(topic) + struct.pack(">iiq", 1, partition, -1)
    answer = _Cursor(request(port, LIST_OFFSETS, 1, body))
    answer.take("i"), answer.text(), answer.take("i"), answer.take("i")
    error, _, offset = answer.take("h"), answer.take("q"), answer.take("q")
    if error:
        raise OSError("kafka error %d" % error)
    return offset


def delete_records(port, topic, partition, offset):
    """What retention does, at once: the log of a partition begins at this offset. Asked of its leader."""
    body = struct.pack(">i", 1) + _text(topic) + struct.pack(">iiqi", 1, partition, offset, 2000)
    answer = _Cursor(request(port, DELETE_RECORDS, 0, body))
    answer.take("i"), answer.take("i"), answer.text(), answer.take("i"), answer.take("i")
    start, error = answer.take("q"), answer.take("h")
    if error or start != offset:
        raise OSError("kafka error %d: the log begins at %d" % (error, start))


class Kafka:
    """One or three nodes. `ports` is what a later command needs to find them again; `client_ports` is where clients are sent, which is
    somewhere else when a proxy stands in between."""

    def __init__(self, folder, jars, settings, *, run_dir, log_dir, bound):
        self.folder, self.jars = folder, jars
        self.settings = settings
        self.nodes = {}
        for node in range(1, settings["nodes"] + 1):
            name = "kafka" if settings["nodes"] == 1 else "kafka-%d" % node
            self.nodes[name] = Process(name, run_dir, log_dir, bound)

    @staticmethod
    def new_settings(nodes=1):
        """Choose ports and a name for a new cluster."""
        ports, cluster = free_ports(3 * nodes), "-"
        while cluster.startswith("-"):  # Kafka's command line would take it for an option
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        return {"nodes": nodes, "ports": ports[:nodes], "client_ports": ports[:nodes], "controller_ports": ports[nodes:2 * nodes],
                "internal_ports": ports[2 * nodes:], "cluster": cluster}

    @property
    def brokers(self):
        """host:port,... for clients."""
        return ",".join("127.0.0.1:%d" % port for port in self.settings["client_ports"])

    def _node_dir(self, name):
        return os.path.join(self.folder, name)

    def _write_properties(self, index, name):
        settings, count = self.settings, self.settings["nodes"]
        voters = ",".join("%d@127.0.0.1:%d" % (i + 1, port) for i, port in enumerate(settings["controller_ports"]))
        with open(self._properties(name), "w", encoding="ascii") as file:
            file.write(PROPERTIES.format(node=index + 1, voters=voters, port=settings["ports"][index], insync=2 if count > 2 else 1,
                                         client_port=settings["client_ports"][index], internal_port=settings["internal_ports"][index],
                                         controller_port=settings["controller_ports"][index], replicas=count,
                                         data=os.path.join(self._node_dir(name), "data")))

    def _java(self, main, *arguments, archive=None):
        config = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/kafka/log4j2.properties")
        heap, classes = "-Djava.io.tmpdir=" + self.folder, []
        if archive is not None:
            classes = ["-XX:ArchiveClassesAtExit=" + archive, *QUIET]
        elif os.path.exists(os.path.join(self.jars, CLASSES)):
            classes = ["-XX:SharedArchiveFile=" + os.path.join(self.jars, CLASSES), *QUIET]
        return [java(), *JAVA_OPTIONS, *classes, heap, "-Dlog4j2.configurationFile=" + os.path.normpath(config), "-cp", self.jars + "/*", main, *arguments]

    def _properties(self, name):
        return os.path.join(self._node_dir(name), "server.properties")

    def _format(self):
        """The folders of all nodes, when the cluster is new; side by side, since a JVM each takes a second or two."""
        formatting = []
        for index, name in enumerate(self.nodes):
            os.makedirs(self._node_dir(name), exist_ok=True)
            self._write_properties(index, name)
            if not os.path.exists(os.path.join(self._node_dir(name), "data", "meta.properties")):
                argv = self._java("kafka.tools.StorageTool", "format", "-t", self.settings["cluster"], "-c", self._properties(name))
                formatting.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for child in formatting:
            told = child.communicate()[1]
            if child.returncode:
                raise HarnessError("kafka format: " + told[-500:])

    def start_node(self, name):
        """Start one node, formatting the folders when they are new; does not wait until it is ready."""
        self._format()
        self.nodes[name].spawn(self._java("kafka.Kafka", self._properties(name)))

    def archive_classes(self):
        """Let a new node come up and end by itself: what it leaves beside the jars is what later starts load."""
        self._format()
        ((name, process),) = self.nodes.items()
        archive = os.path.join(self.jars, CLASSES)
        process.spawn(self._java("kafka.Kafka", self._properties(name), archive=archive + ".new"))
        self.wait_ready()
        process.stop(120)
        os.replace(archive + ".new", archive)

    def start(self):
        """Start every node that does not run."""
        for name, process in self.nodes.items():
            if not process.alive():
                self.start_node(name)

    def listed(self):
        """How many brokers the cluster lists, as the first living node sees it; 0 when none answers."""
        for port, process in zip(self.settings["ports"], self.nodes.values()):
            if process.alive():
                try:
                    return len(metadata(port)[0])
                except (OSError, struct.error):
                    return 0
        return 0

    def wait_ready(self, timeout_s=60):
        """Wait until all living nodes are listed."""
        wait_for("kafka to be ready", lambda: 0 < sum(p.alive() for p in self.nodes.values()) <= self.listed(), timeout_s,
                 alive=lambda: any(p.alive() for p in self.nodes.values()), pause_s=0.1)

    def _metadata(self):
        for port, process in zip(self.settings["ports"], self.nodes.values()):
            if process.alive():
                return metadata(port)
        raise OSError("no broker runs")

    def end_offsets(self, topic):
        """{partition: high-water mark}."""
        brokers, topics = self._metadata()
        return {p: end_offset(brokers[leader], topic, p) for p, leader in topics[topic].items()}

    def forget_below(self, topic, offsets):
        """{partition: offset}: the log has nothing below them any more."""
        brokers, topics = self._metadata()
        for p, offset in offsets.items():
            delete_records(brokers[topics[topic][p]], topic, p, offset)

    def leaders(self, topic):
        """{partition: number of the node that leads it}."""
        return self._metadata()[1][topic]

    def kill(self):
        """kill -9 of every node."""
        for process in self.nodes.values():
            process.kill()

    stop = kill  # crash-only: what it has acknowledged, the kernel has, and its clean end takes seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        Kafka(place, tools.KAFKA_JARS, Kafka.new_settings(), run_dir=place, log_dir=place, bound=True).archive_classes()
