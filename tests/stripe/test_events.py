"""Meter events: shape, order of checks, values, times, identifiers, idempotency, aggregation."""

import threading

import pytest

from conftest import HOUR, event, unique

PATH = "/v1/billing/meter_events"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def hour(double):
    return double.now() // HOUR * HOUR - HOUR


def test_an_event_is_accepted_and_echoed(double):
    customer, at = unique("cus"), hour(double) + 1800
    reply = double.post(event(customer, 25, at=at, identifier="id-" + customer), idempotency="key-" + customer)
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    body = reply.json
    assert abs(body.pop("created") - double.now()) < 5
    assert body == {
        "object": "billing.meter_event",
        "event_name": "delta_m",
        "identifier": "id-" + customer,
        "livemode": False,
        "payload": {"stripe_customer_id": customer, "value": "25"},
        "timestamp": at,
    }
    assert reply.headers["idempotency-key"] == "key-" + customer and reply.headers["request-id"].startswith("req_")
    assert double.billed(customer) == {("delta_m", at // HOUR * HOUR): 25}


def test_raw_and_escaped_brackets_and_plus_are_decoded(double):
    customer = unique("cus")
    body = "event_name=delta_m&payload[stripe_customer_id]=%s&payload%%5Bvalue%%5D=3&identifier=a+b%%2B%s" % (
        customer,
        customer,
    )
    assert double.call("POST", PATH, body, FORM).json["identifier"] == "a b+" + customer


def test_an_identifier_is_made_when_there_is_none(double):
    customer = unique("cus")
    first, second = (double.post(event(customer, 1)).json["identifier"] for _ in range(2))
    assert first != second and sum(double.billed(customer).values()) == 2


@pytest.mark.parametrize(
    "body, param, code",
    [
        ("payload[stripe_customer_id]=c&payload[value]=1", "event_name", "parameter_missing"),
        ("event_name=delta_m", "payload", "parameter_missing"),
        ("event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1&colour=red", "colour", "parameter_unknown"),
        ("event_name=delta_m&payload=1", "payload", None),
        ("event_name=delta_m&payload[stripe_customer_id]=c&payload[value][x]=1", "payload[value]", None),
        (
            "event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1&timestamp=1.5",
            "timestamp",
            "parameter_invalid_integer",
        ),
        (
            "event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1&timestamp=abc",
            "timestamp",
            "parameter_invalid_integer",
        ),
        (
            "event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1&identifier=" + "i" * 101,
            "identifier",
            None,
        ),
        ("event_name=" + "n" * 101 + "&payload[stripe_customer_id]=c&payload[value]=1", "event_name", None),
        (
            "event_name=delta_m&payload[stripe_customer_id]=" + "c" * 101 + "&payload[value]=1",
            "payload[stripe_customer_id]",
            None,
        ),
        (
            "event_name=delta_m&payload[stripe_customer_id]=c&payload[value]=1&identifier=",
            "identifier",
            "parameter_invalid_empty",
        ),
        ("event_name=delta_m&event_name=set_m&payload[value]=1", "event_name", None),
        ("event_name=%zz", None, None),
        ("event_name=%ff", None, None),
        ("event_name", None, None),
        ("a[b][c][d][e]=1", None, None),
    ],
)
def test_malformed_parameters_are_refused(double, body, param, code):
    reply = double.call("POST", PATH, body, FORM)
    assert reply.status == 400 and reply.error["type"] == "invalid_request_error"
    assert (reply.error.get("param"), reply.error.get("code")) == (param, code)


def test_100_characters_are_accepted(double):
    identifier = unique("i").ljust(100, "x")
    assert double.post(event(unique("cus"), 1, identifier=identifier)).status == 200


def test_only_forms_are_taken(double):
    assert double.call("POST", PATH, "{}", {"Content-Type": "application/json"}).status == 400
    assert double.call("POST", PATH + "?event_name=delta_m", "", FORM).status == 400


@pytest.mark.parametrize(
    "value, status, text",
    [
        ("0", 200, None),
        ("-5", 200, None),
        ("999999999999999", 200, None),
        ("0.000000000001", 200, None),
        ("1.5", 200, None),
        (
            "1000000000000000",
            400,
            "The value in the event payload can have at most 15 digits. Received 1000000000000000.",
        ),
        (
            "1234567890123.456",
            400,
            "The value in the event payload can have at most 15 digits. Received 1234567890123.456.",
        ),
        ("0.0000000000001", 400, None),
        ("1e5", 400, None),
        ("banana", 400, None),
        ("+1", 400, None),
        (" 1", 400, None),
        ("1.", 400, None),
        ("", 400, None),
        ("NaN", 400, None),
        ("\u0661", 400, None),
    ],
)
def test_values(double, value, status, text):
    reply = double.post(event(unique("cus"), value))
    assert reply.status == status
    if text:
        assert reply.error["message"] == text


def test_payload_keys_are_needed(double):
    assert double.post({"event_name": "delta_m", "payload[stripe_customer_id]": "c"}).status == 400
    assert double.post({"event_name": "delta_m", "payload[value]": "1"}).status == 400


def test_too_old_and_too_new_are_refused_with_stripes_text(double):
    now = double.now()
    old = double.post(event("c", 1, at=now - 35 * 86400 - 100))
    assert old.status == 400
    words, _, bound = old.error["message"].rpartition(" ")
    assert (
        words
        == "The event timestamp cannot be more than 35 days in past. Expected a timestamp greater than or equal to"
    )
    assert abs(int(bound.rstrip(".")) - (now - 35 * 86400)) < 5
    assert double.post(event("c", 1, at=now + 400)).status == 400
    assert double.post(event(unique("cus"), 1, at=now - 35 * 86400 + 100)).status == 200
    assert double.post(event(unique("cus"), 1, at=now + 200)).status == 200


def test_no_age_limit_takes_history_but_not_the_future(private):
    double = private("--no-age-limit")
    assert double.post(event("c", 7, at=1000000000)).status == 200
    assert double.billed("c") == {("delta_m", 1000000000 // HOUR * HOUR): 7}
    assert double.post(event("c", 7, at=double.now() + 400)).status == 400


def test_unknown_and_inactive_meters_are_refused(double):
    reply = double.post(event("c", 1, meter="nothing"))
    assert (reply.status, reply.error["message"]) == (400, "No active meter found for event name nothing.")
    double.control("/control/meter", {"event_name": "delta_m", "status": "inactive"})
    assert double.post(event(unique("cus"), 1)).status == 400
    double.control("/control/meter", {"event_name": "delta_m", "status": "active"})
    assert double.post(event(unique("cus"), 1)).status == 200


def test_a_duplicate_is_400_without_code_whatever_its_value(double):
    customer, identifier = unique("cus"), unique("id")
    assert double.post(event(customer, 1, identifier=identifier), idempotency=unique("k")).status == 200
    before = double.stats()["duplicates"]
    for value, meter in ((1, "delta_m"), (2, "delta_m"), (1, "set_m")):
        reply = double.post(event(customer, value, meter=meter, identifier=identifier), idempotency=unique("k"))
        assert reply.status == 400 and reply.headers["stripe-should-retry"] == "false"
        assert reply.error == {
            "type": "invalid_request_error",
            "message": "An event already exists with identifier %s." % identifier,
        }
    assert sum(double.billed(customer).values()) == 1
    stats = double.stats()
    assert (
        stats["duplicates"] - before == 3
        and stats["receipts"][identifier] == 4
        and stats["value_conflicts"][identifier] == ["1", "2"]
    )
    assert identifier in stats["body_conflicts"]


def test_a_refused_event_does_not_use_its_identifier(double):
    customer, identifier = unique("cus"), unique("id")
    assert double.post(event(customer, "banana", identifier=identifier)).status == 400
    assert double.post(event(customer, 1, identifier=identifier)).status == 200


def test_an_identifier_is_forgotten_after_its_time_and_counted_again(double):
    customer, identifier = unique("cus"), unique("id")
    params = event(customer, 5, at=double.now(), identifier=identifier)
    double.knobs(identifier_ttl_s=3600)
    double.post(params)
    double.control("/control/clock", {"advance_s": 3590})
    assert double.post(params).status == 400
    before = double.stats()["double_counted"]
    double.control("/control/clock", {"advance_s": 20})
    assert double.post(params).status == 200
    assert sum(double.billed(customer).values()) == 10 and double.stats()["double_counted"] == before + 1


def test_the_identifier_store_can_be_wiped(double):
    customer, identifier = unique("cus"), unique("id")
    assert double.post(event(customer, 5, identifier=identifier)).status == 200
    double.control("/control/identifiers", {"forget": identifier})
    assert double.post(event(customer, 5, identifier=identifier)).status == 200


def test_identifiers_can_be_unique_per_event_name(double):
    customer, identifier = unique("cus"), unique("id")
    double.knobs(identifier_scope="event_name")
    assert double.post(event(customer, 1, identifier=identifier)).status == 200
    assert double.post(event(customer, 1, identifier=identifier, meter="set_m")).status == 200
    assert double.post(event(customer, 1, identifier=identifier)).status == 400


def test_an_idempotent_replay_is_identical_and_counted_once(double):
    customer, key = unique("cus"), unique("k")
    params = event(customer, 5, identifier=unique("id"))
    first, second = double.post(params, idempotency=key), double.post(params, idempotency=key)
    assert (second.status, second.body) == (200, first.body)
    assert second.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert second.headers["request-id"] != first.headers["request-id"]
    assert sum(double.billed(customer).values()) == 5


def test_refusals_of_execution_are_replayed_and_those_before_are_not(double):
    key, other = unique("k"), unique("k")
    params = event(unique("cus"), "banana")
    double.post(params, idempotency=key)
    assert double.post(params, idempotency=key).headers["idempotent-replayed"] == "true"
    wrong = dict(event(unique("cus"), 1), colour="red")
    double.post(wrong, idempotency=other)
    assert "idempotent-replayed" not in double.post(wrong, idempotency=other).headers
    assert double.post(event(unique("cus"), 1), idempotency=other).status == 200


def test_another_request_under_a_used_key_is_an_idempotency_error(double):
    key = unique("k")
    double.post(event(unique("cus"), 1), idempotency=key)
    reply = double.post(event(unique("cus"), 2), idempotency=key)
    assert reply.status == 400 and reply.error["type"] == "idempotency_error"
    assert reply.error["message"] == (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        "Try using a key other than '%s' if you meant to execute a different request." % key
    )


def test_an_idempotency_key_expires(double):
    key, customer = unique("k"), unique("cus")
    double.knobs(idempotency_ttl_s=100)
    double.post(event(customer, 1), idempotency=key)
    double.control("/control/clock", {"advance_s": 101})
    assert "idempotent-replayed" not in double.post(event(customer, 1), idempotency=key).headers
    assert sum(double.billed(customer).values()) == 2


def test_a_key_beyond_255_characters_is_refused(double):
    assert double.post(event(unique("cus"), 1), idempotency="k" * 256).status == 400


def in_parallel(*calls):
    replies = [None] * len(calls)

    def run(place):
        replies[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def test_one_call_in_flight_per_customer_and_meter(double):
    double.knobs(latency_ms=150)
    customer, other = unique("cus"), unique("cus")
    before = double.stats()["concurrent_violations"]
    calls = [lambda: double.post(event(customer, 1)) for _ in range(2)]
    replies = in_parallel(
        *calls, lambda: double.post(event(customer, 1, meter="set_m")), lambda: double.post(event(other, 1))
    )
    assert sorted(reply.status for reply in replies[:2]) == [200, 429] and [reply.status for reply in replies[2:]] == [
        200,
        200,
    ]
    refused = next(reply for reply in replies if reply.status == 429)
    assert (
        refused.headers["stripe-rate-limited-reason"] == "resource-specific" and refused.error["code"] == "rate_limit"
    )
    assert double.stats()["concurrent_violations"] == before + 1
    assert double.post(event(customer, 1)).status == 200
    double.knobs(concurrency="409")
    assert sorted(reply.status for reply in in_parallel(*calls)) == [200, 409]


def test_a_key_in_use_is_409(double):
    double.knobs(latency_ms=150, concurrency="off")
    params, key = event(unique("cus"), 1, identifier=unique("id")), unique("k")
    replies = in_parallel(*[lambda: double.post(params, idempotency=key)] * 2)
    assert sorted(reply.status for reply in replies) == [200, 409]
    assert next(reply for reply in replies if reply.status == 409).error["code"] == "idempotency_key_in_use"


def test_the_rate_limit_is_not_kept_under_the_key(double):
    double.knobs(rate_limit_per_s=1)
    replies = [(double.post(event(unique("cus"), 1), idempotency=unique("k"))) for _ in range(5)]
    refused = [reply for reply in replies if reply.status == 429]
    assert refused and refused[0].headers["stripe-rate-limited-reason"] == "endpoint-rate"
    double.knobs(rate_limit_per_s=0)
    assert double.post(event(unique("cus"), 1), idempotency=refused[0].headers["idempotency-key"]).status == 200


def test_set_meters_keep_the_last_received_and_delta_meters_add_up(double):
    customer, start = unique("cus"), hour(double)
    for value, at in ((10, start), (30, start + 3599), (20, start + 5), (1, start + HOUR)):
        double.post(event(customer, value, meter="set_m", at=at))
        double.post(event(customer, value, meter="delta_m", at=at))
    assert double.billed(customer) == {
        ("set_m", start): 20,
        ("set_m", start + HOUR): 1,
        ("delta_m", start): 60,
        ("delta_m", start + HOUR): 1,
    }
    assert double.stats()["set_decreases"] >= 1


def test_sums_are_exact(double):
    customer = unique("cus")
    for value in ["0.1"] * 3 + ["999999999999999"] * 20 + ["-0.3"]:
        assert double.post(event(customer, value, at=hour(double))).status == 200
    assert list(double.billed(customer).values()) == [999999999999999 * 20]


def test_a_deleted_customer_is_refused_or_dropped(double):
    customer = unique("cus")
    double.control("/control/customer", {"customer": customer, "deleted": True})
    reply = double.post(event(customer, 1))
    assert (reply.status, reply.error["message"]) == (400, "No such customer: '%s'" % customer)
    double.knobs(unknown_customer="drop")
    assert double.post(event(customer, 1)).status == 200 and double.billed(customer) == {}
    double.control("/control/customer", {"customer": customer, "deleted": False})
    assert double.post(event(customer, 1)).status == 200 and double.billed(customer) != {}


def test_the_events_dump_shows_what_was_accepted(double):
    identifier = unique("id")
    double.post(event("c", 12, at=hour(double), identifier=identifier))
    rows = double.control("/control/events")
    row = rows[-1]
    assert (
        row["identifier"] == identifier
        and row["value"] == 12
        and abs(row["received_ms"] - double.stats()["now_ms"]) < 5000
    )
    assert (
        double.control("/control/events?after=%d" % (row["seq"] - 1)) == [row]
        and len(double.control("/control/events?limit=1")) == 1
    )


def test_authorisation(double):
    for key in (None, "sk_test_wrong", ""):
        reply = double.call("POST", PATH, "", FORM, key=key)
        assert reply.status == 401 and "wrong" not in reply.body.decode()
    basic = {"Authorization": "Basic c2tfdGVzdF9sb2NhbDo=", **FORM}
    assert double.call("POST", PATH, "", basic, key=None).status == 400
    assert double.call("GET", "/v1/billing/meters", headers={"Authorization": "Basic !"}, key=None).status == 401
    double.control("/control/key", {"state": "no_write"})
    assert double.post(event("c", 1)).status == 403 and double.get("/v1/billing/meters").status == 200
    double.control("/control/key", {"state": "no_read"})
    assert double.get("/v1/billing/meters").status == 403
    double.control("/control/key", {"state": "revoked"})
    assert double.post(event("c", 1)).status == 401


def test_unknown_paths_are_404_but_not_without_a_key(double):
    assert double.get("/v1/billing/nothing").status == 404
    assert double.call("GET", "/v1/billing/nothing", key=None).status == 401
    assert double.call("DELETE", "/v1/billing/meters").status == 404
    assert double.get("/v1/billing/meters/mtr_test_no").error["code"] == "resource_missing"


def test_the_version_asked_for_is_answered(double):
    reply = double.call("GET", "/v1/billing/meters", headers={"Stripe-Version": "2025-03-31.basil"})
    assert reply.headers["stripe-version"] == "2025-03-31.basil"
