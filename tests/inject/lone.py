"""The collector with nothing behind it: start, run and recovery of the spool, with one call failing.

A CASE    A collector is started with the fault, on an empty directory or on one that an earlier collector left behind when it was killed. A
          supervisor sends what has not been acknowledged, and remembers what was. When all is acknowledged, or the collector has ended, or time
          is up, a collector without a fault takes over the directory; the rest is sent to it, and it is killed.
PROMISES  The faulty one has gone on, or has stopped with a message, or was killed by the fault: no other signal, no hang. The second one starts
          and knows every number that was ever acknowledged. The spool then holds the contract's arithmetic of all events: nothing lost, nothing
          twice, nothing invented.
"""
import os
import shutil
import signal
import time

from harness.lone_collector import Books, LoneCollector, cells_of
from harness.process import HarnessError

from . import library
from .feeder import ROUND_EVENTS, Feeder, make_events, take_all
from .verdict import FAILED, NOT_REACHED, SURVIVED, Broken, Case, judge_end

ROUNDS = 5
RUN_S, STALL_S, STOP_S = 10, 1.5, 15
LEFT_BEHIND = 3 * ROUND_EVENTS  # acknowledged by the collector whose directory is recovered
SETTINGS = {"spool_segment_bytes": "1k", "heartbeat_interval": "100ms"}
EVENTS = make_events(0, ROUNDS, 20_000, 20_000, teams=3)


def _expected():
    books = Books()
    take_all(books, EVENTS)
    return books.end()


class Collector(LoneCollector):
    """One that may be started with a fault, and may then not even listen."""

    def __init__(self, folder):
        super().__init__(folder, **SETTINGS)
        self.report = os.path.join(self.folder, "report")

    def start_with(self, objects, fault):
        """Start it, not waiting for anything."""
        self.spawn(library.environment(self.report, objects, fault))

    def log(self):
        """All that it wrote."""
        with open(self.process.log_file, encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        """SIGTERM, if it still runs; the exit code."""
        self.process.signal(signal.SIGTERM)
        self.process.wait_gone(STOP_S)
        return self.process.child.wait()


def _feeder(collector):
    return Feeder(collector.path, collector.process, EVENTS)


def leave_behind(folder):
    """A spool as a killed collector leaves it."""
    collector = Collector(folder)
    collector.start()
    if not _feeder(collector).feed(LEFT_BEHIND, RUN_S):
        raise HarnessError("no spool could be made")
    collector.kill()
    return collector.spool


def count(folder, left_behind, objects="program"):
    """{call: how often} of a whole run without a fault."""
    collector = _make(folder, left_behind)
    collector.start_with(objects, None)
    if not _feeder(collector).feed(len(EVENTS), RUN_S) or collector.end():
        raise HarnessError("the run without a fault failed\n" + collector.log())
    return library.read_report(collector.report)


def _make(folder, left_behind):
    shutil.rmtree(folder, ignore_errors=True)
    collector = Collector(folder)
    if left_behind:
        shutil.copytree(left_behind, collector.spool, dirs_exist_ok=True)
    return collector


def _with_fault(collector, feeder, case):
    collector.start_with(case.fault.objects, case.fault)
    fed = feeder.feed(len(EVENTS), STALL_S if case.fault.ever else RUN_S)
    asked = collector.process.alive()
    try:
        code = collector.end()
    except HarnessError:
        raise Broken("it does not end when asked to") from None
    case.result, case.why = judge_end(case.fault, code, collector.log(), asked)
    if not library.read_report(collector.report).get(library.STRUCK):
        case.result = NOT_REACHED
    elif case.result == SURVIVED and not fed and not case.fault.ever:
        raise Broken("it did not go on after a single failure")


def _without(collector, feeder):
    try:
        collector.start()
    except HarnessError:
        raise Broken("it does not start again: " + collector.process.log_tail(1)) from None
    if not feeder.feed(len(EVENTS), RUN_S):
        raise Broken("it does not go on after the start: " + collector.process.log_tail(1))
    collector.kill()
    if cells_of(collector.rows()) != _expected():
        raise Broken("the spool does not hold what was acknowledged")


def run(fault, folder, left_behind=None):
    """One case. The folder stays when it failed."""
    case = Case("collector " + ("recovery" if left_behind else "start"), fault)
    collector = _make(folder, left_behind)
    feeder = _feeder(collector)
    feeder.acked = LEFT_BEHIND if left_behind else 0
    try:
        _with_fault(collector, feeder, case)
        _without(collector, feeder)
        shutil.rmtree(folder)
    except Broken as broken:
        case.result, case.why = FAILED, str(broken)
    finally:
        collector.kill()
    return case
