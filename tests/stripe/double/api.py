"""The part of Stripe that the exporter talks to: routing, order of checks, execution, and the faults around them.

HAPPY PATH of a POST, in this order and no other: authorisation 401/403 -> rate and
concurrency limits 429/409 -> shape of the parameters 400 -> idempotency key (replay, 409, 400) -> execution -> the
reply kept under the key and the event journaled in one record -> reply. Nothing before "execution" is kept.

FAILURES: scripted (faults.py). A gate fault answers after authorisation in the limiters' place: nothing was executed.
An execute fault surrounds the commit: waits before it, replaces it, waits after it, and spoils the reply. A client
that has gone does not stop a call that was begun: it commits, late.

INVARIANTS: a (customer, meter) stays in flight from the passed limiter until its reply; keys and request fields are
compared and digested, never stored or logged."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import uuid

from . import errors, form, summaries
from .errors import Duplicate, ParamError, Refusal
from .http1 import Reply

EVENTS_PATH = "/v1/billing/meter_events"
METERS_PATH = "/v1/billing/meters"
VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?")
VERSION = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(\.[a-z]{1,20})?")
DEFAULT_VERSION = "2026-07-29.dahlia"
KEY_MAX = 255
HTML = b"<html>\r\n<head><title>%d</title></head>\r\n<body><center><h1>%d</h1></center></body>\r\n</html>\r\n"

GARBAGE = {
    "text": b"OK",
    "empty": b"",
    "null": b"null",
    "array": b"[]",
    "huge": b'{"a":"' + b"x" * (4 << 20) + b'"}',
    "binary": bytes(range(256)),
}


def digest(*parts):
    """Hex digest of texts or bytes, each with its length."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        state.update(b"%d:" % len(data) + data)
    return state.hexdigest()


class Call:
    """One request on its way through the checks."""

    __slots__ = (
        "request",
        "conn",
        "route",
        "args",
        "params",
        "problem",
        "facts",
        "fault",
        "slot",
        "key",
        "print",
        "result",
    )

    def __init__(self, request, conn):
        self.request, self.conn = request, conn
        self.route = self.fault = self.slot = self.key = self.print = self.result = self.problem = None
        self.args, self.params, self.facts = (), {}, {}


