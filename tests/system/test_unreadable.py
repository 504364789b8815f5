"""A text in Redis that nobody wrote stops nothing but what it stands for, and is told of; nor is anything billed anew where the ledger has lost
what was billed."""
import re

from conftest import assert_exact, due_hours, fleet_without_exporter
from harness.pipeline import http_get
from harness.process import wait_for

HOUR_CELL = re.compile(rb"sg:\{s(\d+)\}:u:h:(\d+):([^:]+):[^:]+:[^:]+$")


def _health(pipeline):
    return http_get(pipeline.ops_url("exporter") + "/healthz", 2)


def test_what_is_not_understood_stops_nothing_else(make_pipeline):
    pipeline = make_pipeline()
    fleet = fleet_without_exporter(pipeline)
    due = due_hours(pipeline)
    assert len(due) > 10
    key, shard, hour, team = next((key, int(m[1]), m[2], m[3]) for key in sorted(pipeline.redis.keys())
                                  if (m := HOUR_CELL.match(key)) and (int(m[1]), m[3], m[2]) in due)
    partition, cell = sorted(pipeline.redis.hashes([key])[key].items())[0]
    damage = {(key, partition): b"@17 vcpu_ms=many", (b"sg:{s%d}:due" % shard, b"nothing"): b"17",
              (b"sg:{s%d}:arch" % shard, b"nothing"): b"17"}
    pipeline.redis.many([("HSET", *where, text) for where, text in damage.items()])

    pipeline.spawn("exporter")
    poisoned = {(shard, team, hour), (shard, b"nothing", b"")}
    wait_for("everything else to be billed", lambda: due_hours(pipeline) == poisoned, 60)
    wait_for("what is left to be told", lambda: b"2 hours of the view are not understood" in _health(pipeline)[1]
             and b"2 cells of the view are not understood" in _health(pipeline)[1], 60)
    assert _health(pipeline)[0] == 503
    assert b"\nsandglass_exporter_unread 4\n" in http_get(pipeline.ops_url("exporter") + "/metrics", 2)[1]

    pipeline.redis.many([("HDEL", *where) for where in damage if where[0] != key] + [("HSET", key, partition, cell)])
    wait_for("health", lambda: _health(pipeline)[0] == 200, 60)
    assert_exact(pipeline, fleet)


def test_where_the_ledger_has_lost_its_end_nothing_is_billed(make_pipeline):
    pipeline = make_pipeline()
    fleet = fleet_without_exporter(pipeline)
    due = due_hours(pipeline)
    shard = min(due)[0]
    pipeline.redis.many([("HSET", "sg:{s%d}:ledger" % shard, "at", 1_000_000)])
    pipeline.spawn("exporter")
    its = {which for which in due if which[0] == shard}
    assert its != due
    wait_for("the other shards to be billed", lambda: due_hours(pipeline) == its, 60)
    wait_for("the exporter to tell of it", lambda: b"the ledger ends at offset 0, Redis has billing cells up to 1000000" in _health(pipeline)[1], 20)
    assert _health(pipeline)[0] == 503 and due_hours(pipeline) == its

    pipeline.redis.many([("DEL", "sg:{s%d}:ledger" % shard)])
    assert_exact(pipeline, fleet)
