"""What the campaign does things to: one pipeline that lives through many rounds, and the means to hurt and to mend it.

LAYOUT  Two runners, each with its spool on a small file system of its own (tmpfs in this process' private mount namespace); a second aggregator
        and a second exporter that only run when a fault says so; a proxy in front of every node of Kafka and Redis and of the double; a wall
        clock for each of our programs that can be stepped. Waits are short: sessions of 3 s, flushes of 200 ms, segments of 64 KiB.
RULES   Whoever is ended by a fault is started again by it, or by mend(). A program of ours that ends by itself has failed the round, unless the
        fault expected it; a signal that nobody sent (an abort, a segmentation fault) always has.
"""
import ctypes
import json
import os
import shutil
import signal
import time
import urllib.request

from . import settle
from .fleet import Fleet
from .pipeline import TWINS, Pipeline, http_get, metric
from .process import HarnessError, wait_for
from .watch import Watch

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
DISK_MIB = 160
HOUR_MS = 3_600_000
ROUND_HOURS = 4
CUSTOMERS = {"team-1": "cus_one", "team-2": "cus_two", "team-3": "cus_three"}  # team-4 has none: pending
TOPOLOGIES = {
    "one": {"kafka_nodes": 1, "redis": "single"},
    "three-pair": {"kafka_nodes": 3, "redis": "pair"},
    "one-cluster": {"kafka_nodes": 1, "redis": "cluster"},
}
SESSION_S = 3
EXTRA = {
    "collector": [["spool_segment_bytes", "64k"], ["seal_interval", "100ms"], ["heartbeat_interval", "1s"]],
    "aggregator": [["kafka_property", "session.timeout.ms %d" % (SESSION_S * 1000)], ["flush_interval", "200ms"]],
    "exporter": [["archive_interval", "5s"]],
}
# A broker takes a static member's wish to join, gives it a new name, and dies or is cut off before it can tell: asking again under the old name,
# the member is refused for good. It can not know that from a second process of its name, so it ends, and its supervisor starts it again.
FENCED_BY_ITSELF = "FENCED_INSTANCE_ID"
READY_S = 90
LONG_READY_S = 5  # the line tells of it

_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result:
        raise HarnessError("%s: %s" % (what, os.strerror(ctypes.get_errno())))


