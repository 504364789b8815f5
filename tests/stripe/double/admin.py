"""The control port: the billed dump and the oracle for people and tests. No part of Stripe; it asks for no key.

GET  /billed               [{"customer","event_name","hour","value"}] what Stripe would bill by now
GET  /control/stats        counters and contradictions
GET  /control/events       every accepted event; ?after=SEQ&limit=N
GET  /control/knobs        the knobs in force
POST /control/knobs        {name: value, ...}
POST /control/faults       a fault script (faults.py), replaces the one in force
POST /control/clock        {"advance_s": N}, or {"advance_ms": N}
POST /control/meter        {"event_name": N, "status": "inactive" | "active"}
POST /control/customer     {"customer": C, "deleted": true | false}
POST /control/identifiers  {"forget": IDENTIFIER | null}: the identifier store loses one, or all
POST /control/key          {"state": "ok" | "revoked" | "no_write" | "no_read"}
POST /control/connections  {"close": "fin" | "reset"}: ends every client's connection
"""

import json
from urllib.parse import parse_qs

from .faults import BadScript, Faults
from .http1 import Reply, json_reply
from .knobs import BadKnob, TABLE
from .ledger import literal


class BadCall(Exception):
    """A control request that is not understood."""


class Stats:
    """Counters since this process began."""

    def __init__(self, run):
        self.run, self.ids = run, 0
        self.connections = self.requests = self.replayed = self.concurrent_violations = self.summary_reads = 0
        self.by_status = {}

    def request_id(self):
        """A unique Request-Id."""
        self.ids += 1
        return "req_%s%06d" % (self.run, self.ids)


