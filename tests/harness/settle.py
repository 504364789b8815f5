"""Whether everything that was acked has arrived: judged from Kafka's ends, the view's own positions and Stripe's books, not from what our
programs say about themselves (except for a collector's lag: only it knows what is still in its spool).

Settled is, in this order: no collector has anything left to send; the vector of every shard knows of every partition and stands at or beyond
its end as of then; for every hour that is closed by its shard's watermark, the double bills what the rollups say, for every team with a customer,
and the exporter has written down that it was so; and no other hour is billed, for a watermark that a rebuild begins anew is not in yet. Keys and texts: proto/redis.md, proto/ledger.md, proto/control.md.
"""
import json
import re
import subprocess
import time

from . import config
from .pipeline import http_get
from .redis import RedisError

HOUR_S = 3600
GRACE_MS = 600_000
STRIPE_VALUE_MAX = 10 ** 15 - 1
STEADY_S = 0.4


def health(pipeline, name):
    """A program's health report; None when it does not answer."""
    status, body = http_get(pipeline.ops_url(name) + "/healthz", 2)
    try:
        return json.loads(body) if status in (200, 503) else None
    except ValueError:
        return None


def told(pipeline, name):
    """What a program says is wrong; "" when nothing is."""
    report = health(pipeline, name)
    return (report["reason"] or "") if report else "no answer"


def unsent(pipeline):
    """Reasons why acked events may still be in a spool."""
    reasons = []
    for name in pipeline.programs:
        if name.startswith("collector-"):
            report = health(pipeline, name)
            if report is None:
                reasons.append("%s does not answer" % name)
            elif report["lag"]:
                reasons.append("%s has %d to send" % (name, report["lag"]))
    return reasons


class Shard:
    """What one shard's vector says."""

    def __init__(self, entries):
        self.offsets, watermarks = {}, []
        for partition, entry in entries.items():
            words = entry.decode("ascii").split()
            offset, heard = int(words[0]), int(words[1])
            pairs = [tuple(map(int, word.split("@"))) for word in words[2:]]
            self.offsets[int(partition)] = offset
            watermarks.extend(ct for ct, last in pairs if last >= heard - GRACE_MS)
        self.whole = len(self.offsets) == config.PARTITIONS
        self.watermark_ms = 0 if not self.whole else min(watermarks) if watermarks else None  # None: nothing to wait for

    def closed(self, hour):
        """Whether that hour is closed in the local pipeline."""
        limit_ms = (hour + HOUR_S + config.HOUR_CLOSE_DELAY_S) * 1000
        return self.watermark_ms is None or self.watermark_ms >= limit_ms


def shards(pipeline):
    """The shards of the view, by number."""
    keys = {number: b"sg:{s%d}:v" % number for number in range(config.SHARDS)}
    vectors = pipeline.redis.hashes(keys.values())
    return {number: Shard(vectors[key]) for number, key in keys.items()}


def not_rolled_up(pipeline, ends):
    """Reasons why something below those ends of the events topic is not in the view."""
    reasons = []
    for number, shard in shards(pipeline).items():
        behind = sum(max(0, end - shard.offsets.get(partition, 0)) for partition, end in ends.items())
        if not shard.whole:
            reasons.append("shard %d knows of %d partitions" % (number, len(shard.offsets)))
        elif behind:
            reasons.append("shard %d is %d behind" % (number, behind))
    return reasons


def accounts(pipeline):
    """{team: customer} as the control topic has it."""
    done = subprocess.run(["kcat", "-C", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["control"], "-o", "beginning", "-e", "-q",
                           "-X", "isolation.level=read_committed"], capture_output=True, text=True, timeout=30, check=True)
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    return {fact["team"]: fact["customer"] for fact in facts if fact["fact"] == "account_set"}


def _words(text):
    """The name=value words of a cell's or a bill's text."""
    return {name: value for name, _, value in (word.partition("=") for word in text.decode("ascii").split()[1:])}


def hour_rollups(pipeline, teams):
    """{(shard, team, hour): {meter: total}} of these teams over all projects and regions, straight from the view."""
    places = [(number, team) for number in range(config.SHARDS) for team in sorted(teams)]
    indexes = pipeline.redis.many([("ZRANGE", "sg:{s%d}:ux:h:%s" % place, 0, -1) for place in places])
    keys = {}
    for (number, team), members in zip(places, indexes):
        for member in members:
            hour, project, region = member.decode("ascii").split(":")
            keys["sg:{s%d}:u:h:%s:%s:%s:%s" % (number, hour, team, project, region)] = (number, team, int(hour))
    totals = {}
    for key, cells in pipeline.redis.hashes(keys).items():
        sums = totals.setdefault(keys[key], {})
        for cell in cells.values():
            for meter, value in _words(cell).items():
                sums[meter] = sums.get(meter, 0) + int(value)
    return totals


