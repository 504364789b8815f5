"""The whole pipeline with one program in which one call fails: real Kafka, real Redis, the double of Stripe, all of which stay.

A CASE    The program is killed and started with the fault. A supervisor sends an hour of events. When all of it is rolled up and billed, or the
          program has ended, or time is up, the program is asked to end; unless all is settled, one without a fault is started in its place.
RESTORE   The same with an aggregator that finds Redis empty: the events topic has forgotten what the archive had in the first such case, so those
          hours come from there and from nowhere else.
PROMISES  As in lone.py; and after each case the equation, to the unit, from the first case on: what was acknowledged = what the view's hours say
          = what Stripe would bill for the hours that are closed (all of them, at a case's end) and the teams that have customers.
"""
import json
import os
import re
import shutil
import signal
import time

from harness import settle
from harness.lone_collector import Books
from harness.pipeline import Pipeline, http_get
from harness.process import HarnessError, Process, wait_for
from harness.redis import RedisError

from . import library
from .feeder import Feeder, make_events, take_all
from .verdict import FAILED, NOT_REACHED, SURVIVED, Broken, Case, judge_end

HOUR_S, START_S = 3600, 1_763_884_800
TEAMS, CUSTOMERS = 3, {"team-1": "cus_one", "team-2": "cus_two"}  # team-3 has none: pending
ROUNDS = 2
RESTORE = "aggregator-restore"
ONCE_S, STOP_S, AGAIN_S = 12, 20, 40
EVER_S = {RESTORE: 4}  # the others 2.5; restoring takes more than a second
# More calls in less time than in a pipeline for people.
SETTINGS = {"collector": {"seal_interval": "20ms", "heartbeat_interval": "300ms", "spool_segment_bytes": "1k"},
            "aggregator": {"flush_interval": "50ms"},
            "exporter": {"poll_interval": "100ms", "archive_interval": "1s"}}


class Tight(Pipeline):
    """A pipeline in a hurry, without the API."""

    def __init__(self, folder, bound):
        super().__init__(folder, bound)
        self.programs.pop("api")

    def write_configs(self):
        super().write_configs()
        for name in self.programs:
            wanted, path = SETTINGS[name.partition("-")[0]], self.path("etc", name + ".conf")
            with open(path, encoding="utf-8") as file:
                lines = [line for line in file if line.partition(" = ")[0] not in wanted]
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(lines + ["%s = %s\n" % setting for setting in wanted.items()])


