"""What our programs say of themselves while things are done to them, and whether it was true.

HAPPY PATH  A thread for each program asks it for /metrics, again and again, and for /healthz while it is not healthy. begin() forgets what was
            seen; whatever counter rose since then, which components were at fault, when it was red and why, and whether it was away for a while is
            in seen(). A counter that is lower than before belongs to a new process, and has risen from 0.
RULES       Looked at at every answer, whoever did what: a program that has something to do, and has not come any further for STOOD_S as seen
            from here, says that it is not healthy; one that runs answers within SILENT_S.
"""
import collections
import json
import re
import threading
import time

from . import settle
from .pipeline import http_get

PAUSE_S, TIMEOUT_S = 0.25, 0.5
STOOD_S = 10.5  # ten seconds, and the time between two looks
SILENT_S = 6
# What moves while a program comes further; beside its lag, when that becomes less.
POSITIONS = {"collector": ("sandglass_collector_delivered_seq",), "aggregator": ("sandglass_aggregator_batches_total",),
             "exporter": ("sandglass_exporter_intents_total", "sandglass_exporter_answers_total"), "api": ()}
_SERIES = re.compile(r"^(\w+)(\{[^}]*\})? (\d+)$", re.M)
_FAULTS = re.compile(r'^sandglass_faults_total\{component="([\w-]+)"\}$')


class Seen:
    """What was seen of one program since begin()."""

    def __init__(self):
        self.away = False  # it did not answer, or is another process
        self.rose = collections.Counter()  # series, and metrics over all of their labels: by how much
        self.red_at = {}  # component or other word before a colon: when it was first red with that
        self.faults = set()  # components whose fault has begun


class Watch:
    """Eyes on all programs of a pipeline, from start() to end()."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.records, self.threads, self.untrue = {}, [], []
        self.looks = collections.Counter()

    def start(self):
        """Begin to look."""
        self.begin()
        self.threads = [threading.Thread(target=self._look, args=(name,), daemon=True) for name in self.pipeline.programs]
        for thread in self.threads:
            thread.start()

    def end(self):
        """No more looks."""
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def begin(self):
        """From here on counts what is seen."""
        with self.lock:
            self.records = collections.defaultdict(Seen)

    def seen(self, name):
        """What was seen of a program so far."""
        with self.lock:
            return self.records[name]

    def wait_look(self):
        """Until every program that runs has been looked at once more, from beginning to end."""
        before = dict(self.looks)
        deadline = time.monotonic() + SILENT_S
        while time.monotonic() < deadline and any(self.looks[name] < before.get(name, 0) + 2 for name in self.pipeline.programs):
            time.sleep(0.02)

    def _look(self, name):
        last, eye = {}, Eye(name)
        while not self.ending.wait(PAUSE_S):
            status, body = http_get(self.pipeline.ops_url(name) + "/metrics", TIMEOUT_S)
            now, process = time.monotonic(), self.pipeline.programs[name]
            if status != 200:
                with self.lock:
                    self.records[name].away = True
                self._tell(eye.silent(now, process))
                self.looks[name] += 1
                continue
            new = {metric + labels: int(value) for metric, labels, value in _SERIES.findall(body.decode())}
            report = settle.health(self.pipeline, name) if not new["sandglass_healthy"] else None
            with self.lock:
                self._take(self.records[name], last, new, report, now)
            self._tell(eye.spoke(now, new))
            last = new
            self.looks[name] += 1

    def _tell(self, untrue):
        if untrue:
            self.untrue.append(untrue)

    @staticmethod
    def _take(seen, last, new, report, now):
        reborn = new["sandglass_start_time_ms"] != last.get("sandglass_start_time_ms")
        seen.away = seen.away or (reborn and bool(last))
        for series, value in new.items():
            risen = value if reborn else value - last.get(series, 0)
            if risen > 0 and last:
                seen.rose[series] += risen
                if "{" in series:
                    seen.rose[series.partition("{")[0]] += risen
                found = _FAULTS.match(series)
                if found:
                    seen.faults.add(found[1])
        if report is not None and not report["healthy"]:
            for reason in report["reason"].split("; "):
                seen.red_at.setdefault(reason.partition(":")[0], now)


class Eye:
    """The rules, for one program."""

    def __init__(self, name):
        self.name, self.part = name, name.partition("-")[0]
        self.positions, self.lag, self.moved_at, self.silent_since = None, 0, 0, None

    def silent(self, now, process):
        """It did not answer: what is not true, or None."""
        self.moved_at = now
        if not _runs(process):
            self.silent_since = None
            return None
        self.silent_since = self.silent_since or now
        if now - self.silent_since < SILENT_S:
            return None
        self.silent_since = now
        return "%s runs and does not answer for %d s" % (self.name, SILENT_S)

    def spoke(self, now, new):
        """It answered: what is not true, or None."""
        self.silent_since = None
        positions = [value for series, value in new.items() if series.partition("{")[0] in POSITIONS[self.part]]
        if positions != self.positions or new["sandglass_lag"] < self.lag or new["sandglass_lag"] == 0 or not new["sandglass_healthy"]:
            self.moved_at = now
        self.positions, self.lag = positions, new["sandglass_lag"]
        if now - self.moved_at < STOOD_S:
            return None
        stood_s, self.moved_at = now - self.moved_at, now
        return "%s is green, has %d to do, and has not moved for %.1f s" % (self.name, self.lag, stood_s)


def _runs(process):
    """Whether it is there and not stopped."""
    pid = process.pid
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "TtZX"
    except (OSError, TypeError):
        return False
