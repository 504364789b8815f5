"""Fixtures of the system tests: pipelines of real programs, in folders of their own, gone afterwards.

Most of a test's time is waiting, so several run side by side (pytest -n 2 --dist loadgroup): nothing is shared between two tests but what a
module's fixture gives, and those of one module are one group.
"""
import os
import shutil
import urllib.parse
import urllib.request

import pytest

from harness import config, process, proof, settle, tools
from harness.fleet import Fleet
from harness.lone_collector import LoneCollector
from harness.pipeline import Pipeline

SETTLE_S = 180
CUSTOMERS = {"team-1": "cus_one", "team-2": "cus_two", "team-3": "cus_three"}  # team-4 has none: pending
FIRST = ("test_outage", "test_inject", "test_kill", "test_cluster", "test_rebuild", "test_view")  # the longest, so that all workers end together


def pytest_configure():
    """One worker of several takes ports that the others do not."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        worker, workers = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        share, shares = process.port_share()
        os.environ["SANDGLASS_PORTS"] = "%d/%d" % (share + shares * worker, shares * workers)


def pytest_collection_modifyitems(items):
    """The order of running."""
    items.sort(key=lambda item: FIRST.index(item.module.__name__) if item.module.__name__ in FIRST else len(FIRST) + ("ingest" in item.module.__name__))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Remember the outcome, for the fixture that cleans up."""
    outcome = yield
    if call.when == "call":
        item.passed = outcome.get_result().passed


@pytest.fixture
def make_pipeline(request):
    """A function that makes, starts and returns a pipeline; all end with the test. Its folder stays when the test failed."""
    made = []

    def make(start=True, **options):
        name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:40]
        folder = os.path.join(tools.STATE, "system", "%s-%d-%d" % (name, os.getpid(), len(made)))
        shutil.rmtree(folder, ignore_errors=True)
        options.setdefault("clock", "event")
        pipeline = Pipeline.create(folder, bound=True, **options)
        made.append(pipeline)
        if start:
            pipeline.start()
        return pipeline

    yield make
    for pipeline in made:
        pipeline.kill()
        if getattr(request.node, "passed", False):
            shutil.rmtree(pipeline.folder)
        else:
            print("logs and data: " + pipeline.folder)


@pytest.fixture
def pipeline(make_pipeline):
    """One runner, event time."""
    return make_pipeline()


@pytest.fixture
def make_collector(tmp_path):
    """A function that starts and returns a collector without anything behind it; all end with the test."""
    made = []

    def make(**settings):
        made.append(LoneCollector(tmp_path / str(len(made)), **settings))
        return made[-1].start()

    yield make
    for collector in made:
        collector.kill()


@pytest.fixture
def collector(make_collector):
    """One of them, with clock = event."""
    return make_collector()


def start_fleet(pipeline, **options):
    """Accounts, and a fleet of four teams that runs."""
    for team, customer in CUSTOMERS.items():
        pipeline.set_account(team, customer)
    fleet = Fleet(pipeline)
    fleet.start(**{"teams": 4, "sandboxes": 200, "bad_percent": 1, **options})
    return fleet


def write_to_meter(pipeline, meter, customer, value, timestamp, **more):
    """A meter event that is not our exporter's."""
    fields = {"event_name": meter, "payload[stripe_customer_id]": customer, "payload[value]": value, "timestamp": timestamp, **more}
    request = urllib.request.Request(pipeline.stripe_url + "/v1/billing/meter_events", data=urllib.parse.urlencode(fields).encode(),
                                     headers={"Authorization": "Bearer " + config.STRIPE_KEY})
    urllib.request.urlopen(request, timeout=5).close()


def due_hours(pipeline):
    """{(shard, team, hour)} of what is closed, due and can be billed, and of fields of `due` that are none."""
    shards, left = settle.shards(pipeline), set()
    keys = {shard: b"sg:{s%d}:due" % shard for shard in shards}
    found = pipeline.redis.hashes(keys.values())
    for shard, field in ((shard, field) for shard, key in keys.items() for field in found[key]):
        team, _, rest = field.partition(b":")
        hour = rest.split(b":")[0]
        if not hour or (team.decode("ascii") in CUSTOMERS and shards[shard].closed(int(hour))):
            left.add((shard, team, hour))
    return left


def fleet_without_exporter(pipeline):
    """Everything that a fleet has sent is rolled up, and nothing of it is billed."""
    pipeline.programs["exporter"].kill()
    fleet = start_fleet(pipeline, events=20_000)
    fleet.finish()
    process.wait_for("the spools to be empty", lambda: not settle.unsent(pipeline), 60)
    ends = pipeline.kafka.end_offsets(pipeline.made["topics"]["events"])
    process.wait_for("all of it to be rolled up", lambda: not settle.not_rolled_up(pipeline, ends), 60)
    return fleet


def assert_settled(pipeline):
    """Everything acked is rolled up, everything closed is billed."""
    reasons = settle.settle(pipeline, SETTLE_S)
    assert not reasons, reasons


def assert_exact(pipeline, *fleets, **how):
    """The fleets end well, and all books agree to the unit. `how`: of proof.prove."""
    for fleet in fleets:
        fleet.finish()
    assert_settled(pipeline)
    result = proof.prove(pipeline, [fleet.expect_file for fleet in fleets], CUSTOMERS, **how)
    text = proof.table(result)
    print(text)
    assert result.exact, text
