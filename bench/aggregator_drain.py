#!/usr/bin/env python3
"""Rows a CPU-second of the real aggregator, from real Kafka into real Redis, against a loop that drains without any guarantee.

usage: bench/aggregator_drain.py [--rows N] [--events N] [--rounds N] [--case CASE]

Cases:
    long lives     drain_fill.c: a thousand sandboxes a runner that live long, a slice of each every ten seconds; hundreds of rows a cell
    short lives    the simulator through real collectors: half of all sandboxes live below a second; a handful of rows a cell, for every life
                   has a record of its own in the view

The topic is filled once. Then, in turn, as often as there are rounds: the floor (drain_floor.c: fetch, unpack, sum), and the aggregator with
an empty view and an empty archive, until every shard's vector stands at the topic's ends. CPU-seconds are of all threads of the process, the
aggregator's from its start on; its seconds begin when it is ready. At the end the view's sums must be the floor's.

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

FILL = os.path.join(tools.BUILD, "bench/bench_drain_fill")
FLOOR = os.path.join(tools.BUILD, "bench/bench_drain_floor")
RATIO_AIM = 0.6
RUNNERS = 4
SANDBOXES = 2000
TEAMS = 20
SUMS = ("vcpu_ms", "mem_mib_ms", "disk_mib_ms", "running_ms")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a living process."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def fill_long(pipeline, options):
    """Batches that drain_fill.c makes."""
    subprocess.run([FILL, pipeline.kafka.brokers, pipeline.made["topics"]["events"], str(config.PARTITIONS), str(RUNNERS), str(options.rows)],
                   check=True, timeout=300)


def fill_short(pipeline, options):
    """Batches that collectors make of what the simulator says."""
    collectors = [name for name in pipeline.programs if name.startswith("collector-")]
    for name in collectors:
        pipeline.spawn(name)
    for name in collectors:
        pipeline.wait_ready(name)
    fleet = Fleet(pipeline)
    fleet.start(events=options.events, sandboxes=SANDBOXES, seconds=0, teams=TEAMS, seed=7)
    fleet.finish()
    wait_for("the collectors to ship", lambda: not settle.unsent(pipeline), 120, pause_s=0.2)
    for name in collectors:
        pipeline.programs[name].stop()


CASES = {"long lives": fill_long, "short lives": fill_short}


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
    aggregator = pipeline.programs["aggregator"]
    program = tools.program(PROGRAM_FILES["aggregator"])
    aggregator.spawn([program, "--config", pipeline.path("etc", "aggregator.conf")])
    try:
        wait_for("the shards to be restored", lambda: pipeline.ready("aggregator"), 60, aggregator.alive, pause_s=0.02)
        began = time.monotonic()
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


def report(case, rounds):
    """The figures."""
    rows = rounds[0][0]["rows"]

    def one(name, unit, ours, floors):
        return {"bench": "aggregator_drain", "case": "%s, %s" % (name, case), "value": round(statistics.median(rows / s for s in ours)),
                "unit": unit, "floor": "drain, unpack, sum", "floor_value": round(statistics.median(rows / s for s in floors)),
                "ratio": round(statistics.median(floor / s for s, floor in zip(ours, floors)), 3)}

    yield {**one("rows by CPU", "rows/cpu_s", [cpu for _, (cpu, _) in rounds], [floor["cpu_s"] for floor, _ in rounds]), "aim": RATIO_AIM}
    yield one("rows", "rows/s", [seconds for _, (_, seconds) in rounds], [floor["seconds"] for floor, _ in rounds])


def measure(case, options):
    """One case's figures."""
    with tempfile.TemporaryDirectory(prefix="sandglass-bench-") as folder:
        pipeline = Pipeline.create(folder, bound=True, runners=RUNNERS, clock="event")
        servers = [*pipeline.kafka.nodes, *pipeline.redis.nodes]
        try:
            pipeline.write_configs()
            for name in servers:
                pipeline.spawn(name)
            for name in servers:
                pipeline.wait_ready(name)
            pipeline.cli_text("topics", "create", "--partitions", str(config.PARTITIONS), "--replication", "1")
            CASES[case](pipeline, options)
            ends = pipeline.kafka.end_offsets(pipeline.made["topics"]["events"])
            rounds = [(run_floor(pipeline), run_aggregator(pipeline, ends, number)) for number in range(options.rounds)]
            check(pipeline, rounds[-1][0])
            for floor, (cpu, seconds) in rounds:
                print("%s, %d rows: floor %.2f CPU-s in %.2f s, aggregator %.2f CPU-s in %.2f s" % (
                    case, floor["rows"], floor["cpu_s"], floor["seconds"], cpu, seconds), file=sys.stderr)
            return list(report(case, rounds))
        finally:
            pipeline.kill()


def main():
    """Every case in turn."""
    parser = argparse.ArgumentParser(description="rows a CPU-second of the aggregator against a loop without guarantees")
    parser.add_argument("--rows", type=int, default=4_000_000, help="of long lives")
    parser.add_argument("--events", type=int, default=1_000_000, help="of short lives")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, help="only this one")
    options = parser.parse_args()
    try:
        for case in [options.case] if options.case else CASES:
            for one in measure(case, options):
                print(json.dumps(one), flush=True)
    except (HarnessError, subprocess.SubprocessError) as error:
        print("aggregator_drain: %s" % error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