def _books(pipeline, teams):
    """{(shard, team, hour, meter): total} that the exporter has written down as accounted for."""
    totals = {}
    keys = {b"sg:{s%d}:bill:%s" % (number, team.encode("ascii")): (number, team) for number, team in teams}
    for key, fields in pipeline.redis.hashes(keys).items():
        for field, text in fields.items():
            hour, _, meter = field.decode("ascii").partition(":")
            words = _words(text)
            if words.get("state") == "accepted":
                totals[(*keys[key], int(hour), meter)] = int(words["total"])
    return totals


def unbilled(pipeline, customers):
    """Reasons why a closed hour of these teams, {team: customer}, is not, or not exactly, what Stripe would bill."""
    reasons, billed, state = [], pipeline.billed(), shards(pipeline)
    rollups = hour_rollups(pipeline, customers)
    books = _books(pipeline, {(number, team) for number, team, _ in rollups})
    for (number, team, hour), sums in rollups.items():
        if not state[number].closed(hour):
            # A runner holds hours back from the moment at which the view knows of it: the cells of its very first batches may be seen a moment earlier.
            reasons.extend("%s of hour %d: not closed, and %d of %d billed" % (meter, hour, billed[customers[team], meter, hour], sums.get(meter, 0))
                           for meter, _ in config.METERS if billed.get((customers[team], meter, hour), 0) > sums.get(meter, 0))
            continue
        for meter, _ in config.METERS:
            wanted, has = sums.get(meter, 0), billed.get((customers[team], meter, hour), 0)
            if wanted > STRIPE_VALUE_MAX:
                continue  # held, for people to see
            if wanted != has:
                reasons.append("%s of hour %d: %d of %d billed" % (meter, hour, has, wanted))
            elif wanted and books.get((number, team, hour, meter)) != wanted:
                reasons.append("%s of hour %d: billed, and not written down yet" % (meter, hour))
    return reasons


def unarchived(pipeline, before_ms, kinds=b"hd"):
    """Whether windows of these kinds that begin before then wait for the archive."""
    hashes = pipeline.redis.hashes([b"sg:{s%d}:arch" % number for number in range(config.SHARDS)])
    return any(field[:1] in kinds and int(field.split(b":")[1]) * 1000 < before_ms for fields in hashes.values() for field in fields)


def archived_to(pipeline, ends):
    """Whether the newest archived marks reach those ends of the events topic."""
    text = subprocess.run(["kcat", "-C", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["ledger"], "-o", "beginning", "-e", "-q",
                           "-X", "isolation.level=read_committed"], capture_output=True, timeout=30, check=True).stdout.decode()
    reach = {}
    for partition, fields in re.findall(r'"archive_marks","at":\d+,"partition":(\d+),"part":\d+}\n([^{]*)', text):
        at = re.search(r"^at\t(\d+)$", fields, re.MULTILINE)
        if at:
            reach[int(partition)] = max(reach.get(int(partition), 0), int(at[1]))
    return all(reach.get(partition, 0) >= end for partition, end in ends.items())


def settle(pipeline, timeout_s, report=lambda text: None, customers=None):
    """Wait until all is settled; the reasons why it is not, when time is up. Who has no `customers` to tell finds them in the control topic."""
    deadline, reasons = time.monotonic() + timeout_s, ["nothing looked at yet"]
    ends, steady_since = None, None
    while True:
        try:
            if ends is None:
                reasons = unsent(pipeline)
                steady_since = None if reasons else steady_since or time.monotonic()
                if steady_since is not None and time.monotonic() - steady_since >= STEADY_S:
                    ends = pipeline.kafka.end_offsets(pipeline.made["topics"]["events"])
            if ends is not None:
                reasons = not_rolled_up(pipeline, ends) or unbilled(pipeline, customers or accounts(pipeline))
                if not reasons:
                    return []
        except (OSError, RedisError, KeyError, subprocess.SubprocessError) as error:
            reasons = ["%s: %s" % (type(error).__name__, error)]
        report(reasons[0] if reasons else "")
        if time.monotonic() >= deadline:
            return reasons or ["still waiting for a steady state"]
        time.sleep(0.1)
