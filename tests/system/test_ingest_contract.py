"""The ingest contract (proto/ingest.md), sentence by sentence: sessions. Lines are in test_ingest_lines.py, what they mean in test_ingest_usage.py."""
import json
import os
import select
import shutil
import signal
import time

import pytest

from harness.lone_collector import Wire

TICK = b'{"n":%d,"boot_ms":%d,"type":"tick"}\n'
BOX = {"team": "t", "project": "p", "vcpus": 2, "mem_mib": 512, "disk_mib": 1024}


def hello(**changes):
    """A hello's bytes, with fields changed, or left out (None)."""
    fields = {"v": 1, "type": "hello", "source": "s", "boot_id": "b", "boot_ms": 0, "wall_ms": 0, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode() + b"\n"


BAD_HELLOS = {
    "version": hello(v=2), "no version": hello(v=None), "no source": hello(source=None), "no boot": hello(boot_id=None), "no time": hello(boot_ms=None),
    "no anchor": hello(wall_ms=None), "reserved name": hello(source="-"), "empty name": hello(source=""), "long name": hello(source="x" * 65),
    "foreign byte": hello(boot_id="a.b"), "extra field": hello(extra=1), "numbered": hello(n=1), "text for number": hello(boot_ms="0"),
    "negative": hello(boot_ms=-1), "fraction": hello(wall_ms=1.5), "null": hello(source=None).replace(b"{", b'{"source":null,'),
    "said twice": hello().replace(b"{", b'{"v":1,'),
    "too long": hello()[:-1] + b" " * 4096 + b"\n",
}
NOT_GREETED = {
    "event": TICK % (1, 1), "empty line": b"\n", "garbage": b"\xff\x00\n", "empty object": b"{}\n", "array": b"[]\n", "text": b"hello\n",
    "unknown type": b'{"type":"hullo","v":1}\n', "refused line": b'{"n":1,"type":"nothing"}\n', "too long": b"x" * 5000 + b"\n",
}


@pytest.mark.parametrize("name", BAD_HELLOS)
def test_a_hello_that_cannot_be_taken_closes_the_session(collector, name):
    wire = collector.connect()
    wire.send(BAD_HELLOS[name] + TICK % (1, 1))
    last = wire.ended()
    assert last["error"] == "bad_hello" and 0 <= last["at"] <= 4096, last


@pytest.mark.parametrize("name", NOT_GREETED)
def test_nothing_but_hello_is_accepted_before_hello(collector, name):
    wire = collector.connect()
    wire.send(NOT_GREETED[name] + hello(source="late"))
    last = wire.ended()
    assert last["error"] == "not_greeted" and 0 <= last["at"] <= 4096, last


def test_an_unknown_source_is_told_so_and_a_known_one_its_last_number(collector):
    wire = collector.connect()
    assert wire.hello("known") == {"ack": 0, "new": True}
    for at in range(3):
        wire.say("tick", at)
    wire.wait_acked()
    assert collector.connect().hello("known") == {"ack": 3}
    assert collector.connect().hello("known", boot_id="other") == {"ack": 0, "new": True}


def test_hello_may_be_in_any_order_with_spaces_and_escapes(collector):
    wire = collector.connect()
    wire.send(b' {"wall_ms" : 0 , "boot_ms":0,\t"boot_id":"b","so\\u0075rce":"\\u0073","type":"hell\\u006f","v":1 } \r\n')
    assert "ack" in wire.answer()


def test_hello_again_by_the_same_source_goes_on_and_another_name_does_no_harm(collector):
    other = collector.greet("victim", boot_id="v1")
    other.say("sandbox.created", 1, sandbox="victim-box", origin="create", create_ms=0, **BOX)
    other.wait_acked()
    wire = collector.greet("again")
    wire.say("tick", 1)
    wire.wait_acked()
    assert wire.hello("again") == {"ack": 1}
    wire.send(hello(source="victim", boot_id="v2"))
    assert wire.ended()["error"] == "bad_hello"
    assert collector.connect().hello("victim", boot_id="v1") == {"ack": 1}, "a refused hello has ended the boot of its source"
    assert not [row for row in collector.rows() if row["kind"] == "end" and row["sandbox"] == "victim-box"]


def test_everything_may_be_written_before_anything_is_read(collector):
    wire, count = collector.connect(), 50_000
    wire.send(hello(source="pipe") + b"".join(TICK % (n, n) for n in range(1, count + 1)))
    assert wire.answer() == {"ack": 0, "new": True}
    answers = 0
    while wire.acked < count:
        answer = wire.answer()
        assert list(answer) == ["ack"] and answer["ack"] > wire.acked
        wire.acked, answers = answer["ack"], answers + 1
    assert answers < count / 10


def test_greetings_may_be_pipelined_too(collector):
    wire, count = collector.connect(), 2000
    wire.send(hello() * count)
    assert all(wire.answer() == {"ack": 0, "new": True} for _ in range(count))


def test_half_a_line_at_the_end_is_no_line(collector):
    wire = collector.greet("half")
    wire.send(TICK % (1, 1) + (TICK % (2, 2))[:-1])
    wire.socket.shutdown(1)
    wire.wait_acked(1)
    assert wire.answer() is None
    assert collector.connect().hello("half") == {"ack": 1}


def test_lines_are_taken_byte_by_byte_and_many_in_one_write(collector):
    wire = collector.greet("bytes")
    for byte in TICK % (1, 1):
        wire.send(bytes([byte]))
    wire.send(TICK % (2, 2) + (TICK % (3, 3))[:9])
    wire.wait_acked(2)
    wire.send((TICK % (3, 3))[9:])
    wire.wait_acked(3)


def test_numbers_that_were_taken_are_answered_with_the_ack_and_change_nothing(collector):
    wire = collector.greet("twice")
    wire.say("sandbox.created", 1, sandbox="twice", origin="create", create_ms=0, **BOX)
    wire.say("tick", 10)
    wire.wait_acked()
    before = collector.rows()
    for line in (TICK % (1, 99), b'{"n":2,"boot_ms":50,"type":"sandbox.destroyed","sandbox":"twice","reason":"api"}\n', b'{"n":1,"nonsense\n'):
        wire.send(line)
        assert wire.answer() == {"ack": 2}
    assert [row for row in collector.rows() if row["kind"] != "batch"] == [row for row in before if row["kind"] != "batch"]
    wire.n = 2
    wire.say("tick", 11)
    wire.wait_acked()
    assert not wire.rejects


def test_a_session_that_is_closed_ends_and_is_not_reset(collector):
    for lines, code in ((TICK % (1, 1) * 3000, "not_greeted"), (hello(source="-") + TICK % (1, 1) * 3000, "bad_hello"), (hello() + TICK % (1, 1) + TICK % (3, 3) * 3000, "number_gap")):
        collector.process.signal(signal.SIGSTOP)  # all of it waits unread, more than one read takes
        wire = collector.connect()
        wire.send(lines)
        collector.process.signal(signal.SIGCONT)
        said = b"".join(iter(lambda: wire.socket.recv(65536), b""))
        assert code.encode() in said.splitlines()[-1]


@pytest.mark.parametrize("hole", [b'{"n":4,"boot_ms":9,"type":"tick"}\n', b'{"n":9007199254740991,"boot_ms":9,"type":"tick"}\n', b'{"n":4,"what\n'])
def test_a_hole_in_the_numbers_closes_the_session_and_takes_nothing(collector, hole):
    source = "hole%d" % len(hole)
    wire = collector.greet(source)
    wire.send(TICK % (1, 1) + TICK % (2, 2))
    wire.wait_acked(2)
    wire.send(hole + TICK % (3, 3))
    last = wire.ended()
    assert last["error"] == "number_gap" and hole[last["at"]:last["at"] + 1].isdigit() or b"what" in hole, last
    again = collector.connect()
    assert again.hello(source) == {"ack": 2}
    again.say("tick", 3)
    again.wait_acked()


def test_a_second_session_of_a_source_takes_over(collector):
    first = collector.greet("taken")
    first.say("tick", 1)
    first.wait_acked()
    second = collector.connect()
    assert second.hello("taken") == {"ack": 1}
    assert first.ended() is None
    second.say("tick", 2)
    second.wait_acked()


def test_a_taken_over_session_that_still_writes_does_no_harm(collector):
    first = collector.greet("over")
    first.send(b"".join(TICK % (n, n) for n in range(1, 2001)))
    second = collector.greet("over")
    try:
        first.send(TICK % (2001, 2001) + TICK % (2002, 2002))
    except OSError:
        pass
    for n in range(second.acked + 1, 2011):
        second.send(TICK % (n, n))
    second.wait_acked(2010)
    assert not second.rejects


def test_refusals_are_told_to_who_says_the_lines_again(make_collector):
    collector = make_collector(seal_interval="500ms")
    wire = collector.greet("again")
    for _ in range(3):  # each session says everything, and is gone before the first is durable
        wire.send(b"".join(b'{"n":%d,"boot_ms":1,"type":"%s"}\n' % (n, b"tick" if n % 3 else b"tock") for n in range(wire.acked + 1, 301)))
        wire.close()
        wire = collector.greet("again")
    first = wire.acked + 1
    wire.send(b"".join(b'{"n":%d,"boot_ms":1,"type":"%s"}\n' % (n, b"tick" if n % 3 else b"tock") for n in range(first, 301)))
    wire.wait_acked(300)
    told = {n: answer["error"] for n, answer in wire.rejects.items()}
    assert told == {n: "unknown_type" for n in range(first, 301) if n % 3 == 0}


def test_a_new_source_may_begin_late_and_the_missing_numbers_are_a_named_gap(collector):
    wire = collector.greet("gap", wall_ms=1_700_000_000_000)
    before = collector.metric("missing_numbers_total")
    wire.send(TICK % (41, 7) + TICK % (42, 8))
    wire.wait_acked(42)
    gaps = [(row["first_n"], row["last_n"]) for row in collector.rows() if row["kind"] == "gap"]
    assert (1, 40) in gaps
    deadline = time.monotonic() + 5
    while collector.metric("missing_numbers_total") != before + 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert collector.metric("missing_numbers_total") == before + 40


def test_sixteen_sources_and_no_more(make_collector):
    collector = make_collector()
    wires = [collector.greet("source-%d" % i) for i in range(16)]
    assert (last := collector.connect().hello("source-16"))["error"] == "bad_hello", last
    for wire in wires:
        wire.say("tick", 1)
        wire.wait_acked()
    assert collector.connect().hello("source-3") == {"ack": 1}
    assert collector.connect().hello("source-4", boot_id="next") == {"ack": 0, "new": True}


def test_reading_stops_at_unread_refusals_and_goes_on_when_they_are_taken(collector):
    wire, written, n = collector.greet("mute"), 0, 0
    wire.socket.setblocking(False)
    pending = b""
    while n < 200_000:
        if not pending:
            n += 1
            pending = b'{"n":%d,"boot_ms":1,"type":"nothing"}\n' % n
        try:
            sent = wire.socket.send(pending)
            pending, written = pending[sent:], written + sent
        except BlockingIOError:
            if not select.select([], [wire.socket], [], 1)[1]:
                break
    assert 1024 < n < 200_000, "it reads without end"
    wire.socket.setblocking(True)
    wire.socket.settimeout(10)
    other = collector.greet("talker")  # nobody else waits for it
    other.say("tick", 1)
    other.wait_acked()
    first = wire.answer()
    wire.rejects[first["reject"]] = first
    while len(wire.rejects) < 1500:  # room for the rest of the line
        answer = wire.answer()
        if "reject" in answer:
            wire.rejects[answer["reject"]] = answer
    wire.send(pending)
    wire.wait_acked(n)
    assert sorted(wire.rejects) == list(range(1, n + 1)) and {r["error"] for r in wire.rejects.values()} == {"unknown_type"}


def test_a_client_that_stops_writing_is_answered_to_the_end(collector):
    wire = collector.connect()
    wire.send(hello(source="half") + b"".join(TICK % (n, n) for n in range(1, 101)) + b'{"n":101,"boot_ms":1}\n')
    wire.socket.shutdown(1)
    assert wire.answer() == {"ack": 0, "new": True}
    wire.wait_acked(101)
    assert list(wire.rejects) == [101] and wire.answer() is None


def test_a_client_that_stops_writing_gets_all_refusals_when_it_reads_them(collector):
    wire, count = collector.connect(), 5000
    wire.send(hello() + b"".join(b'{"n":%d}\n' % n for n in range(1, count + 1)))
    wire.socket.shutdown(1)
    time.sleep(0.3)
    assert wire.answer() == {"ack": 0, "new": True}
    wire.wait_acked(count)
    assert sorted(wire.rejects) == list(range(1, count + 1)) and wire.answer() is None


def test_kill_between_send_and_ack_loses_nothing_and_doubles_nothing(make_collector):
    collector, n = make_collector(), 0
    for round_ in range(5):
        wire = collector.connect()
        answer = wire.hello("killed")
        assert round_ == 0 or answer["ack"] <= n
        n = answer["ack"]
        batch = range(n + 1, n + 4001)
        wire.send(b"".join(b'{"n":%d,"boot_ms":%d,"type":"api.called","team":"t","operation":"other","status":200}\n' % (i, i) for i in batch))
        wire.wait_acked(n + 1 + round_ * 700)
        acked, n = wire.acked, n + 4000
        collector.kill()
        collector.start()
        again = collector.connect()
        assert (resumed := again.hello("killed"))["ack"] >= acked, resumed
        again.close()
    wire = collector.greet("killed")
    while wire.n < n:
        wire.say("api.called", wire.n + 1, team="t", operation="other", status=200)
    wire.wait_acked()
    calls = [row["at"] for row in collector.rows() if row["kind"] == "api_call"]
    assert len(calls) == len(set(calls)) == n


def test_a_restart_keeps_numbers_sandboxes_and_anchor(make_collector):
    collector = make_collector()
    wire = collector.greet("kept", wall_ms=60_000)
    wire.say("sandbox.created", 1_000, sandbox="kept", origin="create", create_ms=0, **BOX)
    wire.wait_acked()
    collector.stop()
    collector.start()
    wire = collector.connect()
    assert wire.hello("kept", boot_ms=5_000, wall_ms=99_000) == {"ack": 1}  # a later anchor is ignored
    wire.say("sandbox.destroyed", 31_000, sandbox="kept", reason="api")
    wire.wait_acked()
    slices = [row for row in collector.rows() if row["kind"] == "slice"]
    assert sum(row["length_ms"] for row in slices) == 30_000 and min(row["start"] for row in slices).startswith("1970-01-01T00:01:01")


def test_a_lost_spool_is_a_new_beginning_with_a_gap(make_collector):
    collector = make_collector()
    wire = collector.greet("lost")
    for at in range(1, 6):
        wire.say("tick", at)
    wire.say("sandbox.created", 6, sandbox="old", origin="create", create_ms=0, **BOX)
    wire.wait_acked()
    epoch = collector.rows()[0]["epoch"]
    collector.kill()
    shutil.rmtree(collector.spool)
    os.mkdir(collector.spool)
    collector.start()
    wire = collector.connect()
    assert wire.hello("lost") == {"ack": 0, "new": True}
    wire.n = 6
    wire.say("sandbox.usage", 8, sandbox="old", cpu_us=500)
    adopted = wire.say("sandbox.adopted", 10, sandbox="old", running=True, **BOX)
    wire.say("sandbox.usage", 20, sandbox="old", cpu_us=700)
    wire.say("sandbox.usage", 30, sandbox="old", cpu_us=750)
    wire.wait_acked()
    assert {n: r["error"] for n, r in wire.rejects.items()} == {7: "unknown_sandbox"} and adopted["n"] == 8
    rows = collector.rows()
    assert [(row["first_n"], row["last_n"]) for row in rows if row["kind"] == "gap"] == [(1, 6)]
    assert rows[0]["epoch"] > epoch
    assert sum(row["cpu_us"] for row in rows if row["kind"] == "slice") == 50
    assert sum(row["length_ms"] for row in rows if row["kind"] == "slice") == 20


def test_a_connection_that_says_nothing_holds_nobody_up(collector):
    silent = [Wire(collector.path) for _ in range(10)]
    wire = collector.greet("loud")
    wire.say("tick", 1)
    wire.wait_acked()
    for one in silent:
        one.close()
