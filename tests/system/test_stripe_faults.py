"""Stripe at its worst: 500s before and after the commit, resets, 429s, slow and cut answers; and the exporter killed among them."""
import json
import time

from conftest import assert_exact, start_fleet
from harness.pipeline import http_get

SCRIPT = {"seed": 7, "rules": [
    {"effect": "error", "commit": "after", "path": "/v1/billing/meter_events", "every": 11},
    {"effect": "error", "commit": "before", "path": "/v1/billing/meter_events", "every": 13},
    {"effect": "reset", "commit": "after", "path": "/v1/billing/meter_events", "every": 7},
    {"effect": "reset", "commit": "before", "path": "/v1/billing/meter_events", "every": 17},
    {"effect": "rate_limited", "retry_after": 1, "path": "/v1/billing/meter_events", "every": 19},
    {"effect": "none", "delay_before_ms": 1500, "path": "/v1/billing/meter_events", "every": 23}]}


KILLS, CONCURRENCY = 4, 16


def test_every_hour_is_billed_once_through_faults_and_kills(make_pipeline, tmp_path):
    script = tmp_path / "faults.json"
    script.write_text(json.dumps(SCRIPT))
    pipeline = make_pipeline(faults=str(script))
    fleet = start_fleet(pipeline, events=100_000, seconds=10, span_ms=24 * 3_600_000)
    for _ in range(KILLS):
        time.sleep(2.5)
        pipeline.restart("exporter")
    assert_exact(pipeline, fleet)
    stats = json.loads(http_get(pipeline.stripe_admin_url + "/control/stats")[1])
    assert not stats["double_counted"] and not stats["value_conflicts"] and not stats["body_conflicts"]
    assert stats["set_decreases"] == 0
    # a killed exporter's calls live on at Stripe for a while, and its successor cannot know of them
    assert stats["concurrent_violations"] <= KILLS * CONCURRENCY


def test_one_request_at_a_time_for_a_customer_and_meter(make_pipeline, tmp_path):
    script = tmp_path / "faults.json"
    script.write_text(json.dumps(SCRIPT))
    pipeline = make_pipeline(faults=str(script))
    assert_exact(pipeline, start_fleet(pipeline, events=30_000, seconds=5, span_ms=12 * 3_600_000))
    stats = json.loads(http_get(pipeline.stripe_admin_url + "/control/stats")[1])
    assert stats["concurrent_violations"] == 0 and not stats["double_counted"]
