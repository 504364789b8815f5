"""The double's own deaths: what it answered it remembers."""

import json
import os
import subprocess
import threading

import pytest

from conftest import HOUR, event, unique


def run(double, *args):
    """Start another double that must fail; its (exit code, stderr)."""
    done = subprocess.run(double.command() + list(args), capture_output=True, timeout=10, check=False)
    return done.returncode, done.stderr.decode()


def test_identifiers_replies_totals_meters_knobs_and_clock_survive_kill_9(private):
    double = private("--clock", "offset")
    start = double.now() // HOUR * HOUR
    first = double.post(event("c", 5, at=start, identifier="a"), idempotency="k")
    double.post(event("c", 7, at=start, meter="set_m", identifier="b"))
    double.faults({"effect": "error", "commit": "after"})
    failed = double.post(event("c", 1, at=start, identifier="d"), idempotency="k500")
    assert double.post(event("c", 1, at=start, identifier="b")).status == 500
    double.control("/control/meter", {"event_name": "set_m", "status": "inactive"})
    double.knobs(identifier_ttl_s=7200)
    double.control("/control/clock", {"advance_s": 3600})
    before, events, billed = double.stats(), double.control("/control/events"), double.control("/billed")
    double.kill()
    double.start()
    after = double.stats()
    assert double.control("/billed") == billed and double.control("/control/events") == events and len(events) == 3
    for name in ("accepted", "duplicates", "double_counted", "receipts", "value_conflicts", "body_conflicts"):
        assert after[name] == before[name], name
    assert 0 <= after["now_ms"] - before["now_ms"] < 5000
    again = double.post(event("c", 5, at=start, identifier="a"), idempotency="k")
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true")
    assert double.post(event("c", 1, at=start, identifier="d"), idempotency="k500").body == failed.body
    assert (
        "already exists" in double.post(event("c", 5, at=start, identifier="a"), idempotency="other").error["message"]
    )
    assert "No active meter" in double.post(event("c", 5, meter="set_m")).error["message"]
    double.control("/control/clock", {"advance_s": 3700})
    assert double.post(event("c", 5, at=start, identifier="a")).status == 200


def test_kill_9_under_load_loses_nothing_that_was_answered(private):
    double = private()
    answered, stop = [], threading.Event()

    def push(customer):
        number = 0
        while not stop.is_set():
            number += 1
            params = event(customer, number, identifier="%s-%d" % (customer, number))
            try:
                if double.post(params, idempotency=params["identifier"]).status == 200:
                    answered.append((params["identifier"], number))
            except OSError:
                return

    threads = [threading.Thread(target=push, args=("c%d" % index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    while len(answered) < 60:
        stop.wait(0.01)
    double.kill()
    stop.set()
    for thread in threads:
        thread.join()
    double.start()
    kept = {row["identifier"]: row["value"] for row in double.control("/control/events")}
    assert len(answered) >= 60 and all(kept.get(identifier) == value for identifier, value in answered)
    assert (
        sum(row["value"] for row in double.control("/billed")) == sum(kept.values()) and len(kept) <= len(answered) + 3
    )


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_tail_is_cut_and_written_over(private, cut):
    double = private()
    for number in range(3):
        double.post(event("c", 1, identifier="i%d" % number))
    double.kill()
    os.truncate(double.state, os.path.getsize(double.state) - cut)
    double.start()
    assert double.stats()["accepted"] == 2
    assert double.post(event("c", 1, identifier="i2")).status == 200
    double.kill()
    double.start()
    assert double.stats()["accepted"] == 3


def test_damage_elsewhere_stops_with_the_line(private):
    double = private()
    double.post(event("c", 1))
    double.end()
    with open(double.state, encoding="utf-8") as file:
        lines = file.readlines()
    for broken, text in (
        (lines[:1] + ["damage\n"] + lines[2:], "line 2 is damaged"),
        (lines + ['{"t":"odd"}\n'], "line %d is not understood" % (len(lines) + 1)),
        (['{"t":"head","version":9}\n'], "version 1"),
    ):
        with open(double.state, "w", encoding="utf-8") as file:
            file.writelines(broken)
        code, errors = run(double)
        assert code == 2 and text in errors


def test_a_second_double_on_the_same_state_is_refused(private):
    double = private()
    code, errors = run(double)
    assert code == 2 and "another double" in errors


def test_a_meters_mode_cannot_change(private):
    double = private()
    double.end()
    code, errors = run(double, "--meter", "other:set", "--meter", "set_m:delta")
    assert code == 2 and "mode cannot change" in errors


def test_a_moved_clock_needs_offset_mode(private, tmp_path):
    double = private("--clock", "offset")
    double.control("/control/clock", {"advance_s": 10})
    double.end()
    assert run(double, "--clock", "real")[0] == 2


def test_the_real_clock_cannot_be_moved(private):
    double = private()
    assert double.call("POST", "/control/clock", '{"advance_s": 1}', port=double.ready["admin_port"]).status == 400


def test_faults_and_knobs_come_from_the_command_line(private, tmp_path):
    script = tmp_path / "faults.json"
    script.write_text(json.dumps({"rules": [{"effect": "lock_timeout", "nth": 1}]}))
    double = private(
        "--faults", str(script), "--seed", "3", "--knob", "digits_max=3", "--fsync", "--key", "sk_test_other"
    )
    assert double.post(event("c", 1)).status == 401
    double.call("GET", "/v1/billing/meters", key="sk_test_other")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = "event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1234"
    assert (
        "at most 3 digits"
        in double.call("POST", "/v1/billing/meter_events", body, form, key="sk_test_other").error["message"]
    )
    double.end()
    for bad in (
        ["--faults", str(tmp_path / "none")],
        ["--knob", "colour=red"],
        ["--meter", "x:odd"],
        ["--listen", "here"],
    ):
        assert run(double, *bad)[0] == 2
    script.write_text("{")
    assert run(double)[0] == 2


def test_no_key_or_field_is_written_or_logged(private):
    double = private()
    canary = unique("canary")
    double.call(
        "GET", "/v1/billing/meters", headers={"X-Odd": canary, "Stripe-Version": canary}, key="sk_test_" + canary
    )
    double.post(event("c", 1), idempotency=canary)
    double.post(event("c", 1), idempotency="k" * 260 + canary)
    double.process.terminate()
    double.process.wait()
    log = double.log()
    with open(double.state, encoding="utf-8") as file:
        journal = file.read()
    assert canary not in log + journal and "sk_test" not in log + journal and '"event":[' in journal
