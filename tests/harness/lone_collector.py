"""One collector without anything behind it, and a client that knows the ingest contract byte by byte.

The collector acknowledges from its spool, so it needs no Kafka: the port that it is given is closed. What it made of the lines is read back from
the spool (`sandglass spool dump`). `Books` says what it should have made of them: the arithmetic of the contract, written a second time.
"""
import collections
import datetime
import json
import os
import re
import socket
import subprocess
import time

from . import tools
from .process import Process, free_ports, wait_for

MINUTE_MS = 60_000
COUNTERS = ("cpu_us", "net_rx_bytes", "net_tx_bytes", "io_read_bytes", "io_write_bytes")
TIMEOUT_S = 10
DUMP_TIMEOUT_S = 120  # of a whole spool, under a sanitizer as well


class Wire:
    """One session: bytes out, answers in."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.pending, self.rejects, self.acked, self.n = b"", {}, 0, 0

    def send(self, data):
        """Bytes, as they are."""
        self.socket.sendall(data)

    def answer(self):
        """The next answer; None at the end of the session."""
        while b"\n" not in self.pending:
            try:
                got = self.socket.recv(65536)
            except ConnectionResetError:  # it was closed with something of ours unread
                got = b""
            if not got:
                assert not self.pending, "half an answer"
                return None
            self.pending += got
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def hello(self, source="s", boot_id="b", boot_ms=0, wall_ms=0):
        """Greet; the answer."""
        self.send(json.dumps({"v": 1, "type": "hello", "source": source, "boot_id": boot_id, "boot_ms": boot_ms, "wall_ms": wall_ms}).encode() + b"\n")
        answer = self.answer()
        if answer and "ack" in answer:
            self.n = self.acked = answer["ack"]
        return answer

    def say(self, kind, boot_ms, **fields):
        """One event under the next number; returns it as it was sent."""
        self.n += 1
        event = {"n": self.n, "boot_ms": boot_ms, "type": kind, **fields}
        self.send(json.dumps(event).encode() + b"\n")
        return event

    def wait_acked(self, n=None):
        """Read until n (all that was said) is acknowledged; refusals are kept in `rejects`: {n: answer}."""
        n = self.n if n is None else n
        while self.acked < n:
            answer = self.answer()
            assert answer is not None and ("error" not in answer or "reject" in answer), answer
            if "reject" in answer:
                assert set(answer) == {"reject", "error", "at"} and answer["reject"] not in self.rejects, answer
                assert answer["reject"] > self.acked, "an ack went ahead of a refusal that it covers"
                self.rejects[answer["reject"]] = answer
            else:
                assert answer["ack"] >= self.acked, answer
                self.acked = answer["ack"]

    def ended(self):
        """The last answer before the collector closed the session."""
        last = None
        while True:
            answer = self.answer()
            if answer is None:
                return last
            last = answer

    def close(self):
        """Hang up."""
        self.socket.close()


class LoneCollector:
    """A collector in a folder of its own. Bound to the test."""

    def __init__(self, folder, **settings):
        self.folder = str(folder)
        self.spool = os.path.join(self.folder, "spool")
        self.path = os.path.join(self.folder, "s")
        closed, self.port = free_ports(2)
        os.makedirs(self.spool)
        self.settings = {"runner": "r1", "region": "eu", "clock": "event", "ingest_socket": self.path, "spool_dir": self.spool,
                         "kafka_brokers": "127.0.0.1:%d" % closed, "seal_interval": "20ms", "ops_listen": "127.0.0.1:%d" % self.port, **settings}
        self.process = Process("collector", self.folder, self.folder, bound=True)

    def spawn(self, env=None):
        """Start it, not waiting for anything."""
        conf = os.path.join(self.folder, "conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.writelines("%s = %s\n" % item for item in self.settings.items())
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.process.spawn([tools.program("sandglass-collector"), "--config", conf], env=env)

    def start(self):
        """Start it, and wait until it listens; itself."""
        self.spawn()
        wait_for("the collector's socket", lambda: os.path.exists(self.path) and os.stat(self.path).st_mode & 0o400, TIMEOUT_S,
                 alive=self.process.alive, pause_s=0.005)
        return self

    def kill(self):
        """kill -9."""
        self.process.kill()

    def stop(self):
        """SIGTERM: what was taken is on disk afterwards."""
        assert self.process.stop()

    def connect(self):
        """A new session, not greeted."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return Wire(self.path)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def greet(self, *args, **fields):
        """A new session, greeted."""
        wire = self.connect()
        answer = wire.hello(*args, **fields)
        assert answer and "ack" in answer, answer
        return wire

    def rows(self, only=""):
        """What is in the spool, row by row; of one kind, or all."""
        done = subprocess.run([tools.program("sandglass"), "spool", "dump", self.spool], capture_output=True, timeout=DUMP_TIMEOUT_S, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{"kind":"' + only.encode())]

    def metrics(self):
        """{name with labels: value}."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as http:
            http.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: http.recv(65536), b"")).decode()
        return {name: int(float(value)) for name, value in re.findall(r"^(sandglass_collector_\S+) (\S+)$", text, re.M)}

    def metric(self, name):
        """One metric's value."""
        return self.metrics()["sandglass_collector_" + name]

    def everything(self):
        """(where, bytes) of all that it wrote or says, and its folder's file names."""
        for folder, _, files in os.walk(self.folder):
            for name in files:
                if os.path.join(folder, name) == self.path:
                    continue
                with open(os.path.join(folder, name), "rb") as file:
                    yield name, file.read()
        if self.process.alive():
            for path in ("/metrics", "/healthz", "/readyz"):
                with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as http:
                    http.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
                    yield path, b"".join(iter(lambda: http.recv(65536), b""))


def ms_of(text):
    """Milliseconds of Unix time of an RFC 3339 time."""
    since = datetime.datetime.fromisoformat(text) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(milliseconds=1)


def cells_of(rows):
    """{(team, project, minute, metric): sum} of the spool's rows. No row may leave the minute that it begins in."""
    cells = collections.Counter()
    for row in rows:
        where = (row.get("team"), row.get("project"))
        at = ms_of(row["start" if row["kind"] == "slice" else "at"]) if row["kind"] not in ("batch", "gap") else 0
        minute = at // MINUTE_MS
        if row["kind"] == "slice":
            length = row["length_ms"]
            assert at % MINUTE_MS + length <= MINUTE_MS, row
            for metric, value in (("running_ms", length), ("vcpu_ms", row["vcpus"] * length), ("mem_mib_ms", row["mem_mib"] * length),
                                  ("disk_mib_ms", row["disk_mib"] * length), *((counter, row[counter]) for counter in COUNTERS)):
                cells[(*where, minute, metric)] += value
        elif row["kind"] == "start" and row["origin"] != "adopted":
            cells[(*where, minute, "creates." + row["origin"])] += 1
        elif row["kind"] == "end":
            cells[(*where, minute, "destroys." + row["reason"])] += 1
        elif row["kind"] == "exec":
            cells[(*where, minute, "execs")] += 1
            cells[(*where, minute, "exit.%d" % row["exit_code"])] += 1
        elif row["kind"] == "api_call":
            cells[(*where, minute, "api.%s.%dxx" % (row["operation"], row["status"] // 100))] += 1
    return +cells


class Books:
    """What accepted events mean, by the contract: one source, one boot, billed up to `end()`."""

    def __init__(self, boot_ms=0, wall_ms=0):
        self.offset = wall_ms - boot_ms
        self.cells, self.alive, self.newest = collections.Counter(), {}, 0

    def _add(self, box, boot_ms, metric, value):
        self.cells[(box["team"], box["project"], (boot_ms + self.offset) // MINUTE_MS, metric)] += value

    def _bill(self, box, until):
        """Every millisecond by its minute."""
        at = box["since"]
        while at < until:
            end = min(until, ((at + self.offset) // MINUTE_MS + 1) * MINUTE_MS - self.offset)
            for metric, rate in (("running_ms", 1), ("vcpu_ms", box["vcpus"]), ("mem_mib_ms", box["mem_mib"]), ("disk_mib_ms", box["disk_mib"])):
                self._add(box, at, metric, rate * (end - at))
            at = end

    def _count(self, box, event):
        for counter in COUNTERS:
            if counter in event:
                value, last = event[counter], box["last"].get(counter, 0 if box["born"] else event[counter])
                self._add(box, event["boot_ms"], counter, value - last if value >= last else value)
                box["last"][counter] = value

    def take(self, event):
        """One accepted event."""
        at, kind = event["boot_ms"], event["type"]
        box = self.alive.get(event.get("sandbox"))
        self.newest = at
        if kind in ("sandbox.created", "sandbox.adopted"):
            born = kind == "sandbox.created"
            box = self.alive[event["sandbox"]] = {**event, "born": born, "last": {}, "since": at if born or event["running"] else None}
            if born:
                self._add(box, at, "creates." + event["origin"], 1)
        elif kind == "sandbox.usage":
            self._count(box, event)
        elif kind == "sandbox.hibernated":
            self._bill(box, at)
            box["since"] = None
        elif kind == "sandbox.resumed":
            box["since"] = at
        elif kind == "sandbox.destroyed":
            self._count(box, event)
            self.destroy(event["sandbox"], at, event["reason"])
        elif kind == "exec.exited":
            self._add(box, at, "execs", 1)
            self._add(box, at, "exit.%d" % event["exit_code"], 1)
        elif kind == "api.called":
            self._add({"project": "-", **event}, at, "api.%s.%dxx" % (event["operation"], event["status"] // 100), 1)

    def destroy(self, sandbox, at, reason):
        """The end of a sandbox."""
        box = self.alive.pop(sandbox)
        if box["since"] is not None:
            self._bill(box, at)
        self._add(box, at, "destroys." + reason, 1)

    def end_host(self):
        """The boot is over: all end where it was last proven alive."""
        for sandbox in list(self.alive):
            self.destroy(sandbox, self.newest, "host")

    def end(self):
        """All cells, what runs billed up to the newest event."""
        for box in self.alive.values():
            if box["since"] is not None:
                self._bill(box, self.newest)
                box["since"] = self.newest
        return +self.cells

    def total(self, metric):
        """A metric's sum over all cells."""
        return sum(value for key, value in self.cells.items() if key[3] == metric)
