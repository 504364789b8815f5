"""What Stripe remembers: meters, events, identifiers, idempotent replies, and what all of it adds up to.

Every change is a journal record, applied by the same code live and on start. Records by "t":
  meter    {name, id, mode, created_s}                a meter exists; mode set | delta; immutable
  status   {name, status, at_s}                       active | inactive
  customer {customer, deleted}
  clock    {offset_ms}
  knob     {name, value}
  forget   {identifier}                               the identifier store is wiped of one, or of all (null)
  do       {at, key, print, status, body, event, identifier, dup, sent}
           one executed POST, event and kept reply in one record, so that a crash keeps both or neither. key and print
           are digests of the idempotency key (null: nothing kept) and of the parameters; event is null or [identifier,
           customer, event_name, value, timestamp, lost]; dup: it was refused as a duplicate; sent is [value, digest of
           the body's bytes]

Values are int or Decimal, never float. A set meter (event_time_window hour) counts the last received event of a UTC
hour of the event's timestamp, a delta meter all of them.
"""

import hashlib
from decimal import Decimal, getcontext

getcontext().prec = 80  # sums of 15-digit values with 12 decimals stay exact

HOUR_S = 3600


class BadState(Exception):
    """The journal and the command line contradict each other, or a record is not understood."""


def number(text):
    """int or Decimal of a plain decimal literal; integral values are int."""
    if "." not in text:
        return int(text)
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else value


def literal(value):
    """Exact JSON number of an int or a Decimal."""
    return str(value) if isinstance(value, int) else format(value.normalize(), "f")


class Meter:
    """One meter; `mode` is set (hour window) or delta (no window)."""

    __slots__ = ("name", "id", "mode", "created_s", "updated_s", "status", "deactivated_s")

    def __init__(self, name, id_, mode, created_s):
        self.name, self.id, self.mode, self.created_s, self.updated_s = name, id_, mode, created_s, created_s
        self.status, self.deactivated_s = "active", None

    def as_json(self):
        """The billing.meter object."""
        return {
            "id": self.id,
            "object": "billing.meter",
            "created": self.created_s,
            "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "default_aggregation": {"formula": "sum"},
            "display_name": self.name,
            "event_name": self.name,
            "event_time_window": "hour" if self.mode == "set" else None,
            "livemode": False,
            "status": self.status,
            "status_transitions": {"deactivated_at": self.deactivated_s},
            "updated": self.updated_s,
            "value_settings": {"event_payload_key": "value"},
        }


class Event:
    """One accepted event. `lost` ones were answered 200 and count nowhere."""

    __slots__ = ("seq", "identifier", "customer", "event_name", "value", "timestamp", "received_ms", "lost")

    def __init__(self, seq, received_ms, fields):
        self.seq, self.received_ms = seq, received_ms
        self.identifier, self.customer, self.event_name, text, self.timestamp, self.lost = fields
        self.value = number(text)


class Ledger:
    """All state that survives a restart."""

    def __init__(self, journal, clock, knobs):
        self.journal, self.clock, self.knobs = journal, clock, knobs
        self.meters, self.deleted_customers = {}, set()
        self.identifiers = {}  # (scope, identifier) -> received_ms of the last accepted
        self.replies = {}  # key digest -> (print, at_ms, status, body)
        self.events, self.series = [], {}  # all; (customer, event_name) -> [Event]
        self.billed = {}  # (customer, event_name, hour) -> value
        self.seen = {}  # identifier -> [executed, accepted, {value text}, {body digest}]
        self.duplicates = self.set_decreases = self.negative_values = 0
        apply = {
            name: getattr(self, "_apply_" + name)
            for name in ("meter", "status", "customer", "clock", "knob", "forget", "do")
        }
        self._apply = apply
        for line, record in journal.read():
            try:
                apply[record["t"]](record)
            except (KeyError, TypeError, ValueError, ArithmeticError):
                raise BadState("journal line %d is not understood" % line) from None

    def record(self, record):
        """Journal a change, then apply it."""
        self.journal.append(record)
        self._apply[record["t"]](record)

    def declare_meter(self, name, mode):
        """Create a meter, or check that it is the one that exists."""
        meter = self.meters.get(name)
        if meter is None:
            id_ = "mtr_test_" + hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
            self.record({"t": "meter", "name": name, "id": id_, "mode": mode, "created_s": self.clock.now_ms() // 1000})
        elif meter.mode != mode:
            raise BadState("meter %s is %s in the state file: a meter's mode cannot change" % (name, meter.mode))

    def meter_by_id(self, id_):
        """Meter or None."""
        return next((meter for meter in self.meters.values() if meter.id == id_), None)

    def identifier_known(self, event_name, identifier, now_ms):
        """Whether an event with this identifier would be a duplicate."""
        at = self.identifiers.get((self._scope(event_name), identifier))
        ttl_s = self.knobs.identifier_ttl_s
        return at is not None and (ttl_s == 0 or now_ms - at < ttl_s * 1000)

    def kept_reply(self, key, now_ms):
        """(print, at_ms, status, body) kept under an idempotency key's digest, or None."""
        kept = self.replies.get(key)
        if kept and now_ms - kept[1] >= self.knobs.idempotency_ttl_s * 1000:
            del self.replies[key]
            return None
        return kept

    def _scope(self, event_name):
        return event_name if self.knobs.identifier_scope == "event_name" else None

    def _apply_meter(self, record):
        self.meters[record["name"]] = Meter(record["name"], record["id"], record["mode"], record["created_s"])

    def _apply_status(self, record):
        meter = self.meters[record["name"]]
        meter.status, meter.updated_s = record["status"], record["at_s"]
        meter.deactivated_s = record["at_s"] if record["status"] == "inactive" else None

    def _apply_customer(self, record):
        (self.deleted_customers.add if record["deleted"] else self.deleted_customers.discard)(record["customer"])

    def _apply_clock(self, record):
        if self.clock.mode != "offset":
            raise BadState("the clock of this state file was moved: start with --clock offset")
        self.clock.offset_ms = record["offset_ms"]

    def _apply_knob(self, record):
        self.knobs.set(record["name"], record["value"])

    def _apply_forget(self, record):
        if record["identifier"] is None:
            self.identifiers.clear()
        for place in [place for place in self.identifiers if place[1] == record["identifier"]]:
            del self.identifiers[place]

    def _apply_do(self, record):
        at_ms = record["at"]
        if record["key"]:
            self.replies[record["key"]] = (record["print"], at_ms, record["status"], record["body"])
        identifier = record["identifier"]
        if identifier is not None:
            seen = self.seen.setdefault(identifier, [0, 0, set(), set()])
            seen[0] += 1
            seen[2].add(record["sent"][0])
            seen[3].add(record["sent"][1])
        if record["event"]:
            self._count(Event(len(self.events), at_ms, record["event"]))
        self.duplicates += record["dup"]

    def _count(self, event):
        self.events.append(event)
        self.seen.setdefault(event.identifier, [0, 0, set(), set()])[1] += 1
        self.identifiers[self._scope(event.event_name), event.identifier] = event.received_ms
        self.negative_values += event.value < 0
        if event.lost:
            return
        self.series.setdefault((event.customer, event.event_name), []).append(event)
        hour = event.timestamp // HOUR_S * HOUR_S
        place = (event.customer, event.event_name, hour)
        before = self.billed.get(place, 0)
        if self.meters[event.event_name].mode == "set":
            self.set_decreases += event.value < before
            self.billed[place] = event.value
        else:
            self.billed[place] = before + event.value
