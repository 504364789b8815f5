"""GET /v1/billing/meters/{id}/event_summaries: what Stripe admits to have counted, late and in pages.

An event is visible lag after its receipt; on a stale read the replica is a while behind. Numbers are written with
exact digits."""

import hashlib
import json

from . import form
from .errors import ParamError
from .ledger import HOUR_S, literal

DAY_S = 86400


def page(items, params):
    """(items of this page, has_more) by limit, starting_after and ending_before; ParamError on a bad cursor."""
    limit = form.integer(params, "limit")
    limit = 10 if limit is None else limit
    if not 1 <= limit <= 100:
        raise ParamError("Invalid integer: limit must be between 1 and 100", "parameter_invalid_integer", "limit")
    after, before = form.text(params, "starting_after"), form.text(params, "ending_before")
    if after is not None and before is not None:
        raise ParamError("You may only specify one of these parameters: starting_after, ending_before.")
    places = {item["id"]: place for place, item in enumerate(items)}
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor is not None and cursor not in places:
            raise ParamError("No such object", "resource_missing", name)
    if before is not None:
        end = places[before]
        return items[max(0, end - limit) : end], end > limit
    start = places[after] + 1 if after is not None else 0
    return items[start : start + limit], start + limit < len(items)


def _range(params):
    """(customer, start_s, end_s, bucket_s or None), checked."""
    form.allow(
        params,
        (
            "customer",
            "start_time",
            "end_time",
            "value_grouping_window",
            "limit",
            "starting_after",
            "ending_before",
            "expand",
        ),
    )
    customer = form.text(params, "customer", required=True)
    start_s, end_s = form.integer(params, "start_time", required=True), form.integer(params, "end_time", required=True)
    window = form.text(params, "value_grouping_window")
    if window not in (None, "hour", "day"):
        raise ParamError("Invalid value_grouping_window: must be one of hour or day", None, "value_grouping_window")
    align_s, unit = {None: (60, "minute"), "hour": (HOUR_S, "hour"), "day": (DAY_S, "day")}[window]
    for name, value in (("start_time", start_s), ("end_time", end_s)):
        if value < 0 or value % align_s:
            raise ParamError("%s must be aligned with %s boundaries." % (name, unit), None, name)
    if end_s <= start_s:
        raise ParamError("end_time must be greater than start_time.", None, "end_time")
    return customer, start_s, end_s, align_s if window else None


def _visible(event, knobs, now_ms):
    if knobs.summary_lag_mode == "never":
        return False
    lag_ms = knobs.summary_lag_s * 1000
    if knobs.summary_lag_mode == "random":  # the same event has the same lag in every read
        lag_ms = lag_ms * hashlib.blake2b(event.identifier.encode(), digest_size=1).digest()[0] // 255
    return event.received_ms + lag_ms <= now_ms


def _buckets(ledger, meter, customer, span, knobs, now_ms):
    """{bucket start: value} over the visible events."""
    start_s, end_s, bucket_s = span
    values, hours = {}, {}
    for event in ledger.series.get((customer, meter.name), ()):
        inside = start_s <= event.timestamp < end_s or (knobs.summary_end == "inclusive" and event.timestamp == end_s)
        if not inside or not _visible(event, knobs, now_ms):
            continue
        bucket = start_s if bucket_s is None or event.timestamp == end_s else event.timestamp // bucket_s * bucket_s
        if event.timestamp == end_s and bucket_s:
            bucket = end_s - bucket_s
        hour = (bucket, event.timestamp // HOUR_S)
        replaced = hours.get(hour, 0) if meter.mode == "set" else 0
        hours[hour] = event.value
        values[bucket] = values.get(bucket, 0) + event.value - replaced
    return values


def answer(ledger, meter, params, knobs, now_ms, read_number):
    """The body of the reply; ParamError when the question is malformed."""
    customer, start_s, end_s, bucket_s = _range(params)
    if read_number % 2 == 0:
        now_ms -= knobs.summary_stale_s * 1000
    values = _buckets(ledger, meter, customer, (start_s, end_s, bucket_s), knobs, now_ms)
    if knobs.summary_empty == "zero":
        for bucket in range(start_s, end_s, bucket_s or end_s - start_s):
            values.setdefault(bucket, 0)
    items = []
    for bucket in sorted(values, reverse=knobs.summary_order == "newest"):
        end = bucket + bucket_s if bucket_s else end_s
        name = hashlib.blake2b(("%s %s %d %d" % (meter.id, customer, bucket, end)).encode(), digest_size=12).hexdigest()
        items.append(
            {
                "id": "mtrusg_test_" + name,
                "object": "billing.meter_event_summary",
                "aggregated_value": values[bucket],
                "end_time": end,
                "livemode": False,
                "meter": meter.id,
                "start_time": bucket,
            }
        )
    items, more = page(items, params)
    return '{"object":"list","data":[%s],"has_more":%s,"url":"/v1/billing/meters/%s/event_summaries"}' % (
        ",".join(_item(item, knobs) for item in items),
        "true" if more else "false",
        meter.id,
    )


def _item(item, knobs):
    digits = literal(item["aggregated_value"])
    if knobs.summary_number == "float" and "." not in digits:
        digits += ".0"
    return json.dumps(dict(item, aggregated_value="@")).replace('"@"', digits)
