"""What nobody of ours wrote into Redis stops nothing but what it stands for, and is told of; nor is anything billed anew where the ledger has lost
what was billed."""
import re

from conftest import assert_exact, due_hours, fleet_without_exporter
from harness import settle
from harness.pipeline import metric
from harness.process import wait_for

HOUR = re.compile(rb"sg:\{s(\d+)\}:u:h:(\d+):([^:]+):[^:]+:[^:]+$")


def _told(pipeline):
    return settle.told(pipeline, "exporter")


def _rollups_of(pipeline, due):
    """A rollup's key of each of these hours: {(shard, team, hour): key}."""
    matches = filter(None, (HOUR.match(key) for key in sorted(pipeline.redis.keys())))
    found = {(int(match[1]), match[3], match[2]): match[0] for match in matches}
    return {which: key for which, key in found.items() if which in due}


def test_what_is_not_understood_stops_nothing_else(make_pipeline):
    pipeline = make_pipeline()
    fleet = fleet_without_exporter(pipeline)
    due = due_hours(pipeline)
    assert len(due) > 10
    (one, cells), (other, lost) = list(_rollups_of(pipeline, due).items())[:2]
    kept = pipeline.redis.hashes([cells, lost])
    partition, cell = sorted(kept[cells].items())[0]
    no_fields = [(b"sg:{s%d}:%s" % (one[0], name), b"nothing") for name in (b"due", b"arch")]
    pipeline.redis.many([("HSET", cells, partition, b"@17 vcpu_ms=many"), ("DEL", lost), ("SET", lost, "no hash"),
                         *(("HSET", *where, "17") for where in no_fields)])

    pipeline.spawn("exporter")
    wait_for("everything else to be billed", lambda: due_hours(pipeline) == {one, other, (one[0], b"nothing", b"")}, 60)
    unarchived = 2 + len(kept[lost])
    wait_for("what is left to be told", lambda: "redis: 3 hours of the view are not understood" in _told(pipeline)
             and "archive: %d cells of the view are not understood" % unarchived in _told(pipeline), 60)
    assert metric(pipeline.ops_url("exporter"), "sandglass_exporter_unread") == 3 + unarchived

    pipeline.redis.many([("HSET", cells, partition, cell), ("DEL", lost), *(("HSET", lost, *field) for field in kept[lost].items()),
                         *(("HDEL", *where) for where in no_fields)])
    wait_for("health", lambda: not _told(pipeline), 60)
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
    wait_for("the exporter to tell of it", lambda: "the ledger ends at offset 0, Redis has billing cells up to 1000000" in _told(pipeline), 20)
    assert due_hours(pipeline) == its

    pipeline.redis.many([("DEL", "sg:{s%d}:ledger" % shard)])
    assert_exact(pipeline, fleet)
