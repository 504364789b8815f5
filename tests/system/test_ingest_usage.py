"""The ingest contract (proto/ingest.md): what accepted events mean, to the unit, against arithmetic of the test's own; with both clocks."""
import random
import time

import pytest

from harness.lone_collector import MINUTE_MS, Books, cells_of, ms_of
from harness.process import wait_for

WALL = 1_772_323_200_000  # 2026-03-01T00:00:00Z
BOX = {"team": "t", "project": "p", "vcpus": 3, "mem_mib": 700, "disk_mib": 11}
CREATED = {**BOX, "origin": "create", "create_ms": 5}


class Told:
    """A source, and the books of what it said."""

    def __init__(self, collector, source="s", boot_id="b", boot_ms=0, wall_ms=WALL):
        self.collector, self.wire, self.books = collector, collector.greet(source, boot_id, boot_ms, wall_ms), Books(boot_ms, wall_ms)

    def say(self, kind, boot_ms, **fields):
        """One event that must be accepted."""
        self.books.take(self.wire.say(kind, boot_ms, **fields))

    def check(self, *others):
        """What is on disk is what the books say."""
        self.wire.wait_acked()
        assert not self.wire.rejects, self.wire.rejects
        expected = self.books.end()
        for other in others:
            other.wire.wait_acked()
            expected = expected + (other.books if isinstance(other, Told) else other).end()
        rows = self.collector.rows()
        found = cells_of(rows)
        assert found == expected, (found - expected, expected - found)
        totals = [row for row in rows if row["kind"] == "batch"][-1]["totals"]
        sums = {name: sum(v for key, v in expected.items() if key[3] == name) for name in ("vcpu_ms", "mem_mib_ms", "disk_mib_ms", "running_ms")}
        assert {name: totals[name] for name in sums} == sums
        return rows


@pytest.fixture
def told(collector):
    """A source of a collector with clock = event."""
    return Told(collector)


@pytest.mark.parametrize("begin,length", [(0, 1), (0, 60_000), (59_999, 1), (59_999, 2), (30_000, 30_000), (30_000, 30_001), (1, 3_600_000), (12_345, 7_654_321)])
def test_a_life_is_billed_to_the_millisecond_and_split_at_minutes(told, begin, length):
    told.say("sandbox.created", begin, sandbox="x", **CREATED)
    told.say("sandbox.destroyed", begin + length, sandbox="x", reason="api")
    told.check()
    assert told.books.total("running_ms") == length and told.books.total("mem_mib_ms") == 700 * length


