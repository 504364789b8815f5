"""The ingest contract (proto/ingest.md): what a line may be. Every code, every field's edges, where the byte is that was wrong, and no trace of it."""
import collections
import json
import random
import re

import pytest

from harness.process import wait_for

MAX = 2**53 - 1
NAME = "a" * 64
CANARY = "canary5b81c7"
CREATED = {"sandbox": "box", "team": "t", "project": "p", "vcpus": 1, "mem_mib": 1, "disk_mib": 0, "origin": "create", "create_ms": 0}
ADOPTED = {**{name: value for name, value in CREATED.items() if name not in ("origin", "create_ms")}, "running": True}
USAGE = {"sandbox": "live", "cpu_us": 0, "net_rx_bytes": 0, "net_tx_bytes": 0, "io_read_bytes": 0, "io_write_bytes": 0, "mem_bytes": 0}
OPERATIONS = ["sandbox.create", "sandbox.fork", "sandbox.get", "sandbox.list", "sandbox.exec", "sandbox.hibernate", "sandbox.resume", "sandbox.destroy",
              "snapshot.create", "snapshot.restore", "snapshot.delete", "file.read", "file.write", "other"]
EVENTS = {  # type: (a good event's fields, the optional ones among them)
    "sandbox.created": ({**CREATED, "cgroup": "a/b.slice", "tap": "tap0"}, ("cgroup", "tap")),
    "sandbox.adopted": ({**ADOPTED, "cgroup": "a", "tap": "t"}, ("cgroup", "tap")),
    "sandbox.usage": (USAGE, tuple(USAGE)[1:]),
    "sandbox.hibernated": ({"sandbox": "live"}, ()),
    "sandbox.resumed": ({"sandbox": "asleep", "create_ms": 5}, ("create_ms",)),
    "sandbox.destroyed": ({**USAGE, "reason": "api", "mem_peak_bytes": 0}, (*tuple(USAGE)[1:], "mem_peak_bytes")),
    "exec.exited": ({"sandbox": "live", "exit_code": 0, "duration_ms": 0}, ()),
    "api.called": ({"team": "t", "project": "p", "operation": "other", "status": 200}, ("project",)),
    "runner.capacity": ({"vcpus_total": 1, "mem_mib_total": 1, "disk_mib_total": 1, "warm": 0}, ()),
    "tick": ({}, ()),
}
RANGES = {
    "vcpus": (1, 1024), "mem_mib": (1, 16777216), "disk_mib": (0, 1073741824), "create_ms": (0, 86400000), "cpu_us": (0, MAX), "net_rx_bytes": (0, MAX),
    "net_tx_bytes": (0, MAX), "io_read_bytes": (0, MAX), "io_write_bytes": (0, MAX), "mem_bytes": (0, MAX), "mem_peak_bytes": (0, MAX),
    "exit_code": (0, 255), "status": (100, 599), "duration_ms": (0, MAX), "vcpus_total": (0, MAX), "mem_mib_total": (0, MAX), "disk_mib_total": (0, MAX),
    "warm": (0, MAX),
}
WORDS = {"origin": ["create", "fork", "restore"], "reason": ["api", "timeout", "oom", "crash", "host"], "operation": OPERATIONS}
IDS = ("sandbox", "team", "project")
BAD_IDS = ["", "-", NAME + "a", "a b", "a.b", "a/b", "a:b", "\u00e4", "a\u0000", "a\n", "\ud83d\ude00", "'", "a" * 3000]
# ^ stands before the byte that `at` must name
TEXTS = [
    ("malformed", b'^'), ("malformed", b'^\x00'), ("malformed", b'^garbage'), ("malformed", b'^[1]'), ("malformed", b'^"x"'), ("malformed", b'^7'), ("malformed", b'^null'),
    ("malformed", b'^\xef\xbb\xbf{"n":$N,"boot_ms":1,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":"tick"^'), ("malformed", b'{"n":$N,"boot_ms":1,"type":"tick"} ^x'), ("malformed", b'{"n":$N,"boot_ms":1,"type":"tick"}^}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":"tick"}^,'), ("malformed", b'{"n":$N,"boot_ms":1,"type":"tick"}^{}'), ("malformed", b'{"n":$N,"boot_ms":1,^}'),
    ("malformed", b'{"n":$N,"boot_ms":1,^,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":1 ^"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms"^ 1,"type":"tick"}'.replace(b"^ ", b" ^")),
    ("malformed", b'{"n":$N,^boot_ms:1,"type":"tick"}'), ("malformed", b"{\"n\":$N,^'boot_ms':1}"), ("malformed", b'{"n":$N,"boot_ms":^01,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":^+1,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^1x,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^-,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":^1.,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^1e,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^.5,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":^0x10,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^NaN,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^True,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":^,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^truex,"type":"tick"}'), ("malformed", b'{"n":$N,"boot_ms":^1\x00,"type":"tick"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":^"ti\x00ck"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"ti\x01ck"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"ti\tck"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":^"tick}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\\x74ick"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\\u12g4"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\\ud800"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\\udc00\\ud800"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\xff"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\xc0\xaf"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\xed\xa0\x80"}'), ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\xf4\x90\x80\x80"}'),
    ("malformed", b'{"n":$N,"boot_ms":1,"type":^"\xe2\x82"}'), ("malformed", b'{"n":$N,"boot_ms":1,^"\x80":1}'),
    ("bad_type", b'{"n":$N,"boot_ms":^1.0,"type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":^1e3,"type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":^1E+0,"type":"tick"}'),
    ("bad_type", b'{"n":$N,"boot_ms":^"1","type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":^null,"type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":^true,"type":"tick"}'),
    ("bad_type", b'{"n":$N,"boot_ms":^[1],"type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":^{},"type":"tick"}'), ("bad_type", b'{"n":$N,"boot_ms":1,"type":^7}'),
    ("bad_type", b'{"n":$N,"boot_ms":1,"type":^null}'), ("bad_type", b'{"n":$N,"boot_ms":1,"type":^["tick"]}'), ("bad_type", b'{"n":^$N.0,"boot_ms":1,"type":"tick"}'),
    ("bad_type", b'{"n":^"$N","boot_ms":1,"type":"tick"}'),
    ("out_of_range", b'{"n":$N,"boot_ms":^-1,"type":"tick"}'), ("out_of_range", b'{"n":$N,"boot_ms":^-0,"type":"tick"}'),
    ("out_of_range", b'{"n":$N,"boot_ms":^9007199254740992,"type":"tick"}'), ("out_of_range", b'{"n":$N,"boot_ms":^18446744073709551617,"type":"tick"}'),
    ("out_of_range", b'{"n":$N,"boot_ms":^' + b"9" * 400 + b',"type":"tick"}'), ("out_of_range", b'{"n":^-1,"boot_ms":1,"type":"tick"}'),
    ("out_of_range", b'{"n":^9007199254740992,"boot_ms":1,"type":"tick"}'), ("out_of_range", b'{"n":$N,"boot_ms":^9007199254740991,"type":"tick"}'),
    ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"x":1}'), ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"":1}'),
    ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"N":1}'), ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"n\\u0000":1}'),
    ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"sandbox":"live"}'), ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"v":1}'),
    ("unknown_field", b'{^"sandbox":"live","n":$N,"boot_ms":1,"type":"tick"}'), ("unknown_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"x":{"deep":[1,2,{"n":9}]}}'),
    ("duplicate_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"n":$N}'), ("duplicate_field", b'{"n":$N,"boot_ms":1,"type":"tick",^"type":"tick"}'),
    ("duplicate_field", b'{"n":$N,"boot_ms":1,^"boot_\\u006ds":1,"type":"tick"}'),
    ("missing_field", b'{"n":$N,"boot_ms":1^}'), ("missing_field", b'{"n":$N,"type":"tick"^}'), ("missing_field", b'{"boot_ms":1,"type":"tick"^}'), ("missing_field", b'{^}'),
    ("unknown_type", b'{"n":$N,"boot_ms":1,"type":^""}'), ("unknown_type", b'{"n":$N,"boot_ms":1,"type":^"Tick"}'), ("unknown_type", b'{"n":$N,"boot_ms":1,"type":^"tick "}'),
    ("unknown_type", b'{"n":$N,"boot_ms":1,"type":^"tick\\u0000"}'), ("unknown_type", b'{"n":$N,"type":^"sandbox.forked"}'),
    ("unknown_type", '{"n":$N,"boot_ms":1,"type":^"\u00fc\u20ac\U0001f600"}'.encode()),
]
GOOD = [
    b'{"n":$N,"boot_ms":1,"type":"tick"}', b'{"n":$N,"boot_ms":1,"type":"tick"}\r', b' \t{ "type" : "tick" ,\t"n" : $N , "boot_ms" : 1 } \r', b'{"boot_ms":1,"type":"tick","n":$N}',
    b'{"\\u006e":$N,"boot\\u005Fms":1,"type":"t\\u0069ck"}', b'{"n":$N,"boot_ms":1,"type":"tick"}'.ljust(4095), b'{"n":$N,"boot_ms":1,"type":"tick"' + b" " * 4000 + b"}",
    b'{"n":$N,"boot_ms":1,"type":"api.called","team":"\\u0074","operation":"snapshot\\u002edelete","status":599}',
    b'{"n":$N,"boot_ms":1,"type":"api.called","operation":"sandbox.create","status":100,"team":"_"}',
    b'{"n":$N,"boot_ms":1,"type":"api.called","operation":"file.write","status":200,"team":"--","project":"-_-"}',
]


def text_of(event, **changes):
    """An event's line with one of its values replaced by what is not a Python value's usual text, or left out."""
    return json.dumps({name: value for name, value in {**event, **changes}.items() if value is not None}, ensure_ascii=True).encode()


class Lines:
    """A session that keeps the lines' order, and what each must be answered."""

    def __init__(self, collector):
        self.collector, self.wire, self.expected = collector, collector.greet("lines"), {}
        for sandbox in ("live", "asleep"):
            self.good({"type": "sandbox.created", **CREATED, "sandbox": sandbox})
        self.good({"type": "sandbox.hibernated", "sandbox": "asleep"})

    def line(self, text):
        """One line under the next number ($N)."""
        self.wire.n += 1
        self.wire.send(text.replace(b"$N", b"%d" % self.wire.n) + b"\n")

    def good(self, event):
        """A line that must be taken."""
        self.line(text_of({"n": self.wire.n + 1, "boot_ms": 1, **event}))

    def bad(self, code, text):
        """A line that must be refused with this code, at the byte behind ^."""
        text = text.replace(b"$N", b"%d" % (self.wire.n + 1))
        self.expected[self.wire.n + 1] = (code, text.index(b"^"), text)
        self.line(text.replace(b"^", b"", 1))

    def bad_value(self, kind, code, field, value):
        """A good event whose field has a value that must be refused."""
        event = text_of({"n": self.wire.n + 1, "boot_ms": 1, "type": kind, **EVENTS[kind][0]}, **{field: "^VALUE"})
        before, _, after = event.partition(b'"^VALUE"')
        self.bad(code, before + b"^" + value + after)

    def check(self):
        """All answers are as they must be, and refused lines changed nothing but the count."""
        self.wire.wait_acked()
        for n, (code, at, text) in self.expected.items():
            assert self.wire.rejects.get(n) == {"reject": n, "error": code, "at": at}, (text, self.wire.rejects.get(n))
        assert set(self.wire.rejects) == set(self.expected), {n: self.wire.rejects[n] for n in set(self.wire.rejects) - set(self.expected)}
        batch = [row for row in self.collector.rows() if row["kind"] == "batch"][-1]
        assert batch["totals"]["events"] == self.wire.n - len(self.expected) and batch["totals"]["refused"] == len(self.expected)


@pytest.fixture
def lines(collector):
    """A greeted session; whatever was said is checked at the end by the test."""
    return Lines(collector)


def test_texts_that_are_no_event_are_refused_with_code_and_byte(lines):
    for code, text in TEXTS:
        lines.bad(code, text)
        lines.good({"type": "tick"})
    lines.check()
    codes = collections.Counter(code for code, _ in TEXTS)
    wait_for("the counters", lambda: lines.collector.metric("lines_refused_total") == len(TEXTS), 5)
    metrics = lines.collector.metrics()
    assert {code: metrics['sandglass_collector_refused_total{code="%s"}' % code] for code in codes} == codes


def test_texts_that_look_odd_but_are_right_are_taken(lines):
    for text in GOOD:
        lines.line(text)
    lines.check()


def test_a_line_of_4096_bytes_is_taken_and_a_longer_one_is_skipped_to_its_end(lines):
    for extra in (0, 1, 4096, 5000, 100_000):
        lines.line(b'{"n":$N,"boot_ms":1,"type":"tick"}'.ljust(4095 - extra % 2))
        text = b'{"n":%d,"boot_ms":1,"type":"tick"}' % (lines.wire.n + 1)
        lines.expected[lines.wire.n + 1] = ("too_long", 4096, extra)
        lines.line(text.ljust(4096 + extra))
    lines.check()


@pytest.mark.parametrize("kind", EVENTS)
def test_every_field_is_needed_or_optional_and_is_taken_between_its_edges_only(lines, kind):
    fields, optional = EVENTS[kind]
    event = {"boot_ms": 1, "type": kind, **fields}
    for field in fields:
        if field not in optional:
            lines.bad("missing_field", text_of({"n": lines.wire.n + 1, **event}, **{field: None})[:-1] + b"^}")
        lines.bad("duplicate_field", text_of({"n": lines.wire.n + 1, **event})[:-1] + b', ^"%s":1}' % field.encode())
        for value in (b"null", b"[]", b"{}", b'{"n":3}', b"1.5", b"false" if field != "running" else b"0"):
            lines.bad_value(kind, "bad_type", field, value)
        if field in RANGES:
            low, high = RANGES[field]
            for value in (low - 1, high + 1, -high, 2**63, 2**64 + low, 10**30):
                lines.bad_value(kind, "out_of_range", field, b"%d" % value)
            lines.bad_value(kind, "bad_type", field, b'"%d"' % low)
        if field in WORDS:
            for value in (b'""', b'"-"', b'"%s "' % WORDS[field][0].encode(), b'"%s"' % WORDS[field][0].upper().encode(), b'"\\u0000"'):
                lines.bad_value(kind, "out_of_range", field, value)
        if field in IDS:
            for value in BAD_IDS:
                lines.bad_value(kind, "bad_identifier", field, json.dumps(value).encode())
        if field == "cgroup":
            for value in ("", "a" * 201, "a..b", "..", "../a", "a/..", "a b", "a\\b", "a\u0000", "\u00e4", "a*"):
                lines.bad_value(kind, "bad_identifier", field, json.dumps(value).encode())
        if field == "tap":
            for value in ("", "a" * 16, "a/b", "a b", "..", ".", "\u00e4"):
                lines.bad_value(kind, "bad_identifier", field, json.dumps(value).encode())
    lines.check()


def test_every_field_is_taken_at_its_edges(lines):
    number = 0
    for kind, (fields, optional) in EVENTS.items():
        variants = [{field: None} for field in optional] + [dict.fromkeys(optional)]
        variants += [{field: value} for field in fields for value in (*RANGES.get(field, ()), *WORDS.get(field, ()))]
        variants += [{field: value} for field in ("team", "project") if field in fields for value in ("a", "_", "--", "-a", NAME, "0")]
        variants += [{"cgroup": value} for value in ("a" * 200, "/", "a.b", ".a/./b", "x:y@z-_", "@")] if "cgroup" in fields else []
        variants += [{"tap": value} for value in ("a" * 15, "a", "tap-0", "a.b")] if "tap" in fields else []
        for variant in variants:
            sandbox, event = {}, {name: value for name, value in {"type": kind, **fields, **variant}.items() if value is not None}
            if "sandbox" in fields:
                sandbox = {"sandbox": "%s%d" % ("s" * (1 if number % 2 else 58), number)}
                number += 1
            if kind not in ("sandbox.created", "sandbox.adopted") and sandbox:
                lines.good({"type": "sandbox.created", **CREATED, **sandbox})
            if kind == "sandbox.resumed":
                lines.good({"type": "sandbox.hibernated", **sandbox})
            lines.good({**event, **sandbox})
    lines.check()


def test_events_that_do_not_fit_what_was_said_are_refused(lines):
    other = lines.collector.greet("other")
    other.say("sandbox.created", 50, **{**CREATED, "sandbox": "theirs"})
    other.wait_acked()
    event = '{"n":$N,"boot_ms":%d,"type":"%s","sandbox":"%s"%s}'

    def bad(code, at, kind, sandbox, more="", boot_ms=1):
        text = event % (boot_ms, kind, sandbox, more)
        where = {"sandbox": '"sandbox":', "type": '"type":', "boot_ms": '"boot_ms":'}[at]
        lines.bad(code, text.replace(where, where + "^", 1).encode())

    created = ',"team":"t","project":"p","vcpus":1,"mem_mib":1,"disk_mib":0'
    for sandbox in ("nobody", "theirs", "Live"):
        for kind, more in (("sandbox.usage", ',"cpu_us":9'), ("sandbox.hibernated", ""), ("sandbox.resumed", ""), ("sandbox.destroyed", ',"reason":"api"'),
                           ("exec.exited", ',"exit_code":0,"duration_ms":1')):
            bad("unknown_sandbox", "sandbox", kind, sandbox, more)
    for sandbox in ("live", "asleep", "theirs"):
        bad("duplicate_sandbox", "sandbox", "sandbox.created", sandbox, created + ',"origin":"fork","create_ms":1')
        bad("duplicate_sandbox", "sandbox", "sandbox.adopted", sandbox, created + ',"running":false')
    bad("bad_state", "type", "sandbox.resumed", "live")
    bad("bad_state", "type", "sandbox.hibernated", "asleep")
    lines.line(b'{"n":$N,"boot_ms":100,"type":"tick"}')
    for kind, sandbox in (("sandbox.hibernated", "live"), ("sandbox.resumed", "asleep"), ("sandbox.usage", "nobody")):
        bad("time_went_back", "boot_ms", kind, sandbox, boot_ms=99)
    bad("unknown_sandbox", "sandbox", "sandbox.usage", "nobody", boot_ms=900)  # moves no time
    bad("bad_state", "type", "sandbox.resumed", "live", boot_ms=900)
    lines.line(b'{"n":$N,"boot_ms":100,"type":"sandbox.destroyed","sandbox":"live","reason":"oom"}')
    bad("unknown_sandbox", "sandbox", "sandbox.destroyed", "live", ',"reason":"oom"', boot_ms=100)
    lines.line(b'{"n":$N,"boot_ms":100,"type":"sandbox.created","sandbox":"live"%s,"origin":"restore","create_ms":0}' % created.encode())
    lines.wire.wait_acked()
    assert {n: r["error"] for n, r in lines.wire.rejects.items()} == {n: code for n, (code, _, _) in lines.expected.items()}
    for n, (_, at, text) in lines.expected.items():
        assert lines.wire.rejects[n]["at"] == at, text


def test_the_table_of_sandboxes_has_an_end(make_collector):
    wire = make_collector(sandboxes_max=3).greet()
    for i in range(5):
        wire.say("sandbox.created", 1, **{**CREATED, "sandbox": "b%d" % i})
    wire.say("sandbox.destroyed", 2, sandbox="b0", reason="api")
    wire.say("sandbox.created", 2, **{**CREATED, "sandbox": "b3"})
    wire.wait_acked()
    assert {n: r["error"] for n, r in wire.rejects.items()} == {4: "table_full", 5: "table_full"}


def canary_lines():
    """The canary in every kind of refused input."""
    text = CANARY.encode()
    yield from (text, b'"' + text, b"{" + text, b'{"n":$N,"boot_ms":1,"type":"tick"}' + text, b'{"n":$N,"' + text + b'":1}', b'{"n":$N,"type":"' + text + b'"}',
                b'{"n":$N,"boot_ms":"' + text + b'"}', b'{"n":$N,"boot_ms":' + text + b'}', b'{"n":$N,"boot_ms":["' + text + b'"]}', b'{"n":"' + text + b'"}',
                b'{"n":$N,"boot_ms":1,"type":"tick","sandbox":"' + text + b'"}', b'\xff' + text, b'\x00' + text, b'{"n":$N,"\xff' + text + b'":1}', text * 1000,
                b'{"n":$N,"boot_ms":1,"type":"sandbox.hibernated","sandbox":"' + text + b'"}',
                b'{"n":$N,"boot_ms":0,"type":"tick","type":"' + text + b'"}', b'{"n":$N,"boot_ms":1,"type":"tick","' + text * 400 + b'":"')
    for kind, (fields, _) in EVENTS.items():
        for field in fields:
            for value in (CANARY + " ", [CANARY], {CANARY: 1}, CANARY * 20):
                yield text_of({"n": "$N", "boot_ms": 1, "type": kind, **fields, field: value}).replace(b'"$N"', b"$N")
            yield text_of({"n": "$N", "boot_ms": 1, "type": kind, **fields, CANARY: 1}).replace(b'"$N"', b"$N")


def test_no_trace_of_refused_input_is_found_anywhere(make_collector):
    collector = make_collector(log_level="debug")
    wire = collector.greet("quiet")
    for text in canary_lines():
        wire.n += 1
        wire.send(text.replace(b"$N", b"%d" % wire.n) + b"\n")
    wire.wait_acked()
    assert len(wire.rejects) == wire.n
    said = repr(wire.rejects)
    for field, value in (("source", CANARY + "!"), ("boot_id", [CANARY]), ("v", CANARY), (CANARY, 1), ("boot_ms", CANARY)):
        other = collector.connect()
        other.send(text_of({"v": 1, "type": "hello", "source": "s", "boot_id": "b", "boot_ms": 0, "wall_ms": 0, field: value}) + b"\n")
        said += repr(other.ended())
    for text in (CANARY, '{"n":1,"boot_ms":1,"type":"%s"}' % CANARY, '{"n":1,"boot_ms":1,"type":"tick","%s":1}' % CANARY):
        other = collector.connect()
        other.send(text.encode() + b"\n")
        said += repr(other.ended())
    wire.send(b'{"n":%d,"boot_ms":1,"type":"%s"}\n' % (wire.n + 2, CANARY.encode()))
    said += repr(wire.ended())
    assert CANARY not in said
    found = [where for where, content in collector.everything() if CANARY.encode() in content]
    collector.stop()
    found += [where for where, content in collector.everything() if CANARY.encode() in content]
    assert not found, found


# ---- against another reader of JSON ----

def refuse(*_):
    """A hook for what the contract does not have."""
    raise ValueError


def whole(text):
    """An integer as the contract has it."""
    return refuse() if text.startswith("-") else int(text)


def unique(pairs):
    """An object whose keys differ, all of it without lone surrogates."""
    str(pairs).encode()
    return dict(pairs) if len(dict(pairs)) == len(pairs) else refuse()


def accepted(text, newest_ms):
    """The event, when Python's reader and the tables above take the line (of a type that needs no state but a live sandbox); else None."""
    try:
        event = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_int=whole, parse_float=refuse, parse_constant=refuse)
        kind = event.pop("type")
        fields, optional = EVENTS[kind]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not set(fields) - set(optional) <= set(event) - {"n", "boot_ms"} <= set(fields) or not {"n", "boot_ms"} <= set(event):
        return None
    for field, value in event.items():
        low, high = {**RANGES, "n": (1, MAX), "boot_ms": (newest_ms, 253_402_300_799_999)}.get(field, (0, 0))
        if field in WORDS:
            good = value in WORDS[field]
        elif field in IDS:
            good = isinstance(value, str) and re.fullmatch("[A-Za-z0-9_-]{1,64}", value, re.A) and value != "-" and (field != "sandbox" or value == "live")
        else:
            good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if not good:
            return None
    return event


