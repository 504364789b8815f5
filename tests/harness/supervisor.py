"""A supervisor of one runner, small and strict: it speaks ingest.md by hand, for tests that need to say exactly one thing."""
import json
import socket
import time

from .process import HarnessError


class Supervisor:
    """One source of one boot. Everything not acked is kept, and is sent again after reconnect()."""

    def __init__(self, path, source="sup", boot_id="boot-1", boot_ms=0, wall_ms=0):
        self.path, self.source, self.boot_id = path, source, boot_id
        self.boot_ms, self.wall_ms, self.n = boot_ms, wall_ms, 0
        self.kept, self.acked, self.rejects, self.closed_by = [], 0, [], None
        self.socket = self.file = None

    def connect(self, timeout_s=10):
        """Connect and greet; the collector's answer."""
        self.close()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.settimeout(10)
                self.socket.connect(self.path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.file = self.socket.makefile("rb")
        self.send_raw(json.dumps({"v": 1, "type": "hello", "source": self.source, "boot_id": self.boot_id, "boot_ms": self.boot_ms,
                                  "wall_ms": self.wall_ms}).encode() + b"\n")
        answer = self._read()
        self._note(answer)
        return answer

    def reconnect(self):
        """Connect again, and send again what was never acked."""
        self.connect()
        for n, line in self.kept:
            if n > self.acked:
                self.send_raw(line)

    def close(self):
        """Hang up."""
        if self.socket is not None:
            self.file.close()
            self.socket.close()
            self.socket = None

    def send_raw(self, data):
        """Bytes, as they are."""
        self.socket.sendall(data)

    def send(self, kind, boot_ms, **fields):
        """The next event; its number."""
        self.n += 1
        line = json.dumps({"n": self.n, "boot_ms": boot_ms, "type": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        self.kept.append((self.n, line))
        self.send_raw(line)
        return self.n

    def send_line(self, line):
        """A line of the test's own making that uses up the next number; its number."""
        self.n += 1
        self.kept.append((self.n, line + b"\n"))
        self.send_raw(line + b"\n")
        return self.n

    def _read(self):
        line = self.file.readline()
        if not line:
            raise HarnessError("the collector closed the session")
        return json.loads(line)

    def _note(self, answer):
        if "ack" in answer:
            self.acked = max(self.acked, answer["ack"])
            self.kept = [(n, line) for n, line in self.kept if n > self.acked]
        elif "reject" in answer:
            self.rejects.append((answer["reject"], answer["error"]))
        else:
            self.closed_by = answer.get("error")

    def wait_acked(self, timeout_s=30):
        """Wait until everything sent is acked."""
        deadline = time.monotonic() + timeout_s
        while self.acked < self.n:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            self._note(self._read())
