#!/usr/bin/env python3
"""Rows a CPU-second of the real aggregator, from real Kafka into real Redis, against a loop that drains without any guarantee.

usage: bench/aggregator_drain.py [--events N] [--rounds N] [--runners N] [--sandboxes N]

The simulator fills the events topic through collectors, once. Then, in turn, as often as there are rounds: the floor (drain_floor.c: fetch,
unpack, sum), and the aggregator with an empty view and an empty archive, until every shard's vector stands at the topic's ends. CPU-seconds
are of all threads of the process, the aggregator's from its start on.

Prints a line of JSON per figure on stdout, everything else on stderr. Exit code 1: a program failed, or the sums are not the floor's.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests"))
# pylint: disable=wrong-import-position
from harness import config, settle, tools  # noqa: E402
from harness.fleet import Fleet  # noqa: E402
from harness.pipeline import PROGRAM_FILES, Pipeline  # noqa: E402
from harness.process import HarnessError, wait_for  # noqa: E402

FLOOR = os.path.join(tools.BUILD, "bench/bench_drain_floor")
RATIO_AIM = 0.6
TEAMS = 20
SUMS = ("vcpu_ms", "mem_mib_ms", "disk_mib_ms", "running_ms")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a living process."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def fill(pipeline, options):
    """Batches on the topic, made by real collectors."""
    collectors = [name for name in pipeline.programs if name.startswith("collector-")]
    for name in collectors:
        pipeline.spawn(name)
    for name in collectors:
        pipeline.wait_ready(name)
    fleet = Fleet(pipeline)
    fleet.start(events=options.events, sandboxes=options.sandboxes, seconds=0, teams=TEAMS, seed=7)
    fleet.finish()
    wait_for("the collectors to ship", lambda: not any(settle.health(pipeline, name)["lag"] for name in collectors), 120, pause_s=0.2)
    for name in collectors:
        pipeline.programs[name].stop()
    return pipeline.kafka.end_offsets(pipeline.made["topics"]["events"])


def run_floor(pipeline):
    """One round of the floor."""
    done = subprocess.run([FLOOR, pipeline.kafka.brokers, pipeline.made["topics"]["events"], str(config.PARTITIONS)], check=False,
                          capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise HarnessError(done.stderr)
    return json.loads(done.stdout)


def run_aggregator(pipeline, ends, number):
    """One round of the aggregator: (CPU-seconds, seconds)."""
    pipeline.redis.flush_all()
    pipeline.made["topics"]["ledger"] = "%s.%d" % (config.TOPICS["ledger"], number)  # the old one would be restored
    pipeline.write_configs()
    pipeline.cli_text("topics", "create", "--partitions", str(config.PARTITIONS), "--replication", "1")
    aggregator, began = pipeline.programs["aggregator"], time.monotonic()
    program = tools.program(PROGRAM_FILES["aggregator"])
    aggregator.spawn([program, "--config", pipeline.path("etc", "aggregator.conf")])
    try:
        wait_for("the topic to be drained", lambda: not settle.not_rolled_up(pipeline, ends), 300, aggregator.alive, pause_s=0.1)
        return cpu_seconds(aggregator.pid), time.monotonic() - began
    except HarnessError as error:
        raise HarnessError("%s\n%s" % (error, aggregator.log_tail())) from None
    finally:
        aggregator.stop()


def check(pipeline, floor):
    """The view's sums over all hours are the floor's."""
    rollups = settle.hour_rollups(pipeline, {"team-%d" % (i + 1): None for i in range(TEAMS)})
    for name in SUMS:
        found = sum(sums.get(name, 0) for sums in rollups.values())
        if found != floor[name]:
            raise HarnessError("%s: the view has %d, the topic %d" % (name, found, floor[name]))


def report(rounds):
    """The figures."""
    rows = rounds[0][0]["rows"]
    rates = [rows / cpu for _, (cpu, _) in rounds]
    floors = [floor["rows"] / floor["cpu_s"] for floor, _ in rounds]
    ratio = statistics.median(rate / floor for rate, floor in zip(rates, floors))
    yield {"bench": "aggregator_drain", "case": "rows by CPU", "value": round(statistics.median(rates)), "unit": "rows/cpu_s",
           "floor": "drain, unpack, sum", "floor_value": round(statistics.median(floors)), "ratio": round(ratio, 3), "aim": RATIO_AIM}
    yield {"bench": "aggregator_drain", "case": "rows", "value": round(statistics.median(rows / seconds for _, (_, seconds) in rounds)),
           "unit": "rows/s", "floor": "drain, unpack, sum",
           "floor_value": round(statistics.median(rows / floor["seconds"] for floor, _ in rounds)),
           "ratio": round(statistics.median(floor["seconds"] / seconds for floor, (_, seconds) in rounds), 3)}


def main():
    """Fill, then the rounds."""
    parser = argparse.ArgumentParser(description="rows a CPU-second of the aggregator against a loop without guarantees")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runners", type=int, default=4)
    parser.add_argument("--sandboxes", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sandglass-bench-") as folder:
        pipeline = Pipeline.create(folder, bound=True, runners=options.runners, clock="event")
        try:
            pipeline.write_configs()
            for name in [*pipeline.kafka.nodes, *pipeline.redis.nodes]:
                pipeline.spawn(name)
            for name in [*pipeline.kafka.nodes, *pipeline.redis.nodes]:
                pipeline.wait_ready(name)
            pipeline.cli_text("topics", "create", "--partitions", str(config.PARTITIONS), "--replication", "1")
            ends = fill(pipeline, options)
            rounds = [(run_floor(pipeline), run_aggregator(pipeline, ends, number)) for number in range(options.rounds)]
            check(pipeline, rounds[-1][0])
            for floor, (cpu, seconds) in rounds:
                print("floor %.2f CPU-s in %.2f s, aggregator %.2f CPU-s in %.2f s" % (floor["cpu_s"], floor["seconds"], cpu, seconds),
                      file=sys.stderr)
            for one in report(rounds):
                print(json.dumps(one), flush=True)
        except HarnessError as error:
            print("aggregator_drain: %s" % error, file=sys.stderr)
            return 1
        finally:
            pipeline.kill()
    return 0


sys.exit(main())
