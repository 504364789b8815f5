"""A collector made of Python, to judge the fleet simulator by.

It speaks the ingest contract from the other side, loses connections at random (with lines read and not committed, and with
lines committed and not acked), refuses what the contract refuses, and meters what it accepted in another way than the
simulator does: minute by minute, over plain dictionaries. Only when both come to the same numbers is either worth anything.

Run by ctest as `python3 -m pytest tests/fleet/mock_ingest.py`; SANDGLASS_FLEET is the program.
"""

import asyncio
import json
import os
import random
import re
from collections import Counter, defaultdict

import pytest

FLEET = os.environ.get("SANDGLASS_FLEET", "sandglass-fleet")
START_MS = 1763884800000  # a Sunday, on the hour
COUNTERS = ("cpu_us", "net_rx_bytes", "net_tx_bytes", "io_read_bytes", "io_write_bytes")
BIG = 2**53 - 1
OPERATIONS = (
    "sandbox.create sandbox.fork sandbox.get sandbox.list sandbox.exec sandbox.hibernate sandbox.resume sandbox.destroy "
    "snapshot.create snapshot.restore snapshot.delete file.read file.write other"
).split()


# --- the schema -------------------------------------------------------------------------------------------------------
def integer(low, high):
    def check(value):
        if type(value) is not int:
            return "bad_type"
        return None if low <= value <= high else "out_of_range"

    return check


def identifier(value):
    if not isinstance(value, str):
        return "bad_type"
    return None if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) and value != "-" else "bad_identifier"


def member_of(*words):
    def check(value):
        if not isinstance(value, str):
            return "bad_type"
        return None if value in words else "out_of_range"

    return check


def truth(value):
    return None if isinstance(value, bool) else "bad_type"


def path(value):
    if not isinstance(value, str):
        return "bad_type"
    return None if re.fullmatch(r"[A-Za-z0-9_./:@-]{1,200}", value) and ".." not in value else "bad_identifier"


def interface(value):
    if not isinstance(value, str):
        return "bad_type"
    return None if 1 <= len(value) <= 15 else "bad_identifier"


SIZE = {name: integer(0, BIG) for name in COUNTERS + ("mem_bytes",)}
PLACE = {"cgroup": path, "tap": interface}
SHAPE = {
    "sandbox": identifier,
    "team": identifier,
    "project": identifier,
    "vcpus": integer(1, 1024),
    "mem_mib": integer(1, 16777216),
    "disk_mib": integer(0, 1073741824),
}
CREATE_MS = {"create_ms": integer(0, 86400000)}
SANDBOX = {"sandbox": identifier}
# type: (required, optional)
TYPES = {
    "sandbox.created": (SHAPE | CREATE_MS | {"origin": member_of("create", "fork", "restore")}, PLACE),
    "sandbox.adopted": (SHAPE | {"running": truth}, PLACE),
    "sandbox.usage": (SANDBOX, SIZE),
    "sandbox.hibernated": (SANDBOX, {}),
    "sandbox.resumed": (SANDBOX, CREATE_MS),
    "sandbox.destroyed": (
        SANDBOX | {"reason": member_of("api", "timeout", "oom", "crash", "host")},
        SIZE | {"mem_peak_bytes": integer(0, BIG)},
    ),
    "exec.exited": (SANDBOX | {"exit_code": integer(0, 255), "duration_ms": integer(0, BIG)}, {}),
    "api.called": (
        {"team": identifier, "operation": member_of(*OPERATIONS), "status": integer(100, 599)},
        {"project": identifier},
    ),
    "runner.capacity": ({k: integer(0, BIG) for k in ("vcpus_total", "mem_mib_total", "disk_mib_total", "warm")}, {}),
    "tick": ({}, {}),
}


class Refused(Exception):
    pass


