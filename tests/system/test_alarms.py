"""What an operator is told of that no other test brings about: somebody else's hand in Stripe, in Redis, in the control topic."""
import hashlib
import subprocess

from conftest import CUSTOMERS, assert_exact, due_hours, fleet_without_exporter, start_fleet, write_to_meter
from harness import settle
from harness.pipeline import metric
from harness.process import wait_for


def _counter(pipeline, name):
    return metric(pipeline.ops_url("exporter"), name)


def _identifier(customer, hour):
    """Of the first revision of an hour (proto/ledger.md)."""
    text = "sandglass-1\nmain\nset\nvcpu_ms\n%s\n%d\n1" % (customer, hour)
    return "sg1-" + hashlib.sha256(text.encode("ascii")).hexdigest()


def test_an_identifier_that_stripe_knew_before_is_counted(make_pipeline):
    pipeline = make_pipeline()
    fleet_without_exporter(pipeline)
    _, team, hour = min(due_hours(pipeline))
    customer = CUSTOMERS[team.decode("ascii")]
    write_to_meter(pipeline, "vcpu_ms", customer, 1, int(hour) + 1800, identifier=_identifier(customer, int(hour)))
    pipeline.spawn("exporter")
    wait_for("every hour to be billed", lambda: not due_hours(pipeline), 60)
    assert _counter(pipeline, "sandglass_exporter_first_duplicates_total") == 1


def test_a_total_below_what_is_accounted_for_is_counted_and_not_billed(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=10_000)
    assert_exact(pipeline, fleet)
    assert _counter(pipeline, "sandglass_exporter_lower_totals_total") == 0
    key, (partition, cell) = next((key, fields) for key in sorted(pipeline.redis.keys()) if b":u:h:" in key and key.split(b":")[5].decode("ascii") in CUSTOMERS
                                  for fields in pipeline.redis.hashes([key])[key].items() if b" vcpu_ms=" in fields[1])
    shard, hour, team = key.split(b":u:h:")[0], *key.split(b":")[4:6]
    words = [b"vcpu_ms=1" if word.startswith(b"vcpu_ms=") else word for word in cell.split(b" ")]
    intents = _counter(pipeline, "sandglass_exporter_intents_total")
    pipeline.redis.many([("HSET", key, partition, b" ".join(words)),
                         ("HSET", shard + b":due", b"%s:%s:%s" % (team, hour, partition), cell.split(b" ")[0].lstrip(b"@"))])
    wait_for("it to be counted", lambda: _counter(pipeline, "sandglass_exporter_lower_totals_total") > 0, 30)
    assert _counter(pipeline, "sandglass_exporter_intents_total") == intents
    pipeline.redis.many([("HSET", key, partition, cell)])
    assert_exact(pipeline, fleet)


def test_a_record_that_breaks_the_chain_of_control_is_told_by_all_who_read_it(make_pipeline):
    pipeline = make_pipeline()
    team, customer = next(iter(CUSTOMERS.items()))
    pipeline.set_account(team, customer)
    subprocess.run(["kcat", "-P", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["control"], "-p", "0"], input=b"no fact", check=True)
    for program in ("exporter", "api"):
        wait_for(program + " to tell of it", lambda: "control: " in settle.told(pipeline, program), 10)
    key = pipeline.cli("key", "create", team, "--role", "customer")
    assert key.returncode != 0 and "control record" in key.stderr
    assert "control record" in pipeline.cli("control", "verify").stderr
