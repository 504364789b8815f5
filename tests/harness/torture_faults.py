"""The bad days, by name: what each does to a World while the fleet goes on.

A fault is a function that hurts the world and, where that belongs to it, mends it again; the round mends whatever is left. Its first line of
documentation is what `deploy/local torture --list` shows. Nothing here checks totals: the round does, and always all of them.
"""
import dataclasses
import errno
import os
import subprocess
import time

from . import config, tools
from .process import HarnessError, wait_for
from .torture_world import SESSION_S, TOPOLOGIES

FAULTS = {}
AWAY_S, BACKLOG_ROWS = 600, 1_000_000
WRITTEN_BYTES = 1000  # a flush writes more while the fleet goes on
WRITES_S = 10  # while the fleet goes on something is written to Redis much sooner


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of them. `fleet`: what is special about the traffic; `may_end`: programs of ours that may end by themselves; `first`: one of those that
    even a short campaign has to have; `drawn`: whether it comes up by itself, or only when it is asked for."""
    name: str
    kind: str
    run: object
    topologies: tuple
    fleet: dict
    may_end: tuple
    first: bool
    drawn: bool

    @property
    def text(self):
        """What it does."""
        return self.run.__doc__.partition("\n")[0]


def fault(kind, topologies=tuple(TOPOLOGIES), name=None, may_end=(), first=False, drawn=True, **fleet):
    """Make a function a fault."""
    def register(run):
        called = name or run.__name__.replace("_", "-")
        FAULTS[called] = Fault(called, kind, run, topologies, fleet, may_end, first, drawn)
        return run

    return register


# One thing at a time: killed, stopped and continued, cut off, mute, slow.


def _killed(part):
    def run(world):
        name = world.choose(part)
        world.kill(name)
        world.last(0.1, 1.5)
        world.spawn(name)

    run.__doc__ = "kill -9 of one %s, started again a moment later" % part
    return run


def _stopped(part):
    def run(world):
        name = world.choose(part)
        world.freeze(name)
        world.last(1.5, 4)
        world.thaw(name)

    run.__doc__ = "SIGSTOP of one %s, continued after seconds" % part
    return run


def _linked(part, mode, text):
    def run(world):
        name = world.choose_link(part)
        world.stood_in = sum(link.partition("-")[0] == part for link in world.pipeline.proxy.links) > 1
        world.link(name, mode, delay_ms=world.random.randrange(20, 200))
        world.last(1, 3)
        world.link(name, "pass")

    run.__doc__ = "the way to %s %s for seconds" % (part, text)
    return run


for _part in ("collector", "aggregator", "exporter", "api", "kafka", "redis", "stripe"):
    fault("kill", name=_part + "-killed")(_killed(_part))
    fault("stop", name=_part + "-stopped")(_stopped(_part))
for _part in ("kafka", "redis", "stripe"):
    fault("cut", name=_part + "-cut")(_linked(_part, "cut", "is cut"))
    fault("cut", name=_part + "-stalled")(_linked(_part, "stall", "stands still"))
    fault("cut", name=_part + "-mute")(_linked(_part, "mute", "loses all replies, after their effect,"))
    fault("slow", name=_part + "-slow")(_linked(_part, "slow", "is slow"))


# Everything at once, and in order.


@fault("kill")
def everything_killed(world):
    """kill -9 of every process at once, as a power cut that spares the disks"""
    names = [name for name in world.pipeline.processes() if name in world.wanted]
    world.kill(*names)
    world.spawn(*names)


@fault("restart")
def programs_restarted(world):
    """SIGTERM and start of each of our programs in turn"""
    for name in [name for name in world.pipeline.programs if name in world.wanted]:
        world.hits(name)
        if not world.process(name).stop():
            raise HarnessError("%s does not end when it is asked to" % name)
        world.spawn(name)
        world.hold(0, 0.5)
    world.note("SIGTERM of all in turn")


@fault("restart", reboot=True, first=True)
def machine_rebooted(world):
    """every runner boots anew in mid-run, with another boot_id and none of its sandboxes; its collector dies with it"""
    for name in world.names("collector"):
        world.kill(name)
        world.hold(0.1, 0.5)
        world.spawn(name)


# Kafka.


@fault("kill", first=True)
def broker_away(world):
    """all of Kafka is killed, and stays away for seconds while spools fill"""
    names = world.names("kafka")
    world.kill(*names)
    world.last(2, 4)
    world.spawn(*names)


@fault("kill", topologies=("three-pair",), first=True)
def leader_killed(world):
    """the broker that leads the partition of a runner is killed; another one takes over"""
    leaders = world.pipeline.kafka.leaders(world.pipeline.made["topics"]["events"])
    name = "kafka-%d" % world.random.choice(sorted(leaders.values()))
    world.kill(name)
    world.last(2, 4)
    world.spawn(name)


@fault("kill", topologies=("three-pair",), first=True)
def most_brokers_killed(world):
    """two of three brokers are killed: no leader, or one without enough replicas, and no error that a client is told"""
    names = world.random.sample(sorted(world.names("kafka")), 2)
    world.kill(*names)
    world.stood_in = False
    world.last(2, 4)
    world.spawn(*names)


# Redis.


@fault("empty", first=True)
def redis_emptied(world):
    """FLUSHALL in mid-run; two aggregators share the restoring, and both must be well afterwards"""
    world.spawn("aggregator-2")
    world.pipeline.wait_ready("aggregator-2")
    world.pipeline.redis.flush_all()
    world.note("FLUSHALL")
    world.hold(1, 2)
    for name in ("aggregator", "aggregator-2"):
        world.pipeline.wait_ready(name)
    world.process("aggregator-2").stop()


def _rolled_back(cut):
    def run(world):
        redis = world.pipeline.redis
        before = {node: redis.aof_end(node) for node in world.names("redis") if not redis.is_replica(node)}
        world.hold(0.7, 1.5)
        # Not one whose slots were moved away: nobody reads there, and whatever it loses is no loss.
        grown = wait_for(
            "a write to Redis",
            lambda: [node for node, end in before.items() if redis.aof_written(node, end) >= WRITTEN_BYTES],
            WRITES_S,
        )
        name = world.random.choice(grown)
        world.kill(name)
        world.note("%d bytes cut" % cut(redis, name, redis.aof_written(name, before[name])))
        world.spawn(name)

    return run


def _rolled_back_by_bytes(redis, name, count):
    return redis.cut_aof_tail(name, count)


def _rolled_back_into_a_transaction(redis, name, _count):
    return redis.cut_aof_in_flush(name)


_run = _rolled_back(_rolled_back_by_bytes)
_run.__doc__ = "Redis is killed and its append-only file loses all that was written in the last second"
fault("empty", name="redis-rolled-back", first=True)(_run)
_run = _rolled_back(_rolled_back_into_a_transaction)
_run.__doc__ = "Redis is killed and its append-only file ends in the middle of a script's transaction"
fault("empty", name="redis-rolled-back-into-a-transaction", first=True)(_run)


def _promoted(world, lose):
    """Promote the replica. Whoever is connected to the old primary goes on talking to it for a while, and is then cut off."""
    redis = world.pipeline.redis
    if lose:
        world.link("replication", "cut")
        world.hold(0.8, 1.5)
    old = redis.promote()
    for name in ("redis", "replication"):
        world.pipeline.proxy.tell(name, to=redis.port(redis.primary))
    world.note("%s promoted" % redis.primary)
    world.kill("exporter")  # it connects to the new one, while the others are still with the old
    world.spawn("exporter")
    world.hold(0.5, 1.5)
    world.kill(old)
    world.link("replication", "pass")
    world.spawn(old)


@fault("promote", topologies=("three-pair",))
def replica_promoted(world):
    """the replica of Redis becomes the primary while programs go on writing to the old one"""
    _promoted(world, lose=False)


@fault("promote", topologies=("three-pair",), first=True)
def replica_promoted_with_lost_writes(world):
    """the same, and the replica had not got what was written in the last second"""
    _promoted(world, lose=True)


@fault("move", topologies=("one-cluster",))
def redis_slot_moved(world):
    """the slot of a shard moves to another node of the cluster, key by key, while programs read and write it"""
    moved = world.pipeline.redis.move_slot("sg:{s%d}:v" % world.random.randrange(config.SHARDS), world.random)
    world.note("%d keys from %s to %s" % moved)


@fault("fill")
def redis_full(world):
    """Redis is out of memory: it refuses every write"""
    world.pipeline.redis.set_all("maxmemory", "1")
    world.note("maxmemory 1")
    world.last(1.5, 3)
    world.pipeline.redis.set_all("maxmemory", "0")


# Ours: added, removed, too late, in each other's way.


@fault("add")
def aggregator_added_and_removed(world):
    """a second aggregator takes its part of the partitions, and ends again"""
    world.spawn("aggregator-2")
    world.pipeline.wait_ready("aggregator-2")
    world.hold(0.5, 2)
    world.process("aggregator-2").stop()
    world.note("aggregator-2 came and went")


@fault("stop", seconds=6, first=True)
def aggregator_stopped_beyond_its_session(world):
    """SIGSTOP of an aggregator for longer than its session; the other one has its partitions when it goes on"""
    world.spawn("aggregator-2")
    world.pipeline.wait_ready("aggregator-2")
    world.freeze("aggregator")
    world.hold(SESSION_S + 1, SESSION_S + 2)
    world.thaw("aggregator")
    world.hold(0.5, 1)
    world.process("aggregator-2").kill()


@fault("add", seconds=5, first=True)
def exporters_fight_for_a_shard(world):
    """a second exporter takes the shards from the first, which was stopped in the middle of it all, goes on, and takes them back"""
    world.freeze("exporter")
    world.spawn("exporter-2")
    wait_for("the second exporter to own the ledger", lambda: world.metric("exporter-2", "sandglass_exporter_shards") == 4, 60)
    world.thaw("exporter")
    world.hold(3, 5)
    world.process("exporter-2").kill()
    world.note("fenced %d times" % world.metric("exporter", "sandglass_exporter_fenced_total"))


@fault("kill", first=True)
def exporter_killed_between_request_and_answer(world):
    """kill -9 of the exporter when its request has reached Stripe and the answer has not come"""
    before = world.pipeline.proxy.tell("stripe", mode="mute")["stripe"]["swallowed"]
    wait_for("a request whose answer is lost", lambda: world.pipeline.proxy.tell()["stripe"]["swallowed"] > before, 60, pause_s=0.01)
    world.kill("exporter")
    world.link("stripe", "pass")
    world.spawn("exporter")


@fault("slow")
def stripe_in_trouble(world):
    """a third of Stripe's answers are errors or lost, before or after the effect"""
    world.stripe_faults([{"effect": effect, "commit": commit, "probability": 0.1, "path": "/v1/billing/meter_events"}
                         for effect in ("error", "reset") for commit in ("before", "after")])
    wait_for("an answer that went wrong", world.stripe_faults_fired, 60)
    world.last(2, 4)
    world.stripe_faults([])


