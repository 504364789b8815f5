"""Kafka, Redis or Stripe away, at start or later: red within ten seconds, nothing lost, green again without a restart."""
import time

import pytest

from conftest import assert_exact, start_fleet
from harness import settle
from harness.process import wait_for

RED_S = 10
GREEN_S = 45
NEEDS = {
    "kafka": ("collector-r1", "aggregator", "exporter"),
    "redis": ("aggregator", "exporter", "api"),
    "stripe": ("exporter",),
}


def is_red(pipeline, name):
    """Whether a program says that it is not healthy."""
    report = settle.health(pipeline, name)
    return report is not None and not report["healthy"] and report["reason"]


def is_green(pipeline, name):
    """Whether it says that it is."""
    report = settle.health(pipeline, name)
    return report is not None and report["healthy"]


def wait_all(pipeline, names, state, timeout_s, pids):
    """All these programs get into that state, and none of them has been restarted."""
    for name in names:
        wait_for("%s: %s" % (name, state.__name__), lambda n=name: state(pipeline, n), timeout_s)
    assert {name: pipeline.programs[name].pid for name in pids} == pids


@pytest.mark.parametrize("component", ["kafka", "redis", "stripe"])
def test_a_component_that_goes_away_turns_health_red_and_comes_back(make_pipeline, component):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=120_000, seconds=25)
    wait_for("events to flow", lambda: fleet.progress().get("acked", 0) > 10_000, 30)
    pids = {name: process.pid for name, process in pipeline.programs.items()}
    pipeline.processes()[component].kill()
    wait_all(pipeline, NEEDS[component], is_red, RED_S, pids)
    pipeline.spawn(component)
    pipeline.wait_ready(component)
    wait_all(pipeline, pids, is_green, GREEN_S, pids)
    assert_exact(pipeline, fleet)


def test_programs_that_start_before_everything_they_need_wait_for_it(make_pipeline):
    pipeline = make_pipeline(start=False)
    pipeline.write_configs()
    for name in pipeline.programs:
        pipeline.spawn(name)
    pids = {name: process.pid for name, process in pipeline.programs.items()}
    wait_all(pipeline, pids, is_red, RED_S + 5, pids)
    pipeline.start()
    wait_all(pipeline, pids, is_green, GREEN_S, pids)
    assert_exact(pipeline, start_fleet(pipeline, events=20_000))


def test_a_frozen_redis_is_noticed_and_nothing_is_lost(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=120_000, seconds=20)
    wait_for("events to flow", lambda: fleet.progress().get("acked", 0) > 10_000, 30)
    pipeline.redis.freeze("redis")
    wait_for("a red aggregator", lambda: is_red(pipeline, "aggregator"), RED_S)
    pipeline.redis.thaw("redis")
    assert_exact(pipeline, fleet)


def stalled(fleet, quiet_s=3):
    """Whether the acks of a fleet that has more to say stand still for a while."""
    before = fleet.progress().get("acked", 0)
    time.sleep(quiet_s)
    return fleet.running() and fleet.progress().get("acked", 0) == before


def test_a_full_spool_stops_acking_and_goes_on_when_kafka_is_back(make_pipeline):
    pipeline = make_pipeline(spool_bytes_max="64M")
    fleet = start_fleet(pipeline, events=4_000_000, sandboxes=1000)
    wait_for("events to flow", lambda: fleet.progress().get("acked", 0) > 5_000, 30)
    pipeline.kafka.kill()
    wait_for("the acks to stop", lambda: stalled(fleet), 120)
    assert is_red(pipeline, "collector-r1")
    pipeline.kafka.start()
    pipeline.kafka.wait_ready()
    assert_exact(pipeline, fleet)