def test_an_anchor_off_the_minute_shifts_the_minutes(collector):
    told = Told(collector, boot_ms=1_000_123, wall_ms=WALL + 59_877)
    told.say("sandbox.created", 1_000_123, sandbox="x", **CREATED)
    told.say("sandbox.usage", 1_000_246, sandbox="x", cpu_us=5)  # the first millisecond of the next minute
    told.say("sandbox.destroyed", 1_070_000, sandbox="x", reason="api", cpu_us=9)
    rows = told.check()
    assert {ms_of(row["start"]) // MINUTE_MS for row in rows if row["kind"] == "slice"} == {WALL // MINUTE_MS, WALL // MINUTE_MS + 1, WALL // MINUTE_MS + 2}


def test_events_before_the_anchor_are_before_it_in_utc(collector):
    told = Told(collector, boot_ms=500_000, wall_ms=WALL)
    told.say("sandbox.created", 100_000, sandbox="x", **CREATED)
    told.say("sandbox.destroyed", 500_000, sandbox="x", reason="api")
    rows = told.check()
    assert min(ms_of(row["start"]) for row in rows if row["kind"] == "slice") == WALL - 400_000


def test_hibernation_is_not_billed(told):
    told.say("sandbox.created", 10, sandbox="x", **CREATED)
    told.say("sandbox.hibernated", 70_000, sandbox="x")
    told.say("tick", 200_000)
    told.say("sandbox.resumed", 300_000, sandbox="x")
    told.say("sandbox.hibernated", 300_000, sandbox="x")
    told.say("sandbox.resumed", 300_001, sandbox="x", create_ms=4)
    told.say("sandbox.hibernated", 300_003, sandbox="x")
    told.say("sandbox.destroyed", 900_000, sandbox="x", reason="timeout")
    told.check()
    assert told.books.total("running_ms") == 69_990 + 2


def test_what_runs_is_billed_up_to_the_newest_event(told):
    told.say("sandbox.created", 0, sandbox="x", **CREATED)
    told.say("tick", 61_000)
    told.check()
    told.say("api.called", 122_001, team="t", operation="other", status=200)
    told.check()
    told.say("tick", 122_001)
    told.check()


def test_counters_are_rises_from_nought_and_a_lower_value_is_a_reset(told):
    told.say("sandbox.created", 0, sandbox="x", **CREATED)
    for at, cpu, sent in ((1, 10, 0), (2, 10, 5), (3, 25, 2), (60_000, 30, 2), (120_000, 7, 1000), (120_001, 0, 3), (120_002, 4, 3)):
        told.say("sandbox.usage", at, sandbox="x", cpu_us=cpu, net_tx_bytes=sent)
    told.say("sandbox.usage", 120_003, sandbox="x", net_rx_bytes=2**53 - 1, mem_bytes=2**53 - 1)
    told.say("sandbox.destroyed", 180_000, sandbox="x", reason="crash", cpu_us=6, net_rx_bytes=1, io_read_bytes=77, io_write_bytes=1, mem_peak_bytes=5)
    told.check()
    assert told.books.total("cpu_us") == 30 + 7 + 0 + 4 + 2 and told.books.total("net_tx_bytes") == 5 + 2 + 998 + 3


def test_a_rise_on_a_minutes_first_millisecond_belongs_to_that_minute(told):
    told.say("sandbox.created", 0, sandbox="x", **CREATED)
    told.say("sandbox.usage", 60_000, sandbox="x", cpu_us=1)
    told.say("sandbox.usage", 119_999, sandbox="x", cpu_us=3)
    told.say("sandbox.destroyed", 180_000, sandbox="x", reason="api", cpu_us=7)
    cells = cells_of(told.check())
    minute = WALL // MINUTE_MS
    assert [cells[("t", "p", minute + i, "cpu_us")] for i in range(4)] == [0, 3, 0, 4]


def test_counters_go_on_over_hibernation_or_begin_anew(told):
    told.say("sandbox.created", 0, sandbox="x", **CREATED)
    told.say("sandbox.usage", 10, sandbox="x", cpu_us=100, io_read_bytes=100)
    told.say("sandbox.hibernated", 20, sandbox="x")
    told.say("sandbox.usage", 30, sandbox="x", cpu_us=110)  # what came before, reported late
    told.say("sandbox.resumed", 100_000, sandbox="x")
    told.say("sandbox.usage", 100_010, sandbox="x", cpu_us=115, io_read_bytes=40)
    told.check()
    assert told.books.total("cpu_us") == 115 and told.books.total("io_read_bytes") == 140


def test_an_adopted_sandbox_is_metered_from_now_on(told):
    for name, running in (("on", True), ("off", False)):
        told.say("sandbox.adopted", 1_000, sandbox=name, running=running, **BOX)
    told.say("sandbox.usage", 2_000, sandbox="on", cpu_us=1_000_000)
    told.say("sandbox.usage", 3_000, sandbox="on", cpu_us=1_000_007, net_rx_bytes=9)
    told.say("sandbox.usage", 3_000, sandbox="on", cpu_us=2, net_rx_bytes=9)
    told.say("sandbox.resumed", 4_000, sandbox="off")
    told.say("sandbox.usage", 4_500, sandbox="off", cpu_us=40)
    told.say("sandbox.destroyed", 5_000, sandbox="off", reason="oom", cpu_us=50, net_tx_bytes=8)
    told.check()
    assert told.books.total("cpu_us") == 7 + 2 + 10 and told.books.total("net_rx_bytes") == 0 and told.books.total("running_ms") == 4_000 + 1_000


def test_counts_by_origin_reason_code_operation_and_status_class(told):
    reasons = ("api", "timeout", "oom", "crash", "host")
    for i, origin in enumerate(("create", "fork", "restore", "create", "fork")):
        told.say("sandbox.created", i, sandbox="x%d" % i, **{**CREATED, "origin": origin})
    for code in (0, 1, 137, 255, 0):
        told.say("exec.exited", 60_000, sandbox="x1", exit_code=code, duration_ms=3)
    for status in (100, 199, 200, 299, 300, 399, 400, 499, 500, 599):
        told.say("api.called", 60_001, team="u", operation="snapshot.restore", status=status)
        told.say("api.called", 60_001, team="u", project="q", operation="other", status=status)
    for i, reason in enumerate(reasons):
        told.say("sandbox.destroyed", 120_000, sandbox="x%d" % i, reason=reason)
    cells = cells_of(told.check())
    assert cells[("u", "-", WALL // MINUTE_MS + 1, "api.snapshot.restore.1xx")] == 2
    assert cells[("t", "p", WALL // MINUTE_MS + 1, "exit.0")] == 2


def test_one_name_may_have_many_lives(told):
    for i in range(200):
        told.say("sandbox.created", i * 1_000, sandbox="x", **{**CREATED, "vcpus": i % 7 + 1, "team": "t%d" % (i % 3)})
        told.say("sandbox.usage", i * 1_000 + 5, sandbox="x", cpu_us=7)
        told.say("sandbox.destroyed", i * 1_000 + 5 + i % 50, sandbox="x", reason="api")
    told.check()


def test_the_largest_allocation_over_a_long_time_is_exact(told):
    told.say("sandbox.created", 0, sandbox="x", **{**CREATED, "vcpus": 1024, "mem_mib": 16777216, "disk_mib": 1073741824})
    told.say("sandbox.destroyed", 14 * 86_400_000 + 1, sandbox="x", reason="api")
    told.check()


def test_a_new_boot_ends_all_of_the_old_one_at_its_newest_event(collector):
    other = Told(collector, "other")
    other.say("sandbox.created", 5, sandbox="theirs", **CREATED)
    old = Told(collector)
    old.say("sandbox.created", 0, sandbox="on", **CREATED)
    old.say("sandbox.created", 0, sandbox="off", **CREATED)
    old.say("sandbox.hibernated", 61_000, sandbox="off")
    old.say("api.called", 130_000, team="t", operation="other", status=200)
    old.wire.n += 1
    old.wire.send(b'{"n":%d,"boot_ms":999999,"type":"sandbox.resumed","sandbox":"on"}\n' % old.wire.n)  # refused: moves no time
    old.wire.wait_acked()
    old.books.end_host()
    new = Told(collector, boot_id="b2", boot_ms=0, wall_ms=WALL + 500_000)
    new.say("sandbox.created", 10, sandbox="on", **CREATED)
    new.say("sandbox.usage", 20, sandbox="on", cpu_us=3)
    rows = new.check(other, old)
    assert sorted((row["sandbox"], ms_of(row["at"]) - WALL, row["reason"]) for row in rows if row["kind"] == "end") == [("off", 130_000, "host"), ("on", 130_000, "host")]


def test_two_sources_have_each_its_own_time(collector):
    first, second = Told(collector, "one", boot_ms=0, wall_ms=WALL), Told(collector, "two", boot_ms=7_000_000, wall_ms=WALL + 17)
    first.say("sandbox.created", 0, sandbox="a", **CREATED)
    second.say("sandbox.created", 7_000_000, sandbox="b", **{**CREATED, "team": "u"})
    first.say("tick", 3_600_000)
    second.say("tick", 7_030_000)
    rows = first.check(second)
    through = [row["complete_through"] for row in rows if row["kind"] == "batch"][-1]
    assert ms_of(through) <= WALL + 17 + 30_000, "complete beyond a source that runs something"


def test_time_is_complete_through_the_slowest_source_and_never_falls(told):
    told.say("sandbox.created", 0, sandbox="x", **CREATED)
    for minute in range(1, 20):
        told.say("tick", minute * 60_000)
        told.wire.wait_acked()
    through = [ms_of(row["complete_through"]) for row in told.check() if row["kind"] == "batch" and row["complete_through"]]
    assert through == sorted(through) and through[-1] == WALL + 19 * 60_000


# ---- clock = system ----

def boot_now():
    """This host's boot clock, which is the collector's."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def test_a_live_clock_bills_lives_by_their_own_times(make_collector):
    now = boot_now()
    told = Told(make_collector(clock="system"), boot_ms=now, wall_ms=WALL + 7)
    told.say("sandbox.created", now - 100_000, sandbox="x", **CREATED)
    told.say("sandbox.hibernated", now - 70_000, sandbox="x")
    told.say("sandbox.usage", now - 60_000, sandbox="x", cpu_us=4)
    told.say("sandbox.resumed", now - 30_000, sandbox="x")
    told.say("sandbox.destroyed", now - 1, sandbox="x", reason="api", cpu_us=5)
    told.check()


def test_a_live_clock_bills_what_runs_while_its_source_is_connected(make_collector):
    collector, now = make_collector(clock="system"), boot_now()
    wire = collector.greet(boot_ms=now, wall_ms=WALL)
    wire.say("sandbox.created", now - 60_000, sandbox="x", **CREATED)
    wire.wait_acked()

    def billed():
        return sum(row["length_ms"] for row in collector.rows() if row["kind"] == "slice")

    wait_for("time to be billed without an event", lambda: billed() >= 40_000, 15, pause_s=0.2)
    assert billed() <= 60_000 + boot_now() - now
    end = wire.say("tick", boot_now())["boot_ms"]
    wire.wait_acked()
    assert billed() == end - now + 60_000, "a tick settles its own time"


def test_a_backlog_after_an_absence_is_billed_by_its_own_times(make_collector):
    collector, now = make_collector(clock="system"), boot_now()
    told = Told(collector, boot_ms=now - 100_000, wall_ms=WALL)
    told.say("sandbox.created", now - 90_000, sandbox="x", **CREATED)
    told.say("sandbox.created", now - 90_000, sandbox="y", **CREATED)
    told.wire.wait_acked()
    told.wire.close()
    collector.kill()
    collector.start()
    told.wire = collector.greet("s", "b", now, WALL + 100_000)
    for i in range(1, 5):
        time.sleep(0.7)  # a client that reads its journal slowly
        told.say("tick", now - 90_000 + i)
    told.say("sandbox.destroyed", now - 60_000, sandbox="x", reason="api")
    told.say("sandbox.destroyed", now - 59_000, sandbox="y", reason="api")
    told.check()
    assert collector.metric("late_events_total") == 0


def test_a_dead_host_is_billed_until_it_was_last_seen_connected(make_collector):
    collector, now = make_collector(clock="system"), boot_now()
    wire = collector.greet(boot_ms=now, wall_ms=WALL)
    wire.say("sandbox.created", now - 60_000, sandbox="x", **CREATED)
    wire.wait_acked()
    time.sleep(2.2)
    wire.close()
    gone = boot_now()
    time.sleep(1.2)
    collector.greet(boot_id="b2", boot_ms=0, wall_ms=WALL + 9_000).close()
    collector.stop()
    rows = collector.rows()
    ends = [ms_of(row["at"]) - WALL for row in rows if row["kind"] == "end"]
    assert len(ends) == 1 and 1_000 <= ends[0] <= gone - now, ends
    assert sum(row["length_ms"] for row in rows if row["kind"] == "slice") == ends[0] + 60_000


# ---- everything at once ----

def test_many_sandboxes_over_hours_fill_many_batches_and_a_kill_among_them_loses_none(make_collector):
    collector = make_collector()
    old = Told(collector)
    for i in range(50):
        old.say("sandbox.created", i, sandbox="m%d" % i, **CREATED)
    old.wire.wait_acked()
    old.say("tick", 36_000_000)
    time.sleep(0.03)
    collector.kill()
    collector.start()
    old.wire = collector.greet(wall_ms=WALL)
    if old.wire.n == 50:
        old.wire.say("tick", 36_000_000)
    old.books.end_host()
    new = Told(collector, boot_id="b2")  # also when nothing of it was billed yet
    new.say("tick", 1)
    new.check(old)


def test_a_leap_of_time_keeps_nobody_waiting_and_is_billed_after_a_restart_too(make_collector):
    collector = make_collector()
    wire = collector.greet(wall_ms=WALL)
    for i in range(50):
        wire.say("sandbox.created", 0, sandbox="m%d" % i, **CREATED)
    wire.say("tick", 200 * 86_400_000)
    wire.wait_acked()
    begin = time.monotonic()
    collector.stop()
    assert time.monotonic() - begin < 10
    totals = collector.rows(only="batch")[-1]["totals"]
    assert 0 < totals["running_ms"] < 50 * 200 * 86_400_000
    collector.start()
    wait_for("more to be billed", lambda: collector.metric("running_ms_total") > totals["running_ms"] + 10**10, 15)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_day_with_kills_is_exact(make_collector, seed):
    """Everything at once: three sources, any event in any state, collectors killed anywhere, lines sent again or not at all acked."""
    rng, collector = random.Random(seed), make_collector()
    sources = [{"name": "s%d" % i, "boot": 0, "n": 0, "at": 0, "lines": [], "books": Books(0, WALL), "boxes": {}, "done": []} for i in range(3)]
    for _ in range(6):
        for source in sources:
            if rng.random() < 0.2 and source["lines"]:  # the host died; what was not acked is lost with it
                source["books"] = None
            speak(rng, collector, source)
        if rng.random() < 0.6:
            rng.choice((collector.kill, collector.stop))()
            collector.start()
    for source in sources:
        deliver(collector, source)
    expected = sum((books.end() for source in sources for books in (*source["done"], source["books"])), start=Books().cells)
    found = cells_of(collector.rows())
    assert found == expected, (seed, found - expected, expected - found)


def random_event(rng, source):
    """An event that the state allows."""
    boxes, at = source["boxes"], source["at"] + rng.choice((0, 1, 999, 7_000, 60_000 - source["at"] % 60_000))
    source["at"] = at
    counters = {name: rng.randrange(10**6) for name in rng.sample(("cpu_us", "net_rx_bytes", "net_tx_bytes", "io_read_bytes", "io_write_bytes"), 2)}
    if not boxes or rng.random() < 0.15:
        name = "%s-%d" % (source["name"], rng.randrange(40))
        if name not in boxes:
            boxes[name] = rng.random() < 0.8
            fields = {"sandbox": name, "team": "t%d" % rng.randrange(3), "project": "p", "vcpus": rng.randrange(1, 9), "mem_mib": rng.randrange(1, 999), "disk_mib": 5}
            if boxes[name] and rng.random() < 0.8:
                return {"type": "sandbox.created", "boot_ms": at, **fields, "origin": rng.choice(("create", "fork", "restore")), "create_ms": 3}
            return {"type": "sandbox.adopted", "boot_ms": at, **fields, "running": boxes[name]}
    name = rng.choice(sorted(boxes)) if boxes else None
    kind = rng.choice(("usage", "usage", "flip", "destroyed", "exec", "tick", "call"))
    if kind == "usage":
        return {"type": "sandbox.usage", "boot_ms": at, "sandbox": name, **counters}
    if kind == "flip":
        boxes[name] = not boxes[name]
        return {"type": "sandbox.resumed" if boxes[name] else "sandbox.hibernated", "boot_ms": at, "sandbox": name}
    if kind == "destroyed" and rng.random() < 0.4:
        del boxes[name]
        return {"type": "sandbox.destroyed", "boot_ms": at, "sandbox": name, "reason": rng.choice(("api", "oom")), **counters}
    if kind == "exec":
        return {"type": "exec.exited", "boot_ms": at, "sandbox": name, "exit_code": rng.randrange(256), "duration_ms": 1}
    if kind == "call":
        return {"type": "api.called", "boot_ms": at, "team": "t1", "operation": "other", "status": rng.randrange(100, 600)}
    return {"type": "tick", "boot_ms": at}


def deliver(collector, source):
    """Greet, say again what is not acknowledged, and wait."""
    wire = collector.greet(source["name"], "b%d" % source["boot"], 0, WALL)
    for line in source["lines"][wire.acked:]:
        wire.say(line["type"], **{name: value for name, value in line.items() if name != "type"})
    wire.wait_acked()
    assert not wire.rejects, wire.rejects
    return wire


def speak(rng, collector, source):
    """Some hundred events of a source; the session ends anywhere."""
    if source["books"] is None:
        wire = collector.greet(source["name"], "b%d" % source["boot"], 0, WALL)  # what was really taken of the old boot
        books = Books(0, WALL)
        for line in source["lines"][:wire.acked]:
            books.take(line)
        books.end_host()
        source["done"].append(books)
        source.update(boot=source["boot"] + 1, at=0, lines=[], books=Books(0, WALL), boxes={})
    wire = deliver(collector, source)
    for _ in range(rng.randrange(20, 300)):
        event = random_event(rng, source)
        source["lines"].append(event)
        source["books"].take(event)
        wire.say(event["type"], **{name: value for name, value in event.items() if name != "type"})
    if rng.random() < 0.5:
        wire.wait_acked()
    wire.close()
