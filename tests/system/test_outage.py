"""Kafka, Redis, Stripe or one of ours away, hung or refusing, at start or later: red within ten seconds with the reason, nothing lost, green
again without a restart."""
import collections
import json
import signal
import subprocess
import time
import urllib.request

import pytest

from conftest import assert_exact, start_fleet
from harness import settle
from harness.pipeline import http_get
from harness.process import wait_for

RED_S = 10
GREEN_S = 45
REFUSED_GREEN_S = 90
EVENT_S = 20  # how long what has happened is shown


def is_red(pipeline, name, word=""):
    """Whether a program says that it is not healthy, for that reason."""
    report = settle.health(pipeline, name)
    return report is not None and not report["healthy"] and word in report["reason"].lower()


def is_green(pipeline, name):
    """Whether it says that it is."""
    report = settle.health(pipeline, name)
    return report is not None and report["healthy"]


def wait_all(pipeline, names, state, timeout_s, pids):
    """All these programs get into that state, and none of them has been restarted."""
    for name in names:
        wait_for("%s: %s" % (name, state.__name__), lambda n=name: state(pipeline, n), timeout_s)
    assert {name: pipeline.programs[name].pid for name in pids} == pids


def redis_limit(pipeline, limit):
    """Redis answers, and refuses what would take memory."""
    pipeline.redis.set_everywhere("maxmemory", limit)


def stripe_says(pipeline, path, what):
    """A word to the double's control port."""
    urllib.request.urlopen(pipeline.stripe_admin_url + "/control/" + path, data=json.dumps(what).encode(), timeout=5).close()


def stripe_fault(pipeline, **effect):
    """From now on every event is answered so; without an effect, as it should be."""
    stripe_says(pipeline, "faults", {"seed": 1, "rules": [{"path": "/v1/billing/meter_events", **effect}] if effect else []})


def back(pipeline, name):
    """A component that was killed is started again."""
    pipeline.spawn(name)
    pipeline.wait_ready(name)


def signals(name, number):
    """A function that sends a component a signal."""
    return lambda pipeline: pipeline.processes()[name].signal(number)


FLEET_S = 130
STOP, CONT = 19, 18
Bad = collections.namedtuple("Bad", "what begin end says")
# The exporter may be in a commit, which takes ten seconds to fail: then that is what it says.
EVERYBODY_AT_KAFKA = {"collector-r1": "kafka: ", "aggregator": "kafka: ", "exporter": "kafka", "api": "kafka: "}
EVERYBODY_AT_REDIS = {"aggregator": "redis: ", "exporter": "redis: ", "api": "redis: "}
# What goes wrong, how it begins and ends, and what must be said by whom.
BAD = (
    Bad("Kafka is killed", lambda p: p.kafka.kill(), lambda p: back(p, "kafka"), EVERYBODY_AT_KAFKA),
    Bad("Kafka hangs", signals("kafka", STOP), signals("kafka", CONT), EVERYBODY_AT_KAFKA),
    Bad("Redis is killed", lambda p: p.redis.kill(), lambda p: back(p, "redis"), EVERYBODY_AT_REDIS),
    Bad("Redis hangs", signals("redis", STOP), signals("redis", CONT), EVERYBODY_AT_REDIS),
    Bad("Redis refuses to write", lambda p: redis_limit(p, 1), lambda p: redis_limit(p, 0), {"aggregator": "redis: "}),
    Bad("Stripe is killed", lambda p: p.stripe.kill(), lambda p: back(p, "stripe"), {"exporter": "stripe: "}),
    Bad("Stripe hangs", signals("stripe", STOP), signals("stripe", CONT), {"exporter": "stripe: stripe does not answer"}),
    Bad("Stripe answers with errors", lambda p: stripe_fault(p, effect="error"), stripe_fault, {"exporter": "stripe: "}),
    Bad("Stripe wants fewer requests", lambda p: stripe_fault(p, effect="rate_limited", retry_after=1), stripe_fault,
        {"exporter": "stripe: stripe asks us to wait"}),
    Bad("Stripe refuses the key", lambda p: stripe_says(p, "key", {"state": "revoked"}), lambda p: stripe_says(p, "key", {"state": "ok"}),
        {"exporter": "stripe: stripe does not accept the key"}),
    # the last one: what was refused is tried again after up to a minute
    Bad("Stripe does not know the customers", lambda p: stripe_fault(p, effect="no_customer"), stripe_fault, {"exporter": "held: "}),
)


def seconds_until(pipeline, says, state, timeout_s):
    """{program: seconds until it was in that state}; an error when one takes too long."""
    began, took = time.monotonic(), {}

    def all_are():
        for name in says:
            if name not in took and state(name):
                took[name] = time.monotonic() - began
        return len(took) == len(says)

    try:
        wait_for("health", all_are, timeout_s)
    finally:
        missing = {name: settle.health(pipeline, name) for name in says if name not in took}
        assert not missing, missing
    return took


def as_text(took):
    """Seconds by program, as one line."""
    return ", ".join("%s %.1f s" % item for item in took.items())


def live_through(pipeline, bad, green_s):
    """One bad thing: everybody concerned says it in time, and is well by itself once it is over."""
    bad.begin(pipeline)
    red = seconds_until(pipeline, bad.says, lambda name: is_red(pipeline, name, bad.says[name]), RED_S)
    status = pipeline.cli("status", "--json")
    said = {program["name"]: program for program in json.loads(status.stdout)["programs"]}
    assert status.returncode == 1 and all(word in said[name]["reason"].lower() for name, word in bad.says.items()), said
    bad.end(pipeline)
    green = seconds_until(pipeline, pipeline.programs, lambda name: is_green(pipeline, name), green_s)
    print("%-36s red: %s; green: %s" % (bad.what, as_text(red), as_text({name: green[name] for name in bad.says})))