class Admin:
    """The application behind the control listener."""

    def __init__(self, api, ledger, clock, knobs, stats, seed):
        self.api, self.ledger, self.clock, self.knobs, self.stats, self.seed = api, ledger, clock, knobs, stats, seed
        self.connections, self.now_ms = set(), clock.now_ms
        self.get = {
            "/": self._billed,
            "/billed": self._billed,
            "/control/stats": self._stats,
            "/control/events": self._events,
            "/control/knobs": self._knobs,
        }
        self.post = {
            "/control/knobs": self._set_knobs,
            "/control/faults": self._set_faults,
            "/control/clock": self._set_clock,
            "/control/meter": self._set_meter,
            "/control/customer": self._set_customer,
            "/control/key": self._set_key,
            "/control/identifiers": self._forget,
            "/control/connections": self._end_connections,
        }

    def accept(self, _conn):
        """A client has connected."""

    def head(self, _request, _conn):
        """A head is there."""
        return True

    def handle(self, request, conn):
        """A whole request is there."""
        conn.reply(self._answer(request))

    def _answer(self, request):
        if request.method == "GET" and request.path in self.get:
            return self.get[request.path](request)
        if request.method != "POST" or request.path not in self.post:
            return json_reply(404, {"error": "unknown path"})
        try:
            args = json.loads(request.body or b"{}")
            if not isinstance(args, dict):
                raise BadCall("an object is needed")
            return json_reply(200, self.post[request.path](args) or {"ok": True})
        except (ValueError, RecursionError):
            return json_reply(400, {"error": "not JSON"})
        except (BadCall, BadKnob, BadScript) as error:
            return json_reply(400, {"error": str(error)})

    def _billed(self, _request):
        rows = [
            '{"customer":%s,"event_name":%s,"hour":%d,"value":%s}'
            % (json.dumps(customer), json.dumps(name), hour, literal(value))
            for (customer, name, hour), value in sorted(self.ledger.billed.items())
        ]
        return Reply(200, b"[" + ",\n".join(rows).encode() + b"]\n")

    def _stats(self, _request):
        ledger, stats = self.ledger, self.stats
        return json_reply(
            200,
            {
                "accepted": len(ledger.events),
                "lost": sum(event.lost for event in ledger.events),
                "duplicates": ledger.duplicates,
                "double_counted": sum(seen[1] > 1 for seen in ledger.seen.values()),
                "value_conflicts": {name: sorted(seen[2]) for name, seen in ledger.seen.items() if len(seen[2]) > 1},
                "body_conflicts": [name for name, seen in ledger.seen.items() if len(seen[3]) > 1],
                "receipts": {name: seen[0] for name, seen in ledger.seen.items() if seen[0] > 1},
                "set_decreases": ledger.set_decreases,
                "negative_values": ledger.negative_values,
                "connections": stats.connections,
                "requests": stats.requests,
                "replayed": stats.replayed,
                "concurrent_violations": stats.concurrent_violations,
                "summary_reads": stats.summary_reads,
                "by_status": stats.by_status,
                "in_flight": len(self.api.inflight),
                "now_ms": self.clock.now_ms(),
                "faults": self.api.faults.counts(),
            },
        )

    def _events(self, request):
        query = parse_qs(request.query)
        try:
            after, limit = int(query.get("after", ["-1"])[0]), int(query.get("limit", ["1000000"])[0])
        except ValueError:
            return json_reply(400, {"error": "after and limit are integers"})
        rows = [
            '{"seq":%d,"identifier":%s,"customer":%s,"event_name":%s,'
            '"value":%s,"timestamp":%d,"received_ms":%d,"lost":%s}'
            % (
                event.seq,
                json.dumps(event.identifier),
                json.dumps(event.customer),
                json.dumps(event.event_name),
                literal(event.value),
                event.timestamp,
                event.received_ms,
                "true" if event.lost else "false",
            )
            for event in self.ledger.events[max(0, after + 1) : max(0, after + 1) + max(0, limit)]
        ]
        return Reply(200, b"[" + ",\n".join(rows).encode() + b"]\n")

    def _knobs(self, _request):
        return json_reply(200, {name: getattr(self.knobs, name) for name in TABLE})

    def _set_knobs(self, args):
        for name, value in args.items():
            if isinstance(value, (bool, float, list, dict)) or value is None:
                raise BadKnob("a knob takes a string or an integer")
            self.ledger.record({"t": "knob", "name": name, "value": self.knobs.set(name, value)})

    def _set_faults(self, args):
        self.api.faults = Faults(args, self.seed)

    def _set_clock(self, args):
        if self.clock.mode != "offset":
            raise BadCall("the clock is real: start with --clock offset")
        step_ms = (
            self._typed(args, "advance_ms", int) if "advance_ms" in args else self._typed(args, "advance_s", int) * 1000
        )
        self.ledger.record({"t": "clock", "offset_ms": self.clock.offset_ms + step_ms})
        return {"now_ms": self.clock.now_ms()}

    def _set_meter(self, args):
        name, status = self._typed(args, "event_name", str), args.get("status")
        if name not in self.ledger.meters or status not in ("active", "inactive"):
            raise BadCall("an existing event_name and a status, active or inactive, are needed")
        self.ledger.record({"t": "status", "name": name, "status": status, "at_s": self.clock.now_ms() // 1000})

    def _set_customer(self, args):
        self.ledger.record(
            {
                "t": "customer",
                "customer": self._typed(args, "customer", str),
                "deleted": self._typed(args, "deleted", bool),
            }
        )

    def _forget(self, args):
        if "forget" not in args or not isinstance(args["forget"], (str, type(None))):
            raise BadCall("forget is needed: an identifier, or null for all")
        self.ledger.record({"t": "forget", "identifier": args["forget"]})

    def _set_key(self, args):
        if args.get("state") not in ("ok", "revoked", "no_write", "no_read"):
            raise BadCall("state is ok, revoked, no_write or no_read")
        self.api.key_state = args["state"]

    def _end_connections(self, args):
        how = args.get("close")
        if how not in ("fin", "reset"):
            raise BadCall("close is fin or reset")
        for conn in list(self.api.connections):
            conn.close() if how == "fin" else conn.reset()

    @staticmethod
    def _typed(args, name, kind):
        value = args.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadCall("%s is missing or has the wrong type" % name)
        return value