# Disks and clocks.


def _stalled(world, runner):
    """Whether the acks of a runner stand still although it has more to say."""
    def look():
        return next((row["acked"], row["written"]) for row in world.fleet.progress()["runners"] if row["name"] == runner)

    before = look()
    time.sleep(1)
    return look()[0] == before[0] < before[1]


def _fill(path):
    """Take all room, down to the last page; most of it at one go, for the fleet does not wait."""
    with open(path, "wb", buffering=0) as file:
        room = os.statvfs(path)
        for piece in (room.f_bavail * room.f_frsize // 100 * 99, 4096):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@fault("fill", may_end=("collector",), events=60_000, seconds=5, first=True)
def collectors_disk_full(world):
    """the file system of a spool is full while Kafka is away; acks stop, and go on when there is room; also over a restart on the full disk"""
    runner = world.random.choice(world.pipeline.made["runners"])["name"]
    name, disk = "collector-" + runner, world.pipeline.path("spool", runner)
    world.hits(name)
    world.links("kafka", "cut")
    filler = os.path.join(disk, "filler")
    _fill(filler)
    wait_for("the acks to stop", lambda: _stalled(world, runner), 60)
    world.began = time.monotonic()  # until here there was room
    world.note("%s full" % disk.rpartition("/")[2])
    if world.random.random() < 0.5:
        world.kill(name)
        world.spawn(name)
        world.hold(0.5, 1)
    os.unlink(filler)
    world.links("kafka", "pass")


def _middle_record(path):
    """(offset, length) of a record of a segment behind which others stand (proto/spool.md); None when there are too few."""
    with open(path, "rb") as file:
        data = file.read()
    records, at = [], 136
    while at + 40 <= len(data) and (length := int.from_bytes(data[at:at + 4], "little")) >= 40:
        records.append((at, length))
        at += length
    return records[1 + (len(records) - 1) // 4] if len(records) >= 8 else None


@fault("damage", seconds=5, first=True)
def spool_damaged_in_the_middle(world):
    """a byte in the middle of a spool is wrong: the collector must stop and say in which file and where; with the byte put right it goes on"""
    runner = world.random.choice(world.pipeline.made["runners"])["name"]
    name, folder = "collector-" + runner, world.pipeline.path("spool", runner)
    world.links("kafka", "cut")
    world.hold(2, 3)
    world.kill(name)
    found = [(path, record) for path in sorted(os.path.join(folder, file) for file in os.listdir(folder) if file.endswith(".seg"))
             if (record := _middle_record(path))]
    if not found:
        raise HarnessError("no segment of %s has enough records" % folder)
    path, (at, length) = world.random.choice(found)
    wrong = at + world.random.randrange(40, length)
    _flip(path, wrong)
    log_from = os.path.getsize(world.process(name).log_file)
    world.spawn(name)
    world.process(name).wait_gone(20)
    with open(world.process(name).log_file, encoding="utf-8", errors="replace") as file:
        file.seek(log_from)
        told = file.read()
    if world.process(name).child.returncode != 1 or os.path.basename(path) not in told or str(at) not in told:
        raise HarnessError("damage at %d of %s was told as: %s" % (at, path, told[-500:]))
    world.note("damaged at %d of %s, told" % (at, os.path.basename(path)))
    _flip(path, wrong)
    world.spawn(name)
    world.links("kafka", "pass")


def _flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 0xFF,)))


