"""The configuration files of the local pipeline, one function a program.

A file is `key = value` lines (common/config.h): text; absolute paths; integers; durations with their unit (`200ms`, `10s`, `5m`, `30h`, `1d`);
bytes (`64k`, `256M`, `2G`); host:port lists joined by commas; `yes` and `no`; secrets as `file:PATH`. A key that may be repeated stands on a
line of its own each time (`meter`, `program`). What is left out has its default; what stands here is everything that the local pipeline sets differently or that has no
default. Topics, shards and the price book are the same in every file and are kept in one `Shared`.
"""
import dataclasses
import os

PARTITIONS = 6  # murmur2 puts r1..r4 into four different ones of six, and into two of four
SHARDS = 4
METERS = (("vcpu_ms", "set"), ("mem_mib_ms", "delta"))
TOPICS = {"events": "sandglass.events", "ledger": "sandglass.ledger", "control": "sandglass.control"}
STRIPE_KEY = "sk_test_local"
HOUR_CLOSE_DELAY_S = 60


@dataclasses.dataclass
class Shared:
    """What several programs must agree on."""
    kafka_brokers: str
    redis: str
    redis_cluster: bool
    price_book: str
    topics: dict = dataclasses.field(default_factory=lambda: dict(TOPICS))
    shards: int = SHARDS
    log_level: str = "info"
    redis_password_files: dict = dataclasses.field(default_factory=dict)  # by Redis user; empty: no users


def yes_no(flag):
    """A flag as a value."""
    return "yes" if flag else "no"


def _view(shared, user):
    """The keys of a program that reads or writes the Redis view."""
    lines = [("redis", shared.redis), ("redis_cluster", yes_no(shared.redis_cluster)), ("shards", shared.shards)]
    if user in shared.redis_password_files:
        lines += [("redis_user", user), ("redis_password", "file:" + shared.redis_password_files[user])]
    return lines


def collector(shared, *, runner, region, clock, ingest_socket, spool_dir, spool_bytes_max, cgroup_root, ops_listen):
    """sandglass-collector."""
    return [
        ("runner", runner), ("region", region), ("clock", clock),
        ("ingest_socket", ingest_socket), ("ingest_socket_mode", "0600"),
        ("spool_dir", spool_dir), ("spool_bytes_max", spool_bytes_max),
        ("kafka_brokers", shared.kafka_brokers), ("events_topic", shared.topics["events"]),
        ("cgroup_root", cgroup_root), ("seal_interval", "200ms"), ("heartbeat_interval", "2s"),
        ("ops_listen", ops_listen), ("log_level", shared.log_level),
    ]


def aggregator(shared, *, instance, ops_listen):
    """sandglass-aggregator."""
    return [
        ("instance", instance), ("kafka_brokers", shared.kafka_brokers), ("group", "sandglass-aggregator"),
        ("events_topic", shared.topics["events"]), ("ledger_topic", shared.topics["ledger"]),
        *_view(shared, "aggregator"), ("flush_interval", "500ms"),
        ("ops_listen", ops_listen), ("log_level", shared.log_level),
    ]


def exporter(shared, *, instance, cluster, stripe_url, stripe_key_file, poll_interval, ops_listen):
    """sandglass-exporter."""
    return [
        ("instance", instance), ("cluster", cluster), ("kafka_brokers", shared.kafka_brokers),
        ("ledger_topic", shared.topics["ledger"]), ("control_topic", shared.topics["control"]),
        *_view(shared, "exporter"), ("stripe_url", stripe_url), ("stripe_key", "file:" + stripe_key_file), *(("meter", name) for name, _ in METERS),
        ("hour_close_delay", "%ds" % HOUR_CLOSE_DELAY_S), ("poll_interval", poll_interval), ("archive_interval", "10s"),
        ("ops_listen", ops_listen), ("log_level", shared.log_level),
    ]


def api(shared, *, listen, ops_listen):
    """sandglass-api: plain HTTP on loopback, so neither tls_cert nor tls_key."""
    return [
        ("listen", listen), ("kafka_brokers", shared.kafka_brokers), ("control_topic", shared.topics["control"]),
        ("ledger_topic", shared.topics["ledger"]), *_view(shared, "api"), ("price_book", shared.price_book),
        ("ops_listen", ops_listen), ("log_level", shared.log_level),
    ]


def cli(shared, *, cluster, programs):
    """sandglass, the command line; `programs` is a list of (name, operations URL)."""
    return [
        ("cluster", cluster), ("kafka_brokers", shared.kafka_brokers), ("events_topic", shared.topics["events"]),
        ("ledger_topic", shared.topics["ledger"]), ("control_topic", shared.topics["control"]),
        *_view(shared, "sandglass"), ("price_book", shared.price_book),
        *(("program", "%s %s" % program) for program in programs),
    ]


def changed(lines, extra):
    """The lines of a file, with those of a pipeline's own choice in the place of, or beside, what is there: [key, value] each."""
    named = {key for key, _ in extra}
    return [line for line in lines if line[0] not in named] + [tuple(line) for line in extra]


def write_secret(path, text):
    """Write a secret to a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")


def write(path, lines):
    """Write a file of `key = value` lines, atomically."""
    new = path + ".new"
    with open(new, "w", encoding="utf-8") as file:
        file.writelines("%s = %s\n" % line for line in lines)
    os.replace(new, path)
