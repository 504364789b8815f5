"""Scripted faults: what the client sees, and what Stripe has done."""

import http.client
import json
import socket
import time
from email.utils import parsedate_to_datetime

import pytest

from conftest import event, unique
from test_events import in_parallel


def attempt(double, params, **more):
    """Status of a post, or the class of the transport error."""
    try:
        return double.post(params, **more).status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


def total(double, customer):
    return sum(double.billed(customer).values())


@pytest.fixture
def one(double):
    """(double, customer, params of an event of 5 with an identifier)."""
    customer = unique("cus")
    return double, customer, event(customer, 5, identifier=unique("id"))


@pytest.mark.parametrize("retry_after", [None, 3, "date"])
def test_429_executes_nothing_and_keeps_nothing(one, retry_after):
    double, customer, params = one
    key = unique("k")
    double.faults({"effect": "rate_limited", "retry_after": retry_after, "reason": "global-concurrency", "times": 1})
    reply = double.post(params, idempotency=key)
    assert reply.status == 429 and reply.error["code"] == "rate_limit"
    assert reply.headers["stripe-rate-limited-reason"] == "global-concurrency"
    if retry_after == "date":
        assert parsedate_to_datetime(reply.headers["retry-after"]).timestamp() > double.now()
    else:
        assert reply.headers.get("retry-after") == (None if retry_after is None else "3")
    assert total(double, customer) == 0
    assert double.post(params, idempotency=key).status == 200 and total(double, customer) == 5


@pytest.mark.parametrize(
    "effect, status, code",
    [
        ("lock_timeout", 429, "lock_timeout"),
        ("unauthorized", 401, None),
        ("forbidden", 403, None),
        ("in_use", 409, "idempotency_key_in_use"),
        ("idempotency_error", 400, None),
        ("redirect", 301, None),
    ],
)
def test_gate_faults_execute_nothing(one, effect, status, code):
    double, customer, params = one
    double.faults({"effect": effect, "times": 1})
    reply = double.post(params, idempotency=unique("k"))
    assert (reply.status, reply.error.get("code")) == (
        status,
        code,
    ) and "stripe-rate-limited-reason" not in reply.headers
    assert double.post(params, idempotency=unique("k")).status == 200 and total(double, customer) == 5