@fault("clock", first=True)
def clock_stepped_by_an_hour(world):
    """the wall clock of one of our programs, or of all, is an hour ahead or behind, and then right again"""
    names = [name for name in world.pipeline.programs if name in world.wanted]
    chosen = names if world.random.random() < 0.5 else [world.random.choice(names)]
    step = world.random.choice((-3600, 3600))
    for name in chosen:
        world.pipeline.skew(name, step)
    world.hits(*chosen)
    world.note("%+d s for %s" % (step, "all" if len(chosen) > 1 else chosen[0]))
    world.last(2, 4)
    for name in chosen:
        world.pipeline.skew(name, 0)


def _rows_in_spool(folder):
    """Rows of the batches that are there, delivered or not."""
    argv = [tools.program("sandglass"), "spool", "dump", folder]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as dump:
        return sum(not line.startswith(b'{"kind":"batch"') for line in dump.stdout)


@fault("kill", drawn=False, seconds=AWAY_S, events=1_300_000, sandboxes=200)
def broker_away_for_ten_minutes(world):
    """Kafka is away for ten minutes, in which a million rows pile up in the spools"""
    names = world.names("kafka")
    world.kill(*names)
    back_at = time.monotonic() + AWAY_S
    while time.monotonic() < back_at:
        time.sleep(1)
        world.look_after(world.pipeline.programs)
    rows = sum(_rows_in_spool(disk) for disk in world.disks)
    world.note("%d rows in the spools" % rows)
    if rows < BACKLOG_ROWS:
        raise HarnessError("only %d rows piled up" % rows)
    world.spawn(*names)