class World:
    """The pipeline, the events so far, and what they must have come to."""

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        self.failed = self.forgotten = False
        self.folder, self.hours, self.events, self.books = folder, 0, [], Books(wall_ms=START_S * 1000)
        self.pipeline = Tight.create(folder, bound=True, clock="event")
        try:
            self.pipeline.start()
            for team, customer in CUSTOMERS.items():
                self.pipeline.set_account(team, customer)
        except BaseException:
            self.pipeline.kill()
            raise
        self.feeder = Feeder(self.pipeline.socket("r1"), self.pipeline.programs["collector-r1"], self.events, START_S * 1000)

    def close(self):
        """End it all."""
        self.pipeline.kill()

    def next_hour(self):
        """An hour of events, with the time at which it is closed."""
        at = self.hours * HOUR_S * 1000
        new = make_events(self.hours * ROUNDS, ROUNDS, at + 200_000, 500_000, TEAMS) + [("tick", at + (HOUR_S + 90) * 1000, {})]
        take_all(self.books, new)
        self.events += new
        self.hours += 1

    def _wanted(self):
        hours = {}
        for (team, _project, minute, field), value in self.books.end().items():
            sums = hours.setdefault((team, minute // 60 * HOUR_S), {})
            sums[field] = sums.get(field, 0) + value
        return hours

    def differences(self):
        """What is not yet, or not at all, as it must be."""
        wanted = self._wanted()
        found = {(team, hour): {field: value for field, value in sums.items() if value}
                 for (_, team, hour), sums in settle.hour_rollups(self.pipeline, {"team-%d" % (i + 1) for i in range(TEAMS)}).items()}
        reasons = ["%s hour %d: %s acknowledged, %s rolled up" % (*place, wanted.get(place), found.get(place))
                   for place in sorted(set(wanted) | set(found)) if wanted.get(place) != found.get(place)]
        due = {(CUSTOMERS[team], meter, hour): sums[meter] for (team, hour), sums in wanted.items() if team in CUSTOMERS
               for meter in ("vcpu_ms", "mem_mib_ms") if sums.get(meter)}
        billed = self.pipeline.billed()
        reasons += ["%s %s hour %d: %s due, %s billed" % (*place, due.get(place), billed.get(place))
                    for place in sorted(set(due) | set(billed)) if due.get(place) != billed.get(place)]
        return reasons

    def settled(self, until, alive):
        """Wait until the equation holds; the differences at the end of the time, or of the program."""
        while True:
            last = time.monotonic() >= until or not alive()
            try:
                reasons = self.differences()
            except (OSError, RedisError, HarnessError) as error:
                reasons = [str(error)]
            if not reasons or last:
                return reasons
            time.sleep(0.05)

    def stripe_is_clean(self):
        """What the double has seen that must never be."""
        stats = json.loads(http_get(self.pipeline.stripe_admin_url + "/control/stats")[1])
        if stats["double_counted"] or stats["value_conflicts"] or stats["set_decreases"]:
            raise Broken("Stripe was told twice, or otherwise: %s" % stats)

    def _empty(self):
        """An empty Redis, which nobody restores yet."""
        if not self.forgotten:
            self._forget()
        self.pipeline.programs["aggregator"].kill()
        self.pipeline.redis.flush_all()

    def _forget(self):
        """The log has nothing below the archived marks any more."""
        aggregator, _ = self._start(RESTORE)
        self.next_hour()
        if not self.feeder.feed(len(self.events), AGAIN_S) or self.settled(time.monotonic() + AGAIN_S, aggregator.alive):
            raise HarnessError("not settled before anything is forgotten: %s" % self.differences()[:3])
        topic, closed_ms = self.pipeline.made["topics"]["events"], (START_S + self.hours * HOUR_S) * 1000
        wait_for("the hours to be archived", lambda: not settle.unarchived(self.pipeline, closed_ms, b"h"), AGAIN_S)
        ends = self.pipeline.kafka.end_offsets(topic)
        wait_for("the archived marks to reach as far", lambda: settle.archived_to(self.pipeline, ends), AGAIN_S, pause_s=0.5)
        self.pipeline.kafka.forget_below(topic, ends)
        self.forgotten = True

    def _process(self, name):
        return self.pipeline.programs["aggregator" if name == RESTORE else name]

    def _start(self, name, environment=None):
        process = self._process(name)
        process.kill()
        with open(process.log_file, "ab") as log:
            begin = log.tell()
        self.pipeline.spawn(process.name, environment)
        return process, begin

    def _with_fault(self, name, objects, fault, report):
        """(how it ended, as judge_end wants it, whether all was settled): one run."""
        if name == RESTORE:
            self._empty()
        process, begin = self._start(name, library.environment(report, objects, fault))
        self.next_hour()
        until = time.monotonic() + (EVER_S.get(name, 2.5) if fault and fault.ever else ONCE_S)
        fed = self.feeder.feed(len(self.events), until - time.monotonic())
        settled = fed and not self.settled(until, process.alive)
        asked = process.alive()
        process.signal(signal.SIGTERM)
        try:
            process.wait_gone(STOP_S)
        except HarnessError:
            raise Broken("it does not end when asked to") from None
        with open(process.log_file, "rb") as log:
            log.seek(begin)
            return (process.child.wait(), log.read().decode("utf-8", "replace"), asked), settled

    def count(self, name, objects):
        """{call: how often} of a run without a fault."""
        report = os.path.join(self.folder, "report")
        (code, log, _), settled = self._with_fault(name, objects, None, report)
        if code or not settled:
            raise HarnessError("the run without a fault failed: %d, %s\n%s" % (code, self.differences()[:3], log))
        if name == RESTORE and not re.search(r" event=shard_restored shard=\d+ cells=[1-9]", log):
            raise HarnessError("nothing was restored from the archive\n" + log)
        return library.read_report(report)

    def run(self, name, fault):
        """One case."""
        case, report = Case("aggregator restore" if name == RESTORE else name.partition("-")[0], fault), os.path.join(self.folder, "report")
        try:
            ended, settled = self._with_fault(name, fault.objects, fault, report)
            case.result, case.why = judge_end(fault, *ended)
            struck = library.read_report(report).get(library.STRUCK)
            if struck and case.result == SURVIVED and not settled and not fault.ever:
                raise Broken("it did not go on after a single failure: %s" % self.differences()[:2])
            if not struck:
                case.result = NOT_REACHED
            self._start(name)
            self._recovered(name, settled)
        except Broken as broken:
            case.result, case.why = FAILED, str(broken)
            self._start(name)
        return case

    def _recovered(self, name, settled):
        process = self._process(name)
        until = time.monotonic() + AGAIN_S
        if not settled and (not self.feeder.feed(len(self.events), AGAIN_S) or self.settled(until, process.alive)):
            raise Broken("not settled without a fault: %s" % self.differences()[:3])
        self.stripe_is_clean()
