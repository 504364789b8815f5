"""A supervisor that sends a list of events over as many sessions as it takes, and holds the collector to every acknowledgement."""
import time

from harness.lone_collector import Wire

from .verdict import Broken

ROUND_EVENTS = 6


class Feeder:
    """`events`: what there is to say, number by number; may grow."""

    def __init__(self, path, process, events, wall_ms=0, session_s=1.5):
        self.path, self.process, self.events = path, process, events
        self.wall_ms, self.session_s, self.acked = wall_ms, session_s, 0

    def _session(self, until):
        wire = Wire(self.path)
        try:
            wire.socket.settimeout(self.session_s)
            answer = wire.hello(wall_ms=self.wall_ms)
            if not answer or "ack" not in answer:
                return
            if answer["ack"] < self.acked:
                raise Broken("%d was acknowledged, %d is known" % (self.acked, answer["ack"]))
            self.acked = answer["ack"]
            while self.acked < until:
                end = min(until, self.acked + ROUND_EVENTS)
                for kind, boot_ms, fields in self.events[wire.n:end]:
                    wire.say(kind, boot_ms, **fields)
                wire.wait_acked(end)
                self.acked = wire.acked
        finally:
            self.acked = max(self.acked, wire.acked)
            wire.close()

    def feed(self, until, timeout_s):
        """True when all is acknowledged; False when the collector has ended or did not go on in time."""
        deadline = time.monotonic() + timeout_s
        while self.acked < until:
            try:
                self._session(until)
            except (OSError, AssertionError):  # no collector, or not as the contract has it: tried again, until time is up
                pass
            if not self.process.alive() or time.monotonic() > deadline:
                return self.acked >= until
            time.sleep(0.01)
        return True


def take_all(books, events):
    """Put events into books."""
    for kind, boot_ms, fields in events:
        books.take({"type": kind, "boot_ms": boot_ms, **fields})


def make_events(first, rounds, start_ms, step_ms, teams):
    """Sandboxes that live through three rounds, and a little of everything; all are gone at the end."""
    events = []
    for number in range(first, first + rounds + 2):
        at, name = start_ms + (number - first) * step_ms, "box%d" % number
        if number < first + rounds:
            events += [("sandbox.created", at, {"sandbox": name, "team": "team-%d" % (number % teams + 1), "project": "p", "vcpus": 2,
                                                "mem_mib": 512, "disk_mib": 1024, "origin": "create", "create_ms": 3}),
                       ("sandbox.usage", at, {"sandbox": name, "cpu_us": 1000 * number, "net_rx_bytes": 77}),
                       ("exec.exited", at, {"sandbox": name, "exit_code": number % 100, "duration_ms": 5})]
        if number >= first + 2:
            events.append(("sandbox.destroyed", at, {"sandbox": "box%d" % (number - 2), "reason": "api", "cpu_us": 10 ** 7}))
        events += [("api.called", at, {"team": "team-1", "operation": "sandbox.list", "status": 200})] * (-len(events) % ROUND_EVENTS)
    return events
