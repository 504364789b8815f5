#!/usr/bin/env python3
"""Durable events a second through the real collector, and the memory it takes.

usage: bench/ingest.py [--events N] [--sandboxes N] [--kafka JARS]

The fleet simulator speaks to sandglass-collector as fast as acks allow; an event counts when its ack has come, so when it is on disk.
Cases:
    away      no Kafka: the broker's port is closed, everything stays in the spool
    late      the same, then the broker comes and takes all of it
    reached   the broker is there from the beginning: the collector ships while it takes
The last two need Kafka's jars (--kafka, or where deploy/local has left them).
CPU-seconds and memory (VmHWM: the highest resident size ever) are the kernel's. Collector, simulator and broker share the machine's
cores, so events a second are a lower bound of what the collector can; events a CPU-second are its own.

Prints a line of JSON per figure on stdout, everything else on stderr. Exit code 1: an event was lost or refused, or a program failed.
"""
import argparse
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests"))
# pylint: disable=wrong-import-position
from harness import config, tools  # noqa: E402
from harness.kafka import Kafka  # noqa: E402
from harness.pipeline import http_get  # noqa: E402
from harness.process import HarnessError, Process, free_ports, wait_for  # noqa: E402

RUNNER, REGION = "r1", "eu"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
RSS_AIM_KIB = 16 * 1024
EVENTS_AIM = 100_000


def cpu_seconds(pid):
    """User and system time of a living process."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def memory_high_kib(pid):
    """The VmHWM of a living process."""
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def figure(case, value, unit, aim=None):
    """A figure as bench/README.md has it."""
    return {"bench": "ingest", "case": case, "value": round(value), "unit": unit, **({} if aim is None else {"aim": aim})}


class Bench:
    """A collector, the simulator and perhaps a broker in a folder that is gone afterwards."""

    def __init__(self, folder, jars):
        self.folder = folder
        for sub in ("run", "log", "spool", "kafka"):
            os.makedirs(self.path(sub))
        world = {"run_dir": self.path("run"), "log_dir": self.path("log"), "bound": True}
        self.collector, self.fleet = Process("collector", **world), Process("fleet", **world)
        self.kafka = Kafka(self.path("kafka"), jars, Kafka.new_settings(), **world) if jars else None
        self.ops_port, closed_port = free_ports(2)
        self.shared = config.Shared(self.kafka.brokers if jars else "127.0.0.1:%d" % closed_port, "127.0.0.1:1", False, tools.PRICE_BOOK)

    def path(self, *parts):
        """A path in the folder."""
        return os.path.join(self.folder, *parts)

    def start_kafka(self):
        """The broker and its topics."""
        self.kafka.start()
        self.kafka.wait_ready()
        config.write(self.path("cli.conf"), config.cli(self.shared, cluster="bench", programs=[]))
        create = Process("topics", self.path("run"), self.path("log"), True)
        create.spawn([tools.program("sandglass"), "--config", self.path("cli.conf"), "topics", "create", "--replication", "1"])
        create.wait_gone(60)
        if create.child.wait():
            raise HarnessError("topics were not created\n" + create.log_tail())

    def start_collector(self):
        """The collector, ready."""
        lines = config.collector(self.shared, runner=RUNNER, region=REGION, clock="event", ingest_socket=self.path("r1.sock"),
                                 spool_dir=self.path("spool"), spool_bytes_max="4G", cgroup_root=self.path("none"),
                                 ops_listen="127.0.0.1:%d" % self.ops_port)
        config.write(self.path("collector.conf"), lines)
        self.collector.spawn([tools.program("sandglass-collector"), "--config", self.path("collector.conf")])
        wait_for("the collector to be ready", lambda: http_get(self.ops("/readyz"))[0] == 200, 20, self.collector.alive)

    def ops(self, path):
        """A URL of the collector's operations listener."""
        return "http://127.0.0.1:%d%s" % (self.ops_port, path)

    def feed(self, events, sandboxes):
        """Run the simulator; (events acked, seconds from its first line to the last ack)."""
        self.fleet.spawn([tools.program("sandglass-fleet"), "--socket", "%s:%s:%s" % (RUNNER, REGION, self.path("r1.sock")),
                          "--events", str(events), "--sandboxes", str(sandboxes), "--seconds", "0", "--seed", "7",
                          "--expect", self.path("expect.json"), "--progress", self.path("progress.json")])
        self.fleet.wait_gone(600)
        if self.fleet.child.wait():
            raise HarnessError("the simulator failed\n" + self.fleet.log_tail())
        with open(self.path("expect.json"), encoding="utf-8") as file:
            accepted = json.load(file)["accepted_events"]
        with open(self.path("progress.json"), encoding="utf-8") as file:
            return accepted, json.load(file)["elapsed_ms"] / 1000

    def wait_shipped(self):
        """Wait until Kafka has everything."""
        def lag():
            status, body = http_get(self.ops("/healthz"))
            return status == 200 and json.loads(body)["lag"] == 0
        wait_for("the backlog to be shipped", lag, 120, self.collector.alive)

    def end(self):
        """Everything stops."""
        for process in (self.fleet, self.collector):
            process.kill()
        if self.kafka:
            self.kafka.stop()


def measure(case, options):
    """A case's figures."""
    with tempfile.TemporaryDirectory(prefix="sandglass-bench-") as folder:
        bench = Bench(folder, None if case == "away" else options.kafka)
        try:
            if case == "reached":
                bench.start_kafka()
            bench.start_collector()
            pid = bench.collector.pid
            events, seconds = bench.feed(options.events, options.sandboxes)
            cpu_s = cpu_seconds(pid)
            if case == "late":
                bench.start_kafka()
            if case != "away":
                bench.wait_shipped()
            return [
                figure("durable events, broker " + case, events / seconds, "events/s", EVENTS_AIM),
                figure("events by CPU, broker " + case, events / cpu_s, "events/cpu_s"),
                figure("memory high-water mark, broker " + case, memory_high_kib(pid), "KiB", RSS_AIM_KIB),
            ]
        finally:
            bench.end()


def main():
    """Every case in turn."""
    parser = argparse.ArgumentParser(description="durable events a second through the collector, and its memory")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--sandboxes", type=int, default=1000)
    parser.add_argument("--kafka", default=tools.KAFKA_JARS, help="folder of Kafka's jars (default: where deploy/local keeps them)")
    options = parser.parse_args()
    cases = ("away", "late", "reached") if os.path.isdir(options.kafka) else ("away",)
    if len(cases) == 1:
        print("ingest: Kafka's jars are not in %s: only without a broker" % options.kafka, file=sys.stderr)
    try:
        for case in cases:
            for one in measure(case, options):
                print(json.dumps(one), flush=True)
    except HarnessError as error:
        print("ingest: %s" % error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