def unique(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Refused("duplicate_field")
    return dict(pairs)


def read_line(raw):
    """The fields of a line that is well-formed, or Refused."""
    if len(raw) > 4096:
        raise Refused("too_long")
    try:
        fields = json.loads(raw, object_pairs_hook=unique)
    except ValueError:
        raise Refused("malformed") from None
    if not isinstance(fields, dict):
        raise Refused("malformed")
    if fields.get("type") not in TYPES:
        raise Refused("unknown_type")
    required, optional = TYPES[fields["type"]]
    for name, value in fields.items():
        if name in ("n", "boot_ms", "type"):
            continue
        check = required.get(name) or optional.get(name)
        if check is None:
            raise Refused("unknown_field")
        if check(value):
            raise Refused(check(value))
    if set(required) - set(fields):
        raise Refused("missing_field")
    return fields


# --- the meter --------------------------------------------------------------------------------------------------------
class Box:
    def __init__(self, line, source, number):
        self.line, self.source, self.number = line, source, number
        self.running = line.get("running", True)
        self.since = line["boot_ms"]
        self.last = {} if line["type"] == "sandbox.adopted" else dict.fromkeys(COUNTERS, 0)
        self.run = {"id": line["sandbox"], "running_ms": 0, "cpu_us": 0, "reason": None, "destroyed_ms": None}


class Source:
    def __init__(self, boot_id, boot_ms, wall_ms):
        self.boot_id, self.boot_ms, self.wall_ms = boot_id, boot_ms, wall_ms
        self.newest, self.durable = boot_ms, 0

    def wall(self, boot_ms):
        return self.wall_ms + boot_ms - self.boot_ms


class Meter:
    """What one runner's accepted lines mean, by minute: {(team, project, region, minute): Counter}."""

    def __init__(self, region):
        self.region, self.boxes, self.runs = region, {}, {}
        self.minutes = defaultdict(Counter)
        self.accepted = self.refused = 0

    def cell(self, team, project, wall_ms):
        return self.minutes[team, project, self.region, wall_ms // 60000]

    def count(self, box, boot_ms, field, amount=1):
        self.cell(box.line["team"], box.line["project"], box.source.wall(boot_ms))[field] += amount

    def stop(self, box, boot_ms):
        if not box.running:
            return
        at, end = box.source.wall(box.since), box.source.wall(boot_ms)
        while at < end:
            until = min(end, at - at % 60000 + 60000)
            cell = self.cell(box.line["team"], box.line["project"], at)
            cell["running_ms"] += until - at
            for unit in ("vcpus", "mem_mib", "disk_mib"):
                cell["vcpu_ms" if unit == "vcpus" else unit + "_ms"] += (until - at) * box.line[unit]
            box.run["running_ms"] += until - at
            at = until
        box.since = boot_ms

    def end(self, box, boot_ms, reason):
        self.stop(box, boot_ms)
        self.count(box, boot_ms, "destroys." + reason)
        box.run |= {"reason": reason, "destroyed_ms": box.source.wall(boot_ms)}
        del self.boxes[box.line["sandbox"]]

    def boot(self, old):
        for box in [b for b in self.boxes.values() if b.source is old]:
            self.end(box, old.newest, "host")

    def rises(self, box, line):
        for name in COUNTERS:
            if name not in line:
                continue
            value, last = line[name], box.last.get(name, line[name])
            rise = value - last if value >= last else value
            box.last[name] = value
            self.count(box, line["boot_ms"], name, rise)
            if name == "cpu_us":
                box.run["cpu_us"] += rise

    def apply(self, source, raw, number):
        line = read_line(raw)
        if line["boot_ms"] < source.newest:
            raise Refused("time_went_back")
        kind, box = line["type"], self.boxes.get(line.get("sandbox"))
        if kind in ("sandbox.created", "sandbox.adopted"):
            if box:
                raise Refused("duplicate_sandbox")
            box = self.boxes[line["sandbox"]] = Box(line, source, number)
            self.runs[line["sandbox"]] = box.run
            if kind == "sandbox.created":
                self.count(box, line["boot_ms"], "creates." + line["origin"])
        elif "sandbox" in line:
            if not box or box.source is not source:
                raise Refused("unknown_sandbox")
            self.change(box, line)
        elif kind == "api.called":
            field = "api.%s.%dxx" % (line["operation"], line["status"] // 100)
            self.cell(line["team"], line.get("project", "-"), source.wall(line["boot_ms"]))[field] += 1
        source.newest = line["boot_ms"]
        self.accepted += 1

    def change(self, box, line):
        kind, at = line["type"], line["boot_ms"]
        if kind == "sandbox.hibernated":
            if not box.running:
                raise Refused("bad_state")
            self.stop(box, at)
            box.running = False
        elif kind == "sandbox.resumed":
            if box.running:
                raise Refused("bad_state")
            box.running, box.since = True, at
        elif kind == "sandbox.usage":
            self.rises(box, line)
        elif kind == "exec.exited":
            self.count(box, at, "execs")
            self.count(box, at, "exit.%d" % line["exit_code"])
            box.run["last_exit_code"] = line["exit_code"]
        else:
            self.rises(box, line)
            self.end(box, at, line["reason"])

    def finish(self):
        for box in self.boxes.values():
            self.stop(box, box.source.newest)


# --- the socket -------------------------------------------------------------------------------------------------------
class Collector:
    """One runner's socket. `kill_one_in`: how often a commit ends with the death of all its connections."""

    def __init__(self, name, region, directory, dice, kill_one_in=0, lose_at=0):
        self.name, self.region, self.socket = name, region, str(directory / (name + ".sock"))
        self.meter, self.dice, self.kill_one_in, self.lose_at = Meter(region), dice, kill_one_in, lose_at
        self.sources, self.open, self.kills, self.hellos, self.lost = {}, set(), 0, [], False

    def greet(self, hello):
        key, source = hello["source"], self.sources.get(hello["source"])
        self.hellos.append(hello)
        if source and source.boot_id == hello["boot_id"]:
            return source, {"ack": source.durable}
        if source:
            self.meter.boot(source)
        source = self.sources[key] = Source(hello["boot_id"], hello["boot_ms"], hello["wall_ms"])
        return source, {"ack": 0, "new": True}

    def commit(self, source, lines):
        answers = []
        for raw in lines:
            number = int(re.search(rb'"n" ?: ?(\d+)', raw).group(1))
            if self.lost and source.durable == 0:
                source.durable = number - 1  # a source that is new here goes on with the lowest number it holds
            assert number <= source.durable + 1, "a hole in the numbers"
            if number <= source.durable:
                continue
            source.durable = number
            try:
                self.meter.apply(source, raw, number)
            except Refused as refused:
                self.meter.refused += 1
                answers.append({"reject": number, "error": str(refused), "at": 0})
        return answers + [{"ack": source.durable}]

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            source, answer = self.greet(json.loads(await reader.readline()))
            writer.write(json.dumps(answer).encode() + b"\n")
            rest = b""
            while data := await reader.read(self.dice.choice((100, 5000, 60000))):
                *lines, rest = (rest + data).split(b"\n")
                if self.kill_one_in and self.dice.randrange(self.kill_one_in) == 0:
                    self.kill(source, [line + b"\n" for line in lines])
                    return
                for answer in self.commit(source, [line + b"\n" for line in lines]):
                    writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                self.maybe_lose(source)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def kill(self, source, lines):
        """kill -9: some of what was read is durable without an ack, the rest is gone."""
        self.kills += 1
        self.commit(source, lines[: self.dice.randrange(len(lines) + 1)])
        for writer in self.open:
            writer.transport.abort()

    def maybe_lose(self, source):
        """The spool is lost once: whatever was acked is in the meter, but nobody remembers a sandbox or a number."""
        if not self.lose_at or self.meter.accepted < self.lose_at:
            return
        self.lose_at, self.lost = 0, True
        self.meter.finish()
        self.meter.boxes.clear()
        self.sources.clear()
        for writer in self.open:
            writer.transport.abort()


async def run_fleet(collectors, directory, arguments):
    servers = [await asyncio.start_unix_server(c.serve, c.socket, limit=1 << 20) for c in collectors]
    command = [FLEET, "--expect", str(directory / "expect.json"), "--progress", str(directory / "progress.json")]
    for c in collectors:
        command += ["--socket", f"{c.name}:{c.region}:{c.socket}"]
    process = await asyncio.create_subprocess_exec(*command, *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    for server in servers:
        server.close()
    return process.returncode, errors.decode()


def play(directory, arguments, runners=2, seed=1, clock=("--start", str(START_MS)), **faults):
    dice = random.Random(seed)
    collectors = [Collector(f"r{i + 1}", ("eu", "us")[i % 2], directory, dice, **faults) for i in range(runners)]
    arguments = ["--seed", str(seed), "--minutes", *clock, *arguments]
    code, errors = asyncio.run(run_fleet(collectors, directory, [str(a) for a in arguments]))
    return code, errors, collectors, json.loads((directory / "expect.json").read_text())


# --- the comparison ---------------------------------------------------------------------------------------------------
def fold(minutes, width):
    cells = defaultdict(Counter)
    for (team, project, region, minute), fields in minutes.items():
        cells[team, project, region, minute * 60 // width * width].update(fields)
    return {key: strip(fields) for key, fields in cells.items() if strip(fields)}


def strip(fields):
    return {name: value for name, value in fields.items() if value}


def told(windows):
    return {(w["team"], w["project"], w["region"], w["start"]): strip(w["fields"]) for w in windows}


def assert_same(expect, collectors):
    minutes, runs, active = defaultdict(Counter), {}, Counter()
    for c in collectors:
        c.meter.finish()
        for key, fields in c.meter.minutes.items():
            minutes[key].update(fields)
        runs |= c.meter.runs
        active.update(b.line["team"] for b in c.meter.boxes.values() if b.running)
    assert expect["exact"] and expect["complete"] and expect["errors"] == []
    assert expect["accepted_events"] == sum(c.meter.accepted for c in collectors)
    assert expect["rejected"] == sum(c.meter.refused for c in collectors)
    for name, width in (("minutes", 60), ("hours", 3600), ("days", 86400)):
        assert told(expect[name]) == fold(minutes, width), name
    totals = sum(minutes.values(), Counter())
    assert strip(expect["totals"]) == strip(totals)
    assert expect["active"] == dict(active)
    for run in expect["runs"]:
        mine = runs[run["id"]]
        for name in ("running_ms", "cpu_us", "destroyed_ms"):
            assert run[name] == mine[name], (run["id"], name)
        assert run.get("reason") == mine["reason"]
        assert run.get("last_exit_code") == mine.get("last_exit_code")
    return totals


# --- the tests --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(1, 6))
def test_totals_are_those_of_the_received_lines(tmp_path, seed):
    code, errors, collectors, expect = play(tmp_path, ["--events", 20000, "--sandboxes", 40], seed=seed)
    assert (code, errors) == (0, "")
    totals = assert_same(expect, collectors)
    assert 19000 < expect["accepted_events"] < 21000
    every = "creates.fork creates.restore destroys.oom destroys.crash destroys.timeout destroys.host exit.137".split()
    assert all(totals[name] > 0 for name in every)
    assert any(key[1] == "-" for key in told(expect["hours"]))
    assert json.loads((tmp_path / "progress.json").read_text())["done"]


@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_connections_lose_and_double_nothing(tmp_path, seed):
    code, errors, collectors, expect = play(tmp_path, ["--events", 20000], seed=seed, kill_one_in=25)
    assert (code, errors) == (0, "")
    assert sum(c.kills for c in collectors) > 2 and expect["reconnects"] > 2
    assert_same(expect, collectors)


@pytest.mark.parametrize("seed", range(1, 4))
def test_bad_lines_are_refused_with_the_code_expected(tmp_path, seed):
    arguments = ["--events", 8000, "--bad-percent", 20, "--canary", "sing-no-more"]
    code, errors, collectors, expect = play(tmp_path, arguments, seed=seed)
    assert (code, errors) == (0, "")
    assert expect["rejected"] > 1000
    assert_same(expect, collectors)


def test_bad_lines_and_kills_go_together(tmp_path):
    code, errors, collectors, expect = play(tmp_path, ["--events", 8000, "--bad-percent", 20], kill_one_in=25)
    assert (code, errors) == (0, "")
    assert_same(expect, collectors)


@pytest.mark.parametrize("faults", [{}, {"kill_one_in": 25}])
def test_a_reboot_ends_every_sandbox_at_the_newest_time(tmp_path, faults):
    arguments = ["--events", 10000, "--reboot", "--sources", 2, "--bad-percent", 5]
    code, errors, collectors, expect = play(tmp_path, arguments, **faults)
    assert (code, errors) == (0, "")
    assert len({hello["boot_id"] for hello in collectors[0].hellos}) == 2
    assert_same(expect, collectors)


def test_a_run_over_days_crosses_their_boundaries(tmp_path):
    arguments = ["--events", 10000, "--span-ms", 3 * 86400000, "--sandboxes", 10, "--teams", 2, "--projects", 1]
    code, errors, collectors, expect = play(tmp_path, arguments, runners=3)
    assert (code, errors) == (0, "")
    assert len({w["start"] for w in expect["days"]}) >= 4
    assert_same(expect, collectors)


def test_one_sandbox_and_few_events_are_enough(tmp_path):
    code, errors, collectors, expect = play(tmp_path, ["--events", 10, "--sandboxes", 1], runners=1)
    assert (code, errors) == (0, "")
    assert_same(expect, collectors)


def test_a_small_window_still_arrives_whole(tmp_path):
    code, errors, collectors, expect = play(tmp_path, ["--events", 5000, "--window", 128], kill_one_in=40)
    assert (code, errors) == (0, "")
    assert_same(expect, collectors)


def test_real_time_can_drive_the_events(tmp_path):
    arguments = ["--clock", "system", "--seconds", 2, "--events", 5000]
    code, errors, collectors, expect = play(tmp_path, arguments, clock=(), kill_one_in=200)
    assert (code, errors) == (0, "")
    assert_same(expect, collectors)
    assert expect["active"] == {} and 1500 < expect["elapsed_ms"] < 20000


def test_a_lost_spool_is_a_named_gap_and_what_runs_is_adopted(tmp_path):
    code, errors, collectors, expect = play(tmp_path, ["--events", 5000], runners=1, lose_at=2000)
    assert (code, errors) == (0, "")
    (gap,) = expect["gaps"]
    assert gap["from"] == 1 and gap["to"] >= 2000
    assert expect["acked"] == expect["written"] == collectors[0].sources["fleet-1"].durable


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_spool_lost_in_a_quiet_moment_leaves_exact_totals(tmp_path, seed):
    arguments = ["--events", 300, "--sandboxes", 20, "--seconds", 1]
    code, errors, collectors, expect = play(tmp_path, arguments, runners=1, seed=seed, lose_at=150)
    assert (code, errors) == (0, "") and len(expect["gaps"]) == 1
    if expect["exact"]:  # no line was under way
        expect["runs"] = []  # a run announced again is told twice
        assert_same(expect, collectors)


def test_a_refusal_nobody_wanted_fails_the_run(tmp_path):
    TYPES["exec.exited"][0]["exit_code"] = integer(0, 100)
    try:
        code, errors, _, expect = play(tmp_path, ["--events", 5000], runners=1)
    finally:
        TYPES["exec.exited"][0]["exit_code"] = integer(0, 255)
    assert code == 1 and "was good but refused: out_of_range" in errors
    assert expect["error_count"] > 0


def test_a_bad_line_that_is_accepted_fails_the_run(tmp_path):
    TYPES["tick"][1]["image"] = lambda value: None
    try:
        code, errors, _, expect = play(tmp_path, ["--events", 2000, "--bad-percent", 20], runners=1)
    finally:
        del TYPES["tick"][1]["image"]
    assert code == 1 and "bad lines were not refused" in errors


def test_the_same_seed_prints_the_same_lines(tmp_path):
    async def lines(seed):
        command = [FLEET, "--dump-lines", "500", "--start", str(START_MS), "--seed", str(seed)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].splitlines()

    one, again, other = (asyncio.run(lines(seed)) for seed in (1, 1, 2))
    assert one == again != other and len(one) == 501
