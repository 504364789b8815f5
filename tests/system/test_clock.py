"""Wall clocks that are wrong. One that contradicts Stripe's: the exporter says so and sends nothing; once they agree, everything is billed once.
Those of collectors, while time is the host's own: no usage is lost, counted twice or moved to another hour."""
import json
import time
import urllib.request

from conftest import assert_exact, start_fleet
from harness.pipeline import http_get
from harness.process import wait_for

AHEAD_S = 26 * 3600  # what was sent an hour ago, Stripe has then forgotten


def _stripe_ahead(pipeline, seconds):
    """The exporter's clock is behind Stripe's by so much from its start on."""
    pipeline.programs["exporter"].kill()
    urllib.request.urlopen(pipeline.stripe_admin_url + "/control/clock", data=json.dumps({"advance_s": seconds}).encode(), timeout=5).close()
    pipeline.spawn("exporter")


def _stats(pipeline):
    return json.loads(http_get(pipeline.stripe_admin_url + "/control/stats")[1])


def test_an_exporter_whose_clock_is_a_day_behind_says_so_and_sends_nothing(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=10_000, seconds=3, span_ms=8 * 3_600_000)
    wait_for("the first events to be taken", lambda: _stats(pipeline)["accepted"] > 0, 30)
    _stripe_ahead(pipeline, AHEAD_S)
    accepted = _stats(pipeline)["accepted"]
    began = time.monotonic()
    wait_for("the exporter to tell", lambda: b"clock: our clock and Stripe's differ" in http_get(pipeline.ops_url("exporter") + "/healthz", 2)[1], 20)
    assert time.monotonic() - began < 15
    time.sleep(1)
    assert _stats(pipeline)["accepted"] == accepted
    _stripe_ahead(pipeline, -AHEAD_S)
    assert_exact(pipeline, fleet)
    stats = _stats(pipeline)
    assert not stats["double_counted"] and not stats["value_conflicts"] and stats["set_decreases"] == 0


def _says(pipeline, name, what):
    try:
        return what in http_get(pipeline.ops_url(name) + "/healthz", 2)[1]
    except OSError:
        return False


def test_wall_clocks_that_step_by_an_hour_move_no_usage_while_time_is_the_hosts_own(make_pipeline):
    pipeline = make_pipeline(clock="system", runners=2, skewed=True)
    fleet = start_fleet(pipeline, events=40_000, seconds=40)
    wait_for("traffic before the steps", lambda: fleet.progress().get("acked", 0) > 1000, 30)
    told = {"collector-r1": (3600, b"clock is ahead"), "collector-r2": (-3600, b"clock is behind")}
    for name, (step, what) in told.items():
        pipeline.skew(name, step)
        wait_for("%s to tell of the step" % name, lambda name=name: _says(pipeline, name, b"clock"), 10)
        pipeline.programs[name].kill()  # what starts knows no other clock
        pipeline.spawn(name)
        wait_for("%s to tell" % name, lambda name=name, what=what: _says(pipeline, name, what), 10)
    before = fleet.progress()["acked"]
    wait_for("traffic behind the steps", lambda: fleet.progress()["acked"] > before + 500, 10)
    assert fleet.running(), "the steps were behind all traffic"
    for name in told:
        pipeline.skew(name, 0)
    for name in told:
        pipeline.wait_ready(name)
    assert_exact(pipeline, fleet)