def test_500_before_commit_is_kept_under_the_key(one):
    double, customer, params = one
    key = unique("k")
    double.faults({"effect": "error", "commit": "before", "times": 1, "should_retry": True})
    reply = double.post(params, idempotency=key)
    assert reply.status == 500 and reply.error["type"] == "api_error" and reply.headers["stripe-should-retry"] == "true"
    again = double.post(params, idempotency=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (500, reply.body, "true")
    assert total(double, customer) == 0
    assert double.post(params, idempotency=unique("k")).status == 200 and total(double, customer) == 5


def test_500_after_commit_is_kept_and_a_new_key_meets_the_duplicate(one):
    double, customer, params = one
    key = unique("k")
    double.faults({"effect": "error", "commit": "after", "times": 1})
    assert double.post(params, idempotency=key).status == 500
    assert double.post(params, idempotency=key).status == 500 and total(double, customer) == 5
    assert (
        "already exists" in double.post(params, idempotency=unique("k")).error["message"]
        and total(double, customer) == 5
    )


def test_an_uncached_error_is_executed_again(one):
    double, customer, params = one
    double.faults({"effect": "error", "status": 503, "cached": False, "times": 1})
    key = unique("k")
    assert double.post(params, idempotency=key).status == 503
    assert double.post(params, idempotency=key).status == 200 and total(double, customer) == 5


@pytest.mark.parametrize("commit, counted", [("before", 0), ("after", 5)])
def test_a_proxys_page_is_html_without_stripes_fields(one, commit, counted):
    double, customer, params = one
    double.faults({"effect": "html", "status": 502, "commit": commit, "times": 1})
    reply = double.post(params, idempotency="k" + customer)
    assert reply.status == 502 and reply.headers["content-type"] == "text/html" and "request-id" not in reply.headers
    assert total(double, customer) == counted
    again = double.post(params, idempotency="k" + customer)
    assert (
        again.status == 200
        and ("idempotent-replayed" in again.headers) == (commit == "after")
        and total(double, customer) == 5
    )


@pytest.mark.parametrize("effect, error", [("reset", "ConnectionResetError"), ("silent", "RemoteDisconnected")])
@pytest.mark.parametrize("commit, counted", [("before", 0), ("after", 5)])
def test_connections_end_before_and_after_the_commit(one, effect, error, commit, counted):
    double, customer, params = one
    double.faults({"effect": effect, "commit": commit, "times": 1})
    assert attempt(double, params, idempotency="k" + customer) == error
    assert total(double, customer) == counted
    assert double.post(params, idempotency="k" + customer).status == 200 and total(double, customer) == 5


def test_resets_on_connect_and_before_the_body_is_read(one):
    double, customer, params = one
    double.faults({"effect": "reset_unread", "method": "POST", "times": 1})
    assert attempt(double, params) in ("ConnectionResetError", "BrokenPipeError")
    double.faults({"effect": "drop", "times": 1})
    assert attempt(double, params) in ("ConnectionResetError", "BrokenPipeError", "RemoteDisconnected")
    assert total(double, customer) == 0 and double.post(params).status == 200


@pytest.mark.parametrize(
    "how, errors", [("fin", ("IncompleteRead",)), ("reset", ("IncompleteRead", "ConnectionResetError"))]
)
def test_a_cut_body_was_committed(one, how, errors):
    double, customer, params = one
    double.faults({"effect": "cut", "how": how, "times": 1})
    assert attempt(double, params) in errors and total(double, customer) == 5


def test_truncated_json_comes_in_a_whole_reply(one):
    double, customer, params = one
    double.faults({"effect": "truncated_json", "times": 1})
    reply = double.post(params)
    with pytest.raises(ValueError):
        json.loads(reply.body)
    assert reply.status == 200 and total(double, customer) == 5


@pytest.mark.parametrize(
    "body, size", [("text", 2), ("empty", 0), ("null", 4), ("array", 2), ("huge", (4 << 20) + 8), ("binary", 256)]
)
def test_garbage_after_commit(one, body, size):
    double, customer, params = one
    double.faults({"effect": "garbage", "body": body, "content_type": "text/plain", "times": 1})
    reply = double.post(params)
    assert (
        reply.status == 200
        and len(reply.body) == size
        and reply.headers["content-type"] == "text/plain"
        and total(double, customer) == 5
    )


def test_a_reply_that_names_another_event(one):
    double, customer, params = one
    double.faults({"effect": "wrong_identifier", "times": 1})
    assert double.post(params).json["identifier"] != params["identifier"] and total(double, customer) == 5


def test_a_lost_event_uses_its_identifier_and_counts_nowhere(one):
    double, customer, params = one
    double.faults({"effect": "lost", "times": 1})
    assert double.post(params).status == 200 and total(double, customer) == 0
    assert "already exists" in double.post(params).error["message"] and double.stats()["lost"] >= 1


def test_a_foreign_duplicate(one):
    double, customer, params = one
    double.faults({"effect": "foreign_duplicate", "times": 1})
    assert double.post(params).error["message"] == "An event already exists with identifier %s." % params["identifier"]
    assert total(double, customer) == 0


def test_a_customer_that_is_not_there(one):
    double, customer, params = one
    double.faults({"effect": "no_customer", "times": 1})
    assert double.post(params).error["message"] == "No such customer: '%s'" % customer
    assert double.post(params).status == 200


def test_a_meter_is_deactivated_in_mid_run(one):
    double, customer, params = one
    double.faults({"effect": "deactivate_meter", "nth": 2})
    assert double.post(params).status == 200
    assert [double.post(event(customer, 1)).error["message"] for _ in range(2)] == [
        "No active meter found for event name delta_m."
    ] * 2
    double.control("/control/meter", {"event_name": "delta_m", "status": "active"})
    assert double.post(event(customer, 1)).status == 200


def wait_for(what):
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_commit_after_the_client_gave_up(one):
    double, customer, params = one
    double.faults({"effect": "none", "delay_before_ms": 300, "times": 1})
    assert attempt(double, params, timeout=0.1) == "TimeoutError"
    assert total(double, customer) == 0
    assert double.post(params).status == 429, "the call that was begun is still in flight"
    wait_for(lambda: double.stats()["in_flight"] == 0)
    assert total(double, customer) == 5 and "already exists" in double.post(params).error["message"]


def test_a_commit_before_the_client_gave_up(one):
    double, customer, params = one
    double.faults({"effect": "none", "delay_after_ms": 300, "times": 1})
    assert attempt(double, params, timeout=0.1) == "TimeoutError"
    assert total(double, customer) == 5
    wait_for(lambda: double.stats()["in_flight"] == 0)


def test_delays_go_with_any_effect(one):
    double, customer, params = one
    double.faults({"effect": "error", "commit": "after", "delay_before_ms": 60, "delay_after_ms": 60, "times": 1})
    begun = time.monotonic()
    assert double.post(params).status == 500 and time.monotonic() - begun >= 0.12 and total(double, customer) == 5


def test_a_body_that_drips(one):
    double, customer, params = one
    double.faults({"effect": "drip", "every_ms": 1, "times": 1})
    reply = double.post(params)
    assert reply.json["identifier"] == params["identifier"]
    double.faults({"effect": "drip", "every_ms": 400, "times": 1})
    with double.socket(timeout=0.1) as client:
        client.sendall(b"GET /v1/billing/meters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_local\r\n\r\n")
        head = client.recv(65536)
        assert b"\r\n\r\n" in head
        with pytest.raises(socket.timeout):
            while client.recv(1) != b"":
                pass


def test_rules_choose_by_customer_identifier_meter_and_path(double):
    customer, prefix = unique("cus"), unique("pre")
    double.faults(
        {"effect": "error", "customer": customer},
        {"effect": "html", "identifier_prefix": prefix},
        {"effect": "truncated_json", "path": "/v1/billing/meters", "method": "GET"},
        {"effect": "lost", "event_name": "set_m"},
    )
    assert double.post(event(customer, 1)).status == 500
    assert double.post(event(unique("cus"), 1, identifier=prefix + "-x")).status == 502
    assert double.post(event(unique("cus"), 1)).status == 200
    assert len(double.get("/v1/billing/meters").body) < 600
    other = unique("cus")
    assert double.post(event(other, 1, meter="set_m")).status == 200 and total(double, other) == 0
    assert [rule["fired"] for rule in double.stats()["faults"]] == [1, 1, 1, 1]


def test_rules_choose_by_number(double):
    customer = unique("cus")
    double.faults({"effect": "error", "customer": customer, "from": 3, "every": 2, "times": 2, "cached": False})
    statuses = [double.post(event(customer, 1)).status for _ in range(10)]
    assert statuses == [200, 200, 200, 500, 200, 500, 200, 200, 200, 200]


def test_a_seed_decides_the_same_way_again(double):
    def run(seed):
        double.faults({"effect": "rate_limited", "probability": 0.5}, seed=seed)
        return [double.post(event(unique("cus"), 1)).status for _ in range(40)]

    assert run(7) == run(7) != run(8)


def test_errors_of_reads(double):
    double.faults({"effect": "error", "status": 503, "method": "GET", "times": 1})
    assert double.get("/v1/billing/meters").status == 503
    assert double.get("/v1/billing/meters").status == 200


def test_a_fault_waits_for_a_call_that_passes_the_checks(one):
    double, _, params = one
    double.faults({"effect": "error", "nth": 1})
    assert double.post(dict(params, colour="red")).status == 400
    assert double.post(params).status == 500


def test_a_slow_call_does_not_hold_up_others(double):
    slow = unique("cus")
    double.faults({"effect": "none", "customer": slow, "delay_before_ms": 400})
    times = {}

    def post(name):
        begun = time.monotonic()
        double.post(event(name, 1))
        times[name] = time.monotonic() - begun

    other = unique("cus")
    in_parallel(lambda: post(slow), lambda: post(other))
    assert times[slow] >= 0.4 > times[other]


@pytest.mark.parametrize(
    "script",
    [
        [],
        {"rule": []},
        {"rules": {}},
        {"rules": [{"effect": "nothing"}]},
        {"rules": [{"effect": "error", "commit": "never"}]},
        {"rules": [{"effect": "error", "colour": 1}]},
        {"rules": [{"effect": "error", "nth": "1"}]},
        {"rules": [{"effect": "error", "nth": 0}]},
        {"rules": [{"effect": "drop", "customer": "c"}]},
        {"rules": [{"effect": "error", "path": 1}]},
        {"rules": [{}]},
        {"rules": [1]},
    ],
)
def test_scripts_that_are_not_understood_are_refused(double, script):
    reply = double.call("POST", "/control/faults", json.dumps(script), port=double.ready["admin_port"])
    assert reply.status == 400
