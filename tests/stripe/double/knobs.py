"""The double's knobs: what is unknown or undocumented about Stripe and can be set either way. One table makes --knob,
its help and POST /control/knobs. A value that the control port has set is kept in the journal and goes before the
command line's."""

DAY_S = 86400

# name: (default, allowed values or None for an integer >= 0, help)
TABLE = {
    "identifier_ttl_s": (DAY_S, None, "how long an identifier is known; 0 = for ever"),
    "identifier_scope": ("account", ("account", "event_name"), "where identifiers are unique"),
    "idempotency_ttl_s": (DAY_S, None, "how long the reply of an idempotency key is kept"),
    "past_limit_s": (35 * DAY_S, None, "the oldest timestamp taken; 0 = any (--no-age-limit)"),
    "future_limit_s": (300, None, "the furthest timestamp in the future taken"),
    "digits_max": (15, None, "the most digits in a value; 0 = any"),
    "decimals_max": (12, None, "the most decimal places in a value"),
    "concurrency": ("429", ("429", "409", "off"), "the answer to a second call for a (customer, meter) in flight"),
    "rate_limit_per_s": (0, None, "meter events per second, a bucket of one second; 0 = no limit"),
    "latency_ms": (0, None, "every call stays in flight for so long after its commit"),
    "idle_close_ms": (0, None, "an idle connection is closed after so long; 0 = never"),
    "requests_per_connection": (0, None, "a connection is closed after so many; 0 = never"),
    "unknown_customer": ("sync", ("sync", "drop"), "a deleted customer: 400, or 200 and the event is lost"),
    "summary_lag_s": (0, None, "an event is in the summaries so long after its receipt"),
    "summary_lag_mode": ("fixed", ("fixed", "random", "never"), "random: up to the lag; never: in no summary"),
    "summary_stale_s": (0, None, "every second summary read comes from a replica that is so far behind"),
    "summary_order": ("newest", ("newest", "oldest"), "which bucket comes first"),
    "summary_empty": ("omit", ("omit", "zero"), "hours or days without events"),
    "summary_number": ("integer", ("integer", "float"), "25 or 25.0"),
    "summary_end": ("exclusive", ("exclusive", "inclusive"), "whether end_time belongs to the range"),
}


class BadKnob(Exception):
    """An unknown knob, or a value that it does not take."""


class Knobs:
    """The current values, as attributes."""

    def __init__(self):
        for name, (default, _, _) in TABLE.items():
            setattr(self, name, default)

    def set(self, name, value):
        """Set one knob from a string or an integer; returns the value as stored."""
        if name not in TABLE:
            raise BadKnob("unknown knob")
        allowed = TABLE[name][1]
        value = str(value)
        if allowed is None:
            if not (value.isascii() and value.isdigit() and len(value) <= 12):
                raise BadKnob("%s takes an integer" % name)
            value = int(value)
        elif value not in allowed:
            raise BadKnob("%s takes %s" % (name, " | ".join(allowed)))
        setattr(self, name, value)
        return value


def describe():
    """The table as text, for --help."""
    return "\n".join(
        "  %-24s %-10s %s%s" % (name, default, text, "" if allowed is None else " (%s)" % " | ".join(allowed))
        for name, (default, allowed, text) in TABLE.items()
    )