def private_mounts():
    """Give this process, and all that it will start, a mount namespace of its own; before anything is started. Not being root, it also takes a
    user namespace, in which it is."""
    uid, gid = os.getuid(), os.getgid()
    _check(_LIBC.unshare(CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER), "a private mount namespace")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
            with open("/proc/self/" + name, "w", encoding="ascii") as file:
                file.write(text)
    _check(_LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")


class World:
    """A pipeline under fire. `random` is the round's own generator; `least_s`: for how long its fault lasts at least; `began`: when the fault was
    done; `hit`: to which of our programs; `stood_in`: whether others do the work of what was hit, or may."""

    def __init__(self, folder, topology, rounds):
        self.pipeline = Pipeline.create(folder, bound=True, runners=2, clock="event", spool_bytes_max="128M", exporter_poll="300ms", twins=True,
                                        proxied=True, skewed=True, extra=EXTRA, **TOPOLOGIES[topology])
        self.topology, self.random = topology, None
        self.least_s, self.watch = 0.0, Watch(self.pipeline)
        self.began, self.hit, self.stood_in = 0.0, (), False
        self.fleets, self.fleet, self.notes, self.may_end = [], None, [], ()
        self.at_ms = (int(time.time()) * 1000 // HOUR_MS - ROUND_HOURS * (rounds + 1)) * HOUR_MS
        self.wanted = set()
        self.disks = [self.pipeline.path("spool", runner["name"]) for runner in self.pipeline.made["runners"]]

    # Its life.

    def start(self):
        """Mount, start, tie teams to customers."""
        for disk in self.disks:
            os.makedirs(disk, exist_ok=True)
            _check(_LIBC.mount(b"tmpfs", disk.encode(), b"tmpfs", 0, b"size=%dm" % DISK_MIB), "a small file system at " + disk)
        self.pipeline.start()
        self.wanted = set(self.pipeline.processes()) - set(TWINS)
        for team, customer in CUSTOMERS.items():
            self.pipeline.set_account(team, customer)
        self.watch.start()

    def end(self, keep):
        """End everything; `keep`: what is on the small file systems goes to where it can be looked at."""
        self.watch.end()
        self.pipeline.kill()
        for disk in self.disks:
            if keep and os.path.ismount(disk):
                shutil.copytree(disk, disk + ".kept")
            if os.path.ismount(disk):
                _check(_LIBC.umount2(disk.encode(), MNT_DETACH), "unmounting " + disk)
        if not keep:
            shutil.rmtree(self.pipeline.folder)

    def start_fleet(self, seed, number, **options):
        """The traffic of a round: another boot of the same hosts, in the hours after those of the round before."""
        fleet = Fleet(self.pipeline, "fleet")
        fleet.expect_file = self.pipeline.path("round-%d.expect.json" % number)
        span_ms = ROUND_HOURS * HOUR_MS - 900_000
        fleet.start(**{"seed": seed, "events": 12_000, "sandboxes": 120, "seconds": 3, "start": self.at_ms + 300_000, "span_ms": span_ms,
                       "drain_ms": 120_000, "teams": 4, "bad_percent": 1, "all_end": True, **options})
        self.at_ms += ROUND_HOURS * HOUR_MS
        self.fleets.append(fleet)
        self.fleet = fleet

    def round_from_s(self):
        """When the hours of the newest traffic begin."""
        return self.at_ms // 1000 - ROUND_HOURS * 3600

    # Choosing.

    def names(self, part):
        """The processes that are a part: "collector", "kafka", ...; not the twins."""
        return [name for name in self.pipeline.processes() if name.partition("-")[0] == part and name not in TWINS]

    def choose(self, part):
        """One of them."""
        return self.random.choice(self.names(part))

    def choose_link(self, part):
        """A link of the proxy's to a part."""
        return self.random.choice([name for name in self.pipeline.proxy.links if name.partition("-")[0] == part])

    def hold(self, least_s, most_s):
        """Let things be as they are for a while."""
        time.sleep(self.random.uniform(least_s, most_s))

    def last(self, least_s, most_s):
        """Let the fault last: as hold(), but for as long as the campaign wants."""
        time.sleep(max(self.least_s, self.random.uniform(least_s, most_s)))

    def hits(self, *names):
        """That is what the fault is done to."""
        self.hit += tuple(name for name in names if name in self.pipeline.programs and name not in TWINS)
        kafka, redis = self.pipeline.kafka.nodes, self.pipeline.redis
        self.stood_in = 0 < sum(name in kafka for name in names) < len(kafka) or any(name in redis.nodes and redis.is_replica(name) for name in names)

    def note(self, text):
        """Something for the round's line."""
        self.notes.append(text)

    def begin(self, fault, least_s):
        """A fault is about to be done."""
        self.notes, self.may_end, self.least_s = [], fault.may_end, least_s
        self.hit, self.stood_in, self.began = (), False, time.monotonic()

    # Hurting.

    def process(self, name):
        """A process by its name."""
        return self.pipeline.processes()[name]

    def kill(self, *names):
        """kill -9, all at once."""
        self.hits(*names)
        for name in names:
            self.process(name).signal(signal.SIGKILL)
        for name in names:
            self.process(name).kill()
        self.note("kill -9 " + " ".join(names))

    def spawn(self, *names):
        """Start what was ended; it may not be ready yet."""
        for name in names:
            self.pipeline.spawn(name)

    def freeze(self, name):
        """SIGSTOP."""
        self.hits(name)
        self.process(name).signal(signal.SIGSTOP)
        self.note("SIGSTOP " + name)

    def thaw(self, name):
        """SIGCONT."""
        self.process(name).signal(signal.SIGCONT)

    def link(self, name, mode, **order):
        """Make a link misbehave, or pass."""
        self.pipeline.proxy.tell(name, mode=mode, **order)
        if mode != "pass":
            self.note("%s link %s" % (mode, name))

    def links(self, part, mode, **order):
        """The same to every link of a part."""
        for name in self.pipeline.proxy.links:
            if name.partition("-")[0] == part:
                self.link(name, mode, **order)

    def stripe_faults(self, rules):
        """A fault script for the double."""
        body = json.dumps({"seed": self.random.randrange(1 << 30), "rules": rules}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.pipeline.stripe_admin_url + "/control/faults", body), timeout=5):
            pass

    def stripe_faults_fired(self):
        """How often that script has done something."""
        return sum(rule["fired"] for rule in json.loads(http_get(self.pipeline.stripe_admin_url + "/control/stats")[1])["faults"])

    # Mending.

    def heal(self):
        """End whatever a fault left: the outside first, until it works; then our programs, not waiting for them."""
        for process in self.pipeline.processes().values():
            process.signal(signal.SIGCONT)
        self.pipeline.wait_ready("proxy")
        for name in self.pipeline.proxy.links:
            self.link(name, "pass")
        for name in self.pipeline.programs:
            self.pipeline.skew(name, 0)
        outside = [name for name in self.pipeline.processes() if name not in self.pipeline.programs]
        for name in outside:
            if not self.process(name).alive():
                self.spawn(name)
        for name in outside:
            self.pipeline.wait_ready(name, READY_S)
        self.stripe_faults([])
        self.look_after()

    def look_after(self, names=None):
        """Start again what has ended, as systemd would; an end that is a bug is an error. Of these, or of all."""
        for name in sorted(self.wanted.intersection(names or self.wanted)):
            process = self.process(name)
            if process.alive():
                continue
            code = process.child.returncode
            if code != -signal.SIGKILL:  # which is what kill() does
                if code < 0 or not (name.partition("-")[0] in self.may_end or FENCED_BY_ITSELF in process.log_tail(1)):
                    raise HarnessError("%s ended by itself (%d)\n%s" % (name, code, process.log_tail()))
                self.note("%s ended and was started again" % name)
            self.spawn(name)

    def wait_green(self):
        """All of ours are ready."""
        for name in sorted(self.wanted & set(self.pipeline.programs)):
            began = time.monotonic()
            while not self.pipeline.ready(name):
                self.look_after()
                if time.monotonic() - began > READY_S:
                    raise HarnessError("%s: not ready within %d s: %s\n%s" % (name, READY_S, settle.health(self.pipeline, name),
                                                                               self.process(name).log_tail()))
                time.sleep(0.05)
            if time.monotonic() - began > LONG_READY_S:
                self.note("long: %s ready after %d s" % (name, time.monotonic() - began))

    # Looking.

    def metric(self, name, which):
        """A metric of one of our programs; 0 when it does not answer or has none of that name."""
        return metric(self.pipeline.ops_url(name), which) or 0

    def acked(self):
        """Events acked so far in this round."""
        return self.fleet.progress().get("acked", 0)

    def wait_flowing(self, more=500, timeout_s=60):
        """Events flow: so many more are acked, or the fleet is through."""
        before = self.acked()
        wait_for("events to flow", lambda: self.acked() >= before + more or not self.fleet.running(), timeout_s)
