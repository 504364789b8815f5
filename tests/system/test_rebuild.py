"""`sandglass rebuild`: an empty Redis is filled from archive and log, beside the one that serves or without it, and takes over."""
import json
import re
import subprocess
import time

from conftest import assert_exact, start_fleet
from harness import settle
from harness.pipeline import http_get
from harness.process import wait_for

DAY_MS = 24 * 3_600_000
# What says where a view stands (the vector, what the exporter has still to look at), is the exporter's own, or is not rebuilt (capacities).
POSITIONS = re.compile(rb"sg:\{s\d+\}:(meta|v|due|arch|ledger|(bill|led|ledr|cap):.*)$")


def rebuild(pipeline, file, *options):
    """Its exit code and what it tells."""
    done = pipeline.cli("rebuild", "--into", file, "--json", *options, timeout_s=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def closed_digests(pipeline, step):
    """{start: sha256} of the closed windows, of the view that serves."""
    return {row["start"]: row["sha256"] for row in pipeline.cli_lines("digest", "--step", step, "--json") if row["closed"]}


def answers(pipeline, keys):
    """What the API tells a team, by path; but for the moment up to which the log was heard, which moves on while nothing is said."""
    found = {}
    for role, path in (("customer", "usage"), ("customer", "usage/series?meter=vcpu_ms&from=0&to=4000000000&step=minute&group_by=project"),
                       ("customer", "usage/series?meter=mem_mib_ms&from=0&to=4000000000&step=day&group_by=region"),
                       ("customer", "runs/history"), ("billing", "ledger?from=0&to=4000000000")):
        status, body = http_get(pipeline.api_url + "/v1/" + path, key=keys[role])
        assert status == 200, body
        found[path] = {name: value for name, value in json.loads(body).items() if name != "as_of"}
    return found


def contents(redis):
    """Every key of a Redis with what it holds, but for positions."""
    kinds = {b"hash": ("HGETALL",), b"zset": ("ZRANGE", 0, -1, "WITHSCORES")}
    keys = [key for key in redis.keys() if not POSITIONS.match(key)]
    types = redis.many([("TYPE", key) for key in keys])
    commands = [(kinds[kind][0], key, *kinds[kind][1:]) for key, kind in zip(keys, types)]
    return {key: sorted(zip(reply[::2], reply[1::2])) for key, reply in zip(keys, redis.many(commands))}


def ledger(pipeline, partition):
    """A partition of the ledger topic."""
    return subprocess.run(["kcat", "-C", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["ledger"], "-p", str(partition), "-o", "beginning",
                           "-e", "-q", "-X", "isolation.level=read_committed"], capture_output=True, timeout=30, check=True).stdout


def test_a_view_rebuilt_beside_the_one_that_serves_takes_over(make_pipeline):
    pipeline = make_pipeline(redis_users=True)
    fleet = start_fleet(pipeline, events=150_000, seconds=20, span_ms=DAY_MS)
    spare, file = pipeline.spare_redis("redis-new")
    wait_for("a third of the events", lambda: fleet.progress().get("acked", 0) > 50_000, 30)
    before = fleet.progress()["acked"]
    code, told = rebuild(pipeline, file)
    assert (code, told["compared"], told["equal"], told["differences"]) == (0, True, True, [])
    assert told["hours"] >= 6 and told["minutes"] > 50 * told["hours"] > 50 * told["days"]
    assert fleet.progress()["acked"] > before

    served = closed_digests(pipeline, "hour")
    pipeline.switch_redis(spare)
    wait_for("the new view to be ahead", lambda: closed_digests(pipeline, "hour").keys() >= served.keys(), 30)
    rebuilt = closed_digests(pipeline, "hour")
    assert {start: rebuilt[start] for start in served} == served
    assert_exact(pipeline, fleet)


def test_a_damaged_view_is_named_by_the_hour_and_replaced_bit_for_bit(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=60_000)
    keys = {role: pipeline.new_key("team-1", role) for role in ("customer", "billing")}
    subprocess.run(["kcat", "-P", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["events"], "-p", "0"], input=b"no batch", check=True)
    assert_exact(pipeline, fleet)
    wait_for("the archive to tell of the gap", lambda: b"\ng:0:0\tkind=quarantined" in ledger(pipeline, 0), 30)
    told_before = answers(pipeline, keys)
    pipeline.programs["collector-r1"].stop()  # its heartbeats move marks: from here on the log stands still
    ends = pipeline.kafka.end_offsets(pipeline.made["topics"]["events"])
    wait_for("the whole log to be in", lambda: not settle.not_rolled_up(pipeline, ends), 30)
    healthy = contents(pipeline.redis)
    key, partition, cell = next((key, partition, cell) for key, fields in sorted(healthy.items()) if b":u:h:" in key
                                for partition, cell in fields if b" vcpu_ms=" in cell)
    home, name = re.fullmatch(rb"sg:\{s(\d+)\}:(.*)", key).groups()
    wait_for("the archive to have the cell, whole", lambda: b"\n%s\t%s\t%s\n" % (name, partition, cell) in ledger(pipeline, int(home)), 30)
    pipeline.redis.many([("HSET", key, partition, cell.replace(b"vcpu_ms=", b"vcpu_ms=1"))])

    spare, file = pipeline.spare_redis("redis-new")
    code, told = rebuild(pipeline, file)
    assert (code, told["equal"]) == (1, False)
    (difference,) = told["differences"]
    assert difference["window"] == "hour" and difference["old_cells"] == difference["new_cells"]
    hour = time.strftime("%Y-%m-%dT%H:00:00.000Z", time.gmtime(int(key.split(b":")[4])))
    assert difference["start"] == hour
    assert contents(spare) == healthy

    done = pipeline.cli("rebuild", "--into", file)
    assert done.returncode == 2 and "empty it first" in done.stderr
    pipeline.redis.kill()
    assert pipeline.cli("rebuild", "--into", file).returncode == 3
    spare.flush_all()
    code, told = rebuild(pipeline, file, "--alone")
    assert (code, told["compared"]) == (0, False)
    assert contents(spare) == healthy
    pipeline.switch_redis(spare)
    pipeline.spawn("collector-r1")
    assert_exact(pipeline, fleet)
    assert answers(pipeline, keys) == told_before
