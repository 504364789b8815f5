"""Two exporters of one ledger: each shard has one owner, the older one is fenced off, and nothing is billed twice."""
import json
import time

from conftest import assert_exact, start_fleet
from harness import tools
from harness.pipeline import http_get, metric
from harness.process import Process, free_ports, wait_for


def test_a_second_exporter_takes_over_and_the_first_comes_back_after_it(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=100_000, seconds=20, span_ms=24 * 3_600_000)
    port = free_ports(1)[0]
    own = pipeline.path("etc", "exporter.conf")
    other = pipeline.path("etc", "exporter-2.conf")
    with open(own, encoding="utf-8") as source, open(other, "w", encoding="utf-8") as copy:
        copy.writelines("ops_listen = 127.0.0.1:%d\n" % port if line.startswith("ops_listen") else line for line in source)
    first = int(pipeline.ops_url("exporter").rpartition(":")[2])
    second = Process("exporter-2", pipeline.path("run"), pipeline.path("log"), True)
    try:
        second.spawn([tools.program("sandglass-exporter"), "--config", other])
        wait_for("the second to own the ledger", lambda: metric("http://127.0.0.1:%d" % port, "sandglass_exporter_shards") == 4, 30)
        time.sleep(3)
        assert metric("http://127.0.0.1:%d" % first, "sandglass_exporter_fenced_total") > 0
        assert b"fenced: " in http_get("http://127.0.0.1:%d/healthz" % first)[1]
    finally:
        second.kill()
    assert_exact(pipeline, fleet)
    stats = json.loads(http_get(pipeline.stripe_admin_url + "/control/stats")[1])
    assert not stats["double_counted"] and not stats["value_conflicts"] and stats["set_decreases"] == 0
