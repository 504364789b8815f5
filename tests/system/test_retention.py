"""The log forgets: what was archived outlives it, what nobody has any more is told as a loss, and only that."""
from conftest import CUSTOMERS, assert_exact, assert_settled
from harness import settle
from harness.fleet import Fleet
from harness.pipeline import metric
from harness.process import wait_for

HOUR_MS = 3_600_000
START_MS = 1_763_942_400_000  # midnight
LATER_MS = START_MS + 72 * HOUR_MS
NEVER = 10 ** 12
STOP, CONT = 19, 18


def log_lost(pipeline):
    """How many offsets the aggregator says that it has missed."""
    return metric(pipeline.ops_url("aggregator"), "sandglass_aggregator_log_lost_total")


def run_fleet(pipeline, name, start_ms):
    """Usage of six hours by sandboxes that end."""
    fleet = Fleet(pipeline, name)
    fleet.start(teams=4, sandboxes=200, events=20_000, seed=start_ms // HOUR_MS, start=start_ms, span_ms=6 * HOUR_MS, all_end=True)
    fleet.finish()
    return fleet


def test_what_the_log_has_forgotten_is_in_the_archive_or_told(make_pipeline):
    pipeline = make_pipeline()
    topic = pipeline.made["topics"]["events"]
    for team, customer in CUSTOMERS.items():
        pipeline.set_account(team, customer)
    first = run_fleet(pipeline, "first", START_MS)
    assert_settled(pipeline)
    ends = pipeline.kafka.end_offsets(topic)
    second = run_fleet(pipeline, "second", LATER_MS)  # with it the days of the first are over
    assert_settled(pipeline)
    wait_for("the first one's windows to be archived", lambda: not settle.unarchived(pipeline, START_MS + 48 * HOUR_MS), 60, pause_s=0.5)
    wait_for("the archived marks to reach as far", lambda: settle.archived_to(pipeline, ends), 60, pause_s=1)
    pipeline.kafka.forget_below(topic, ends)
    pipeline.programs["aggregator"].kill()
    pipeline.redis.flush_all()
    pipeline.restart("aggregator")
    assert_exact(pipeline, first, second, minutes_from=NEVER)
    assert log_lost(pipeline) == 0
    before = pipeline.kafka.end_offsets(topic)

    pipeline.programs["aggregator"].signal(STOP)
    run_fleet(pipeline, "third", LATER_MS + 24 * HOUR_MS)
    wait_for("the log to have it", lambda: not settle.unsent(pipeline), 30)
    ends = pipeline.kafka.end_offsets(topic)
    pipeline.kafka.forget_below(topic, ends)
    pipeline.programs["aggregator"].signal(CONT)
    wait_for("the loss to be told", lambda: "log-lost: " in settle.told(pipeline, "aggregator"), 30)
    forgotten = sum(ends.values()) - sum(before.values())
    assert forgotten / 2 < log_lost(pipeline) <= forgotten
    wait_for("the rest to go on", lambda: not settle.not_rolled_up(pipeline, pipeline.kafka.end_offsets(topic)), 30)
    wait_for("a green aggregator", lambda: not settle.told(pipeline, "aggregator"), 40)