class Api:
    """The application behind the API listener."""

    def __init__(self, ledger, faults, clock, knobs, stats, key):
        self.ledger, self.faults, self.clock, self.knobs, self.stats = ledger, faults, clock, knobs, stats
        self.connections, self.inflight, self.keys_in_use = set(), set(), set()
        self.key, self.key_state = key.encode(), "ok"
        self.bucket_s, self.bucket_left, self.bodies = 0, 0, {}
        self.routes = [
            (re.compile(pattern), methods)
            for pattern, methods in (
                (EVENTS_PATH, {"POST": self._create_event}),
                (METERS_PATH, {"GET": self._list_meters}),
                (METERS_PATH + "/([A-Za-z0-9_]{1,64})", {"GET": self._get_meter}),
                (METERS_PATH + "/([A-Za-z0-9_]{1,64})/event_summaries", {"GET": self._list_summaries}),
            )
        ]
        self.now_ms = clock.now_ms

    # The connection's side (http1.Connection)

    def accept(self, conn):
        """A client has connected."""
        self.stats.connections += 1
        if self.faults.by_stage["accept"] and self.faults.pick("accept", {}):
            conn.reset()

    def head(self, request, conn):
        """A head is there, its body may not be."""
        if self.faults.by_stage["head"] and self.faults.pick("head", {"method": request.method, "path": request.path}):
            conn.reset()
            return False
        return True

    def handle(self, request, conn):
        """A whole request is there."""
        call = Call(request, conn)
        self.stats.requests += 1
        try:
            self._check(call)
        except Refusal as refusal:
            return self._answer(call, self._reply(call, (refusal.status, refusal.body, refusal.headers)))
        wait_ms = call.fault.before_ms if call.fault else 0
        if wait_ms:
            return asyncio.get_running_loop().call_later(wait_ms / 1000, self._execute, call)
        return self._execute(call)

    # Checks before execution

    def _check(self, call):
        self._find_route(call)
        self._authorise(call)
        self._decode(call)
        fault = self.faults.pick("gate", call.facts)
        if fault:
            raise self._gate_error(call, fault)
        if call.route == self._create_event:
            self._limit(call)
            if call.problem:
                raise call.problem
            self._check_event(call.params)
            self._check_idempotency(call)
        elif call.problem:
            raise call.problem
        if call.slot:
            self.inflight.add(call.slot)
        fresh = call.route == self._create_event and not call.result
        call.fault = self.faults.pick("work" if fresh else "replay", call.facts)

    def _find_route(self, call):
        request = call.request
        for pattern, methods in self.routes:
            match = pattern.fullmatch(request.path)
            if match:
                call.route, call.args = methods.get(request.method), match.groups()
                break

    def _authorise(self, call):
        scheme, _, secret = call.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                secret = base64.b64decode(secret, validate=True).decode().partition(":")[0]
            except ValueError:
                secret = ""
        if scheme.lower() not in ("bearer", "basic") or not secret:
            raise errors.no_key()
        if self.key_state == "revoked" or not hmac.compare_digest(secret.strip().encode(), self.key):
            raise errors.bad_key()
        if call.route is None:
            raise Refusal(404, "Unrecognized request URL (%s: %s)." % (call.request.method, call.request.path[:100]))
        scope = "rak_billing_meter_event_write" if call.request.method == "POST" else "rak_billing_meter_read"
        if self.key_state == ("no_write" if call.request.method == "POST" else "no_read"):
            raise errors.forbidden(scope)

    def _decode(self, call):
        request = call.request
        try:
            if request.method == "POST":
                media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media != "application/x-www-form-urlencoded":
                    raise ParamError("Invalid request: the content type must be application/x-www-form-urlencoded.")
                if request.query:
                    raise ParamError("Invalid request: the parameters of a POST belong in its body.")
                call.params = form.decode(request.body.decode("latin-1"))
            else:
                call.params = form.decode(request.query)
        except ParamError as error:
            call.problem = error
        payload = call.params.get("payload")
        payload = payload if isinstance(payload, dict) else call.params
        call.facts = {
            "method": request.method,
            "path": request.path,
            "event_name": call.params.get("event_name"),
            "identifier": call.params.get("identifier"),
            "customer": payload.get("stripe_customer_id", call.params.get("customer")),
        }

    @staticmethod
    def _check_event(params):
        form.allow(params, ("event_name", "payload", "identifier", "timestamp", "expand"))
        form.text(params, "event_name", required=True)
        form.flat_map(params, "payload")
        form.text(params, "identifier")
        form.integer(params, "timestamp")

    def _limit(self, call):
        now_s = self.clock.now_ms() // 1000
        if self.knobs.rate_limit_per_s:
            if now_s != self.bucket_s:
                self.bucket_s, self.bucket_left = now_s, self.knobs.rate_limit_per_s
            if not self.bucket_left:
                raise errors.rate_limited("endpoint-rate", now_s)
            self.bucket_left -= 1
        customer, event_name = call.facts["customer"], call.facts["event_name"]
        if self.knobs.concurrency == "off" or not isinstance(customer, str) or not isinstance(event_name, str):
            return
        if (customer, event_name) in self.inflight:
            self.stats.concurrent_violations += 1
            if self.knobs.concurrency == "409":
                raise errors.too_many_concurrent()
            raise errors.rate_limited("resource-specific", now_s)
        call.slot = (customer, event_name)

    def _check_idempotency(self, call):
        key = call.request.headers.get("idempotency-key")
        if key is None:
            return
        if not 0 < len(key) <= KEY_MAX:
            raise Refusal(400, "Idempotency-Key must be between 1 and 255 characters.")
        name = digest(key)
        call.print = digest(call.request.method, call.request.path, json.dumps(call.params, sort_keys=True))
        if name in self.keys_in_use:
            raise errors.key_in_use()
        kept = self.ledger.kept_reply(name, self.clock.now_ms())
        if kept and kept[0] != call.print:
            raise errors.other_parameters(key)
        call.key = name
        self.keys_in_use.add(name)
        if kept:
            call.result = (kept[2], kept[3].encode(), [("Idempotent-Replayed", "true")])

    def _gate_error(self, call, fault):
        """The refusal of a gate fault."""
        return {
            "rate_limited": lambda: errors.rate_limited(
                fault.params["reason"], self.clock.now_ms() // 1000, fault.params["retry_after"]
            ),
            "lock_timeout": errors.lock_timeout,
            "unauthorized": errors.bad_key,
            "forbidden": lambda: errors.forbidden("rak_billing_meter_event_write"),
            "in_use": errors.key_in_use,
            "idempotency_error": lambda: errors.other_parameters(
                call.request.headers.get("idempotency-key", "")[:KEY_MAX]
            ),
            "redirect": errors.redirect,
        }[fault.effect]()

    # Execution

    def _execute(self, call):
        """Run the call and commit what it does; then answer, at once or after the fault's delay."""
        self.stats.replayed += call.result is not None
        effect = call.fault.effect if call.fault else None
        if call.route == self._create_event and not call.result:
            call.result = self._create_event(call)
        elif effect == "error":
            call.result = self._api_error(call.fault)
        elif not call.result:
            try:
                call.result = call.route(call, *call.args)
            except Refusal as refusal:
                call.result = (refusal.status, refusal.body, refusal.headers)
        wait_ms = (call.fault.after_ms if call.fault else 0) + self.knobs.latency_ms
        if wait_ms:
            asyncio.get_running_loop().call_later(wait_ms / 1000, self._finish, call)
        else:
            self._finish(call)

    def _finish(self, call):
        reply = self._reply(call, call.result)
        if call.fault:
            self._spoil(reply, call.fault)
        self._answer(call, reply)

    def _answer(self, call, reply):
        self.inflight.discard(call.slot)
        self.keys_in_use.discard(call.key)
        if self.knobs.requests_per_connection:
            call.conn.requests += 1
            reply.close = reply.close or call.conn.requests >= self.knobs.requests_per_connection
        name = str(reply.status) if reply.wire in ("whole", "drip") else reply.wire
        self.stats.by_status[name] = self.stats.by_status.get(name, 0) + 1
        call.conn.reply(reply)

    def _reply(self, call, result):
        status, body, headers = result
        asked = call.request.headers.get("stripe-version", "")
        fields = [
            ("Request-Id", self.stats.request_id()),
            ("Stripe-Version", asked if VERSION.fullmatch(asked) else DEFAULT_VERSION),
        ]
        key = call.request.headers.get("idempotency-key")
        if key is not None and len(key) <= KEY_MAX:
            fields.append(("Idempotency-Key", key))
        return Reply(status, body, fields + list(headers))

    @staticmethod
    def _spoil(reply, fault):
        """Do to a good reply what the fault says."""
        effect, params = fault.effect, fault.params
        if effect in ("reset", "silent"):
            reply.wire = effect
        elif effect == "cut":
            reply.wire = "cut" if params["how"] == "fin" else "cut_reset"
        elif effect == "drip":
            reply.wire, reply.drip_ms = "drip", params["every_ms"]
        elif effect == "truncated_json":
            reply.body = reply.body[: len(reply.body) // 2]
        elif effect == "html":
            reply.status, reply.body = params["status"], HTML % (params["status"], params["status"])
            reply.headers, reply.content_type = [], "text/html"
        elif effect == "garbage":
            reply.status, reply.content_type, reply.body = 200, params["content_type"], GARBAGE[params["body"]]
        elif effect == "wrong_identifier" and reply.status == 200:
            reply.body = json.dumps(dict(json.loads(reply.body), identifier="another-" + uuid.uuid4().hex)).encode()

    @staticmethod
    def _api_error(fault):
        should = fault.params["should_retry"]
        headers = [] if should is None else [("Stripe-Should-Retry", "true" if should else "false")]
        return (
            fault.params["status"],
            json.dumps({"error": {"type": "api_error", "message": "An unknown error occurred."}}).encode(),
            headers,
        )

    def _create_event(self, call):
        """Execute a meter event: decide, journal what was done, and return the result."""
        now_ms, fault = self.clock.now_ms(), call.fault
        effect, options = (fault.effect, fault.params) if fault else ("none", {})
        event, duplicate = None, False
        if options.get("commit") == "before":
            result = self._api_error(fault) if effect == "error" else (500, b"", [])
        else:
            try:
                event = self._accept(call.params, now_ms, effect)
                body = {
                    "object": "billing.meter_event",
                    "created": now_ms // 1000,
                    "event_name": event[2],
                    "identifier": event[0],
                    "livemode": False,
                    "payload": call.params["payload"],
                    "timestamp": event[4],
                }
                result = (200, json.dumps(body).encode(), [])
            except Duplicate as refusal:
                duplicate, result = True, (refusal.status, refusal.body, refusal.headers)
            except Refusal as refusal:
                result = (refusal.status, refusal.body, refusal.headers)
            if effect == "error":
                result = self._api_error(fault)
        kept = call.key is not None and (options["cached"] if effect == "error" else options.get("commit") != "before")
        if event or duplicate or kept:
            self._journal(call, now_ms, event, duplicate, result, kept)
        return result

    def _journal(self, call, now_ms, event, duplicate, result, kept):
        identifier = event[0] if event else call.params.get("identifier")
        self.ledger.record(
            {
                "t": "do",
                "at": now_ms,
                "key": call.key if kept else None,
                "print": call.print,
                "status": result[0],
                "body": result[1].decode() if kept else "",
                "event": event,
                "identifier": identifier,
                "dup": duplicate,
                "sent": [call.params["payload"].get("value", ""), digest(call.request.body)],
            }
        )

    def _accept(self, params, now_ms, effect):
        """The checks of execution, in Stripe's order; the event's fields as journaled, or Refusal."""
        event_name, payload, now_s = params["event_name"], params["payload"], now_ms // 1000
        meter = self.ledger.meters.get(event_name)
        if effect == "deactivate_meter" and meter:
            self.ledger.record({"t": "status", "name": event_name, "status": "inactive", "at_s": now_s})
        if meter is None or meter.status != "active":
            raise Refusal(400, "No active meter found for event name %s." % event_name)
        timestamp = int(params.get("timestamp", now_s))
        self._check_time(timestamp, now_s)
        value = self._check_value(payload.get("value"))
        customer = payload.get("stripe_customer_id")
        if not customer:
            raise Refusal(400, "Missing required payload key: stripe_customer_id.", param="payload")
        lost = effect == "lost"
        if customer in self.ledger.deleted_customers or effect == "no_customer":
            if effect == "no_customer" or self.knobs.unknown_customer == "sync":
                raise errors.no_customer(customer)
            lost = True
        identifier = params.get("identifier") or str(uuid.uuid4())
        if effect == "foreign_duplicate" or self.ledger.identifier_known(event_name, identifier, now_ms):
            raise Duplicate(identifier)
        return [identifier, customer, event_name, value, timestamp, lost]

    def _check_time(self, timestamp, now_s):
        past_s, future_s = self.knobs.past_limit_s, self.knobs.future_limit_s
        oldest_s = now_s - past_s if past_s else 0
        if timestamp < oldest_s:
            raise errors.too_old(past_s, oldest_s)
        if timestamp > now_s + future_s:
            raise errors.too_new(future_s, now_s + future_s)

    def _check_value(self, value):
        if value is None or not VALUE.fullmatch(value):
            raise errors.bad_value("The payload must have a number under the key value.")
        whole, _, decimals = value.lstrip("-").partition(".")
        digits_max, decimals_max = self.knobs.digits_max, self.knobs.decimals_max
        if digits_max and len(whole.lstrip("0")) + len(decimals) > digits_max:
            raise errors.bad_value(
                "The value in the event payload can have at most %d digits. Received %s." % (digits_max, value)
            )
        if len(decimals) > decimals_max:
            raise errors.bad_value("The value in the event payload can have at most %d decimal places." % decimals_max)
        return value

    # Reading

    def _list_meters(self, call):
        params = call.params
        form.allow(params, ("status", "limit", "starting_after", "ending_before", "expand"))
        if params.get("status", "active") not in ("active", "inactive"):
            raise ParamError("Invalid status: must be one of active or inactive", None, "status")
        meters = [
            meter.as_json()
            for meter in reversed(self.ledger.meters.values())
            if params.get("status", meter.status) == meter.status
        ]
        page, more = summaries.page(meters, params)
        return 200, json.dumps({"object": "list", "data": page, "has_more": more, "url": METERS_PATH}).encode(), []

    def _meter(self, id_):
        meter = self.ledger.meter_by_id(id_)
        if meter is None:
            raise Refusal(404, "No such billing meter: '%s'" % id_, code="resource_missing", param="id")
        return meter

    def _get_meter(self, call, id_):
        form.allow(call.params, ("expand",))
        return 200, json.dumps(self._meter(id_).as_json()).encode(), []

    def _list_summaries(self, call, id_):
        meter = self._meter(id_)
        self.stats.summary_reads += 1
        reads = self.stats.summary_reads
        body = summaries.answer(self.ledger, meter, call.params, self.knobs, self.clock.now_ms(), reads)
        return 200, body.encode(), []
