"""Meters and event summaries."""

import pytest

from conftest import HOUR, event, unique

METERS = "/v1/billing/meters"


def meter_id(double, name):
    return next(meter["id"] for meter in double.get(METERS).json["data"] if meter["event_name"] == name)


def read(double, name, customer, start, end, **more):
    return double.get(
        "%s/%s/event_summaries" % (METERS, meter_id(double, name)),
        customer=customer,
        start_time=start,
        end_time=end,
        **more
    )


def rows(reply):
    assert reply.status == 200, reply.body
    return {row["start_time"]: row["aggregated_value"] for row in reply.json["data"]}


def start_of(double, hours):
    return (double.now() // HOUR - hours) * HOUR


def test_meters_are_listed_and_got_with_their_window(double):
    listing = double.get(METERS).json
    assert listing["object"] == "list" and listing["has_more"] is False and listing["url"] == METERS
    windows = {meter["event_name"]: meter["event_time_window"] for meter in listing["data"]}
    assert windows == {"set_m": "hour", "delta_m": None}
    for meter in listing["data"]:
        assert meter["default_aggregation"] == {"formula": "sum"} and meter["status"] == "active"
        assert (
            meter["customer_mapping"]["event_payload_key"] == "stripe_customer_id"
            and meter["value_settings"]["event_payload_key"] == "value"
        )
        assert double.get(METERS + "/" + meter["id"]).json == meter


def test_meters_are_filtered_and_paged(double):
    double.control("/control/meter", {"event_name": "set_m", "status": "inactive"})
    assert [meter["event_name"] for meter in double.get(METERS, status="active").json["data"]] == ["delta_m"]
    inactive = double.get(METERS, status="inactive").json["data"]
    assert inactive[0]["event_name"] == "set_m" and inactive[0]["status_transitions"]["deactivated_at"]
    first = double.get(METERS, limit=1).json
    assert first["has_more"] and len(first["data"]) == 1
    rest = double.get(METERS, limit=1, starting_after=first["data"][0]["id"]).json
    assert not rest["has_more"] and rest["data"][0]["id"] != first["data"][0]["id"]
    assert double.get(METERS, status="odd").status == 400


def test_summaries_by_hour_are_sparse_and_newest_first(double):
    customer, start = unique("cus"), start_of(double, 5)
    for value, at in ((1, start), (2, start + 10), (4, start + 2 * HOUR)):
        double.post(event(customer, value, at=at))
    reply = read(double, "delta_m", customer, start, start + 4 * HOUR, value_grouping_window="hour")
    assert [(row["start_time"], row["end_time"], row["aggregated_value"]) for row in reply.json["data"]] == [
        (start + 2 * HOUR, start + 3 * HOUR, 4),
        (start, start + HOUR, 3),
    ]
    row = reply.json["data"][0]
    assert set(row) == {"id", "object", "aggregated_value", "start_time", "end_time", "livemode", "meter"}
    assert (
        row["id"].startswith("mtrusg_")
        and row["object"] == "billing.meter_event_summary"
        and row["meter"] == meter_id(double, "delta_m")
    )
    double.knobs(summary_order="oldest", summary_empty="zero")
    assert list(
        rows(read(double, "delta_m", customer, start, start + 4 * HOUR, value_grouping_window="hour")).values()
    ) == [3, 0, 4, 0]


def test_a_range_without_grouping_is_one_row_and_a_day_adds_its_hours(double):
    customer = unique("cus")
    day = double.now() // 86400 * 86400 - 86400
    for value, at in ((1, day), (5, day + 10), (7, day + 86399), (9, day + 86400)):
        double.post(event(customer, value, meter="set_m", at=at))
    assert rows(read(double, "set_m", customer, day, day + 86400)) == {day: 12}
    assert rows(read(double, "set_m", customer, day, day + 2 * 86400, value_grouping_window="day")) == {
        day: 12,
        day + 86400: 9,
    }


def test_the_default_page_is_10_and_the_cursor_goes_on(double):
    customer, start = unique("cus"), start_of(double, 20)
    for index in range(15):
        double.post(event(customer, index + 1, at=start + index * HOUR))
    ask = dict(value_grouping_window="hour")
    first = read(double, "delta_m", customer, start, start + 15 * HOUR, **ask)
    assert len(rows(first)) == 10 and first.json["has_more"] is True
    rest = read(
        double, "delta_m", customer, start, start + 15 * HOUR, starting_after=first.json["data"][-1]["id"], **ask
    )
    assert len(rows(rest)) == 5 and rest.json["has_more"] is False
    back = read(double, "delta_m", customer, start, start + 15 * HOUR, ending_before=rest.json["data"][0]["id"], **ask)
    assert rows(back) == rows(first)
    assert len(rows(read(double, "delta_m", customer, start, start + 15 * HOUR, limit=100, **ask))) == 15
    assert (
        read(double, "delta_m", customer, start, start + 15 * HOUR, starting_after="mtrusg_no", **ask).error["code"]
        == "resource_missing"
    )


@pytest.mark.parametrize(
    "change, param",
    [
        ({"customer": None}, "customer"),
        ({"start_time": None}, "start_time"),
        ({"end_time": None}, "end_time"),
        ({"start_time": 1763884801}, "start_time"),
        ({"end_time": 1763888400 + 30}, "end_time"),
        ({"end_time": 1763884860, "value_grouping_window": "hour"}, "end_time"),
        ({"value_grouping_window": "day"}, "start_time"),
        ({"value_grouping_window": "minute"}, "value_grouping_window"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"end_time": 1763884800}, "end_time"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_malformed_questions_are_refused(double, change, param):
    ask = {"customer": "c", "start_time": 1763884800, "end_time": 1763888400, **change}
    ask = {name: value for name, value in ask.items() if value is not None}
    reply = double.get("%s/%s/event_summaries" % (METERS, meter_id(double, "delta_m")), **ask)
    assert reply.status == 400 and reply.error["param"] == param


def test_the_end_is_exclusive_or_by_knob_inclusive(double):
    customer, start = unique("cus"), start_of(double, 3)
    double.post(event(customer, 1, at=start))
    double.post(event(customer, 2, at=start + HOUR))
    assert rows(read(double, "delta_m", customer, start, start + HOUR, value_grouping_window="hour")) == {start: 1}
    double.knobs(summary_end="inclusive")
    assert rows(read(double, "delta_m", customer, start, start + HOUR, value_grouping_window="hour")) == {start: 3}


def test_summaries_lag_and_the_bill_does_not(double):
    customer, start = unique("cus"), start_of(double, 3)
    double.knobs(summary_lag_s=600)
    double.post(event(customer, 8, at=start, meter="set_m"))
    double.control("/control/clock", {"advance_s": 300})
    double.post(event(customer, 9, at=start, meter="set_m"))
    ask = (double, "set_m", customer, start, start + HOUR)
    assert rows(read(*ask)) == {} and double.billed(customer) == {("set_m", start): 9}
    double.control("/control/clock", {"advance_s": 301})
    assert rows(read(*ask)) == {start: 8}
    double.control("/control/clock", {"advance_s": 300})
    assert rows(read(*ask)) == {start: 9}
    double.knobs(summary_lag_mode="never")
    assert rows(read(*ask)) == {}


def test_a_stale_replica_answers_every_second_read(double):
    customer, start = unique("cus"), start_of(double, 3)
    double.post(event(customer, 8, at=start))
    double.knobs(summary_stale_s=600)
    reads = [rows(read(double, "delta_m", customer, start, start + HOUR)) for _ in range(4)]
    assert reads.count({}) == 2 and reads.count({start: 8}) == 2


def test_numbers_are_exact_and_rendered_as_asked(double):
    customer, start = unique("cus"), start_of(double, 3)
    double.post(event(customer, "999999999999999", at=start))
    assert b'"aggregated_value": 999999999999999,' in read(double, "delta_m", customer, start, start + HOUR).body
    double.knobs(summary_number="float")
    assert b'"aggregated_value": 999999999999999.0,' in read(double, "delta_m", customer, start, start + HOUR).body
    double.post(event(customer, "0.25", at=start))
    assert b'"aggregated_value": 999999999999999.25,' in read(double, "delta_m", customer, start, start + HOUR).body
