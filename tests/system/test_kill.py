"""kill -9 of everything in turn, under load, and the proof."""
import itertools
import time

from conftest import assert_exact, start_fleet

EVENTS = 1_000_000


def kill_in_turn(pipeline, fleet, names, pause_s):
    """One after the other dies and comes back, round and round, while the fleet runs; how often."""
    count = 0
    for name in itertools.cycle(names):
        time.sleep(pause_s)
        if not fleet.running():
            return count
        pipeline.restart(name, 90)
        count += 1


def test_a_million_events_are_exact_while_each_program_and_kafka_and_redis_die_in_turn(make_pipeline):
    pipeline = make_pipeline(runners=2)
    fleet = start_fleet(pipeline, events=EVENTS, sandboxes=1000, seconds=60)
    names = ["collector-r1", "aggregator", "kafka", "exporter", "redis", "api", "collector-r2"]
    assert kill_in_turn(pipeline, fleet, names, 1.5) >= len(names)
    assert_exact(pipeline, fleet)


def test_a_fleet_whose_hosts_boot_anew_is_exact_while_collectors_die(make_pipeline):
    pipeline = make_pipeline(runners=2)
    fleet = start_fleet(pipeline, events=100_000, seconds=10, sources=2, reboot=True)
    kill_in_turn(pipeline, fleet, ["collector-r1", "collector-r2"], 0.5)
    assert_exact(pipeline, fleet)


def test_frozen_programs_that_come_back_count_nothing_twice(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=100_000, seconds=12)
    for name in ("aggregator", "exporter", "redis", "collector-r1"):
        process = pipeline.processes()[name]
        process.signal(19)
        time.sleep(2)
        process.signal(18)
    assert_exact(pipeline, fleet)