def test_whatever_goes_wrong_is_said_in_time_and_gets_well_by_itself(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=150_000, seconds=FLEET_S, span_ms=100 * 3_600_000)
    wait_for("events to be billed", lambda: pipeline.billed(), 30)
    pids = {name: process.pid for name, process in pipeline.programs.items()}
    for bad in BAD:
        live_through(pipeline, bad, GREEN_S if bad is not BAD[-1] else REFUSED_GREEN_S)
    assert {name: process.pid for name, process in pipeline.programs.items()} == pids
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


def said_of(pipeline, name):
    """What `sandglass status` says of a program."""
    return next(program["reason"] for program in json.loads(pipeline.cli("status", "--json").stdout)["programs"] if program["name"] == name)


def test_a_program_that_is_stopped_or_gone_and_a_batch_that_cannot_be_read_are_told(make_pipeline):
    pipeline = make_pipeline()
    subprocess.run(["kcat", "-P", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["events"], "-p", "0"], input=b"no batch", check=True,
                   timeout=30)
    began = time.monotonic()
    wait_for("the batch to be told", lambda: is_red(pipeline, "aggregator", "quarantine: "), RED_S)
    pipeline.programs["api"].signal(STOP)
    pipeline.programs["collector-r1"].kill()
    assert "it runs and does not answer" in said_of(pipeline, "api")
    assert "it does not run" in said_of(pipeline, "collector-r1")
    pipeline.programs["api"].signal(CONT)
    pipeline.restart("collector-r1")
    wait_for("a green API", lambda: is_green(pipeline, "api"), RED_S)
    assert is_red(pipeline, "aggregator", "quarantine: ") or time.monotonic() - began > EVENT_S
    assert_exact(pipeline, start_fleet(pipeline, events=20_000))


def lone_health(collector):
    """What a collector without anything behind it says of itself."""
    return json.loads(http_get("http://127.0.0.1:%d/healthz" % collector.port)[1])["reason"] or ""


def test_a_collector_without_kafka_says_so_in_time(make_collector):
    collector = make_collector()
    wire = collector.greet()
    wire.say("sandbox.created", 0, sandbox="b", team="t", project="p", vcpus=1, mem_mib=1, disk_mib=1, origin="create", create_ms=1)
    wire.wait_acked()
    wait_for("a red collector", lambda: "kafka: " in lone_health(collector), RED_S)


@pytest.mark.parametrize("hours, word", [(1, "clock: "), (-1, "watermark: ")])
def test_a_runner_whose_time_is_an_hour_off_says_so_while_it_matters(make_collector, hours, word):
    collector = make_collector(clock="system", heartbeat_interval="200ms")
    boot_ms = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)
    wire = collector.greet(boot_ms=boot_ms, wall_ms=int(time.time() * 1000) + hours * 3_600_000)
    wire.say("sandbox.created", boot_ms, sandbox="b", team="t", project="p", vcpus=1, mem_mib=1, disk_mib=1, origin="create", create_ms=1)
    wire.wait_acked()
    wait_for("the collector to tell", lambda: word in lone_health(collector), RED_S)
    if hours < 0:
        wire.say("sandbox.destroyed", boot_ms + 1, sandbox="b", reason="api")
        wait_for("nothing to be left to tell", lambda: word not in lone_health(collector), RED_S)


def stalled(fleet, quiet_s=3):
    """Whether the acks of a fleet that has more to say stand still for a while."""
    before = fleet.progress().get("acked", 0)
    time.sleep(quiet_s)
    return fleet.running() and fleet.progress().get("acked", 0) == before


def test_a_full_spool_stops_acking_and_goes_on_when_kafka_is_back(make_pipeline):
    pipeline = make_pipeline(spool_bytes_max="64M")
    fleet = start_fleet(pipeline, events=2_000_000, sandboxes=1000)  # the spool takes two thirds of them
    wait_for("events to flow", lambda: fleet.progress().get("acked", 0) > 5_000, 30)
    pipeline.kafka.kill()
    wait_for("the acks to stop", lambda: stalled(fleet), 120)
    assert is_red(pipeline, "collector-r1", "spool: the spool is full")
    pipeline.kafka.start()
    pipeline.kafka.wait_ready()
    assert_exact(pipeline, fleet)


STOP_S = 12  # systemd waits for 30
# All that may hang while the programs that talk to it are asked to stop.
HANGS = {"kafka": ("collector-r1", "aggregator", "exporter", "api"), "redis": ("aggregator", "exporter", "api"), "stripe": ("exporter",)}


def test_who_is_asked_to_stop_while_something_hangs_stops(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=150_000, seconds=60, span_ms=300 * 3_600_000)
    for what, names in HANGS.items():
        billed = len(pipeline.billed())
        wait_for("more to be billed", lambda: len(pipeline.billed()) > billed + 20, 40)
        pipeline.processes()[what].signal(STOP)
        time.sleep(2)  # whoever waits for it waits now
        began = time.monotonic()
        for name in names:
            pipeline.programs[name].signal(signal.SIGTERM)
        for name in names:
            pipeline.programs[name].wait_gone(STOP_S)
            assert pipeline.programs[name].child.wait() == 0, name
            print("%s hangs: %s took %.1f s to stop" % (what, name, time.monotonic() - began))
        pipeline.processes()[what].signal(CONT)
        for name in names:
            back(pipeline, name)
    assert_exact(pipeline, fleet)
