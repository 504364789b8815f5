"""Revisions without an answer for longer than Stripe's memory can be trusted: its summaries decide, and nothing is guessed."""
import json
import time
import urllib.request

from conftest import CUSTOMERS, assert_exact, start_fleet, write_to_meter
from harness import config, settle
from harness.pipeline import http_get
from harness.process import wait_for

SEEN, UNSEEN, ODD = CUSTOMERS.values()
EVENTS = "/v1/billing/meter_events"
SCRIPT = {"rules": [{"effect": "reset", "commit": "after", "path": EVENTS, "customer": SEEN},
                    {"effect": "error", "commit": "before", "cached": False, "path": EVENTS, "customer": UNSEEN},
                    {"effect": "error", "commit": "before", "cached": False, "path": EVENTS, "customer": ODD}]}
FOREIGN = 7
STEADY_S = 2


def _control(pipeline, path, body):
    urllib.request.urlopen(pipeline.stripe_admin_url + "/control/" + path, data=json.dumps(body).encode(), timeout=5).close()


def _stats(pipeline):
    return json.loads(http_get(pipeline.stripe_admin_url + "/control/stats")[1])


def _rows(pipeline, customer):
    """The customer's revisions as the exporter shows them."""
    (team,) = (team for team, its in CUSTOMERS.items() if its == customer)
    rows = []
    for fields in pipeline.redis.hashes(["sg:{s%d}:ledr:%s" % (shard, team) for shard in range(config.SHARDS)]).values():
        for member, text in fields.items():
            hour, meter, _ = member.decode("ascii").split(":")
            words = dict(word.split("=") for word in text.decode("ascii").split()[1:])
            rows.append({**words, "hour": int(hour), "meter": meter})
    return rows


def _states(pipeline, customer):
    return {row["state"] for row in _rows(pipeline, customer)}


def _all_begun(pipeline):
    """Waits until there are revisions of all customers, and no more come."""
    def steady(seen={"counts": None, "since": 0}):
        counts = [len(_rows(pipeline, customer)) for customer in CUSTOMERS.values()]
        if counts != seen["counts"]:
            seen.update(counts=counts, since=time.monotonic())
        return all(counts) and time.monotonic() - seen["since"] > STEADY_S
    wait_for("intents of every customer", steady, 60)


def _write_to_meters(pipeline, rows, value_of):
    """Somebody else does, in the hours of these revisions."""
    for row in rows:
        write_to_meter(pipeline, row["meter"], row["customer"], value_of(row), row["hour"] + 60)


def _set_clocks(pipeline, hours_ago, advance_hours):
    """Of Stripe and of the exporter, which starts anew: it knows Stripe's time, and has read nothing. Never ahead: Kafka takes no records of
    the future."""
    pipeline.programs["exporter"].kill()
    _control(pipeline, "clock", {"advance_s": advance_hours * 3600})
    pipeline.skew("exporter", -hours_ago * 3600)
    pipeline.spawn("exporter")
    pipeline.wait_ready("exporter")


def test_what_is_old_is_settled_by_what_stripe_shows(make_pipeline, tmp_path):
    script = tmp_path / "faults.json"
    script.write_text(json.dumps(SCRIPT))
    pipeline = make_pipeline(skewed=True, faults=str(script))
    _control(pipeline, "knobs", {"future_limit_s": 48 * 3600})  # the fleet's hours are today's
    _set_clocks(pipeline, 25, -25)
    fleet = start_fleet(pipeline, events=3000, seconds=2, span_ms=2 * 3_600_000)
    fleet.finish()
    _all_begun(pipeline)
    pipeline.programs["exporter"].kill()
    _control(pipeline, "faults", {"rules": []})
    odd = _rows(pipeline, ODD)
    _write_to_meters(pipeline, odd, lambda row: FOREIGN)
    before = _stats(pipeline)

    _set_clocks(pipeline, 4, 21)
    wait_for("what Stripe shows to be closed", lambda: _states(pipeline, SEEN) == {"seen"}, 30)
    wait_for("what it does not show to be sent again", lambda: _states(pipeline, UNSEEN) == {"accepted"}, 30)
    wait_for("the exporter to tell of the rest", lambda: "summary: of old revisions" in settle.told(pipeline, "exporter"), 20)
    after = _stats(pipeline)
    assert after["duplicates"] == before["duplicates"], "what was seen is not sent again"
    assert after["accepted"] == before["accepted"] + len(_rows(pipeline, UNSEEN)), "and what is odd is not sent"
    assert _states(pipeline, ODD) <= {"open", "refused"}

    _set_clocks(pipeline, 0, 4)
    wait_for("what is odd for a day to be held", lambda: _states(pipeline, ODD) == {"held"}, 30)
    wait_for("the exporter to tell of them", lambda: "held: %d revisions" % len(odd) in settle.told(pipeline, "exporter"), 20)
    _write_to_meters(pipeline, odd, lambda row: int(row["total"]) - (FOREIGN if row["mode"] == "delta" else 0))
    wait_for("it to be released", lambda: _states(pipeline, ODD) == {"seen"}, 60)
    wait_for("health", lambda: not any(word in settle.told(pipeline, "exporter") for word in ("summary: ", "held: ", "no answer")), 20)
    assert_exact(pipeline, fleet)
    stats = _stats(pipeline)
    assert not stats["double_counted"] and not stats["value_conflicts"] and not stats["body_conflicts"]