def test_mutated_lines_are_taken_just_when_another_reader_takes_them(lines):
    rng, taken, newest_ms = random.Random(7), 0, 1
    lines.good({"type": "sandbox.hibernated", "sandbox": "live"})  # a mutated time may lie centuries ahead
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\x00", b"\x7f", b"\x80", b"\xc3\xa4", b"\xf0\x9f\x98\x80", b"0", b"1", b"-", b".", b"e5", b"\\u0041",
              b"\\u00e4", b"\\n", b"\\/", b"null", b"true", b"-0", b"00", b"9007199254740991", b"9007199254740992", b'"x":1,', b'"boot_ms":1,', b"a", b"_", b"\xef\xbb\xbf"]
    for _ in range(6000):
        kind = rng.choice(("sandbox.usage", "exec.exited", "api.called", "runner.capacity", "tick"))
        text = bytearray(text_of({"boot_ms": newest_ms, "type": kind, **EVENTS[kind][0]}, **{field: rng.choice(RANGES[field]) for field in EVENTS[kind][0] if field in RANGES})[1:])
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            at, end = sorted((rng.randrange(len(text) + 1), min(len(text), rng.randrange(len(text) + 1))))
            text[at:min(end, at + 3) if rng.random() < 0.6 else at] = rng.choice(pieces) if rng.random() < 0.8 else bytes([rng.randrange(256)]).replace(b"\n", b"")
        text = b'{"n":%d,' % (lines.wire.n + 1) + bytes(text)
        event = accepted(text, newest_ms)
        if event is not None:
            taken, newest_ms = taken + 1, event["boot_ms"]
        else:
            lines.expected[lines.wire.n + 1] = text
        lines.line(text)
        if lines.wire.n % 500 == 0:
            lines.wire.wait_acked()
    lines.wire.wait_acked()
    wrong = {n: (lines.wire.rejects.get(n), lines.expected.get(n)) for n in set(lines.wire.rejects) ^ set(lines.expected)}
    assert not wrong, wrong
    assert 500 < taken < 5500
