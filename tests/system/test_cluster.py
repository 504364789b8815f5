"""A Redis Cluster of three, and a Kafka of three with replication."""
import time

from conftest import assert_exact, start_fleet


def test_a_redis_cluster_of_three_is_exact_while_its_nodes_die(make_pipeline):
    pipeline = make_pipeline(redis="cluster")
    fleet = start_fleet(pipeline, events=150_000, seconds=15)
    for name in pipeline.redis.nodes:
        time.sleep(2)
        pipeline.restart(name)
    pipeline.restart("aggregator")
    assert_exact(pipeline, fleet)


def test_a_kafka_of_three_is_exact_while_one_broker_after_the_other_dies(make_pipeline):
    pipeline = make_pipeline(kafka_nodes=3, runners=2)
    fleet = start_fleet(pipeline, events=150_000, seconds=25)
    for name in ("kafka-1", "kafka-2"):
        time.sleep(1)
        pipeline.kafka.nodes[name].kill()
        time.sleep(4)
        pipeline.spawn(name)
        pipeline.kafka.wait_ready(90)
    assert_exact(pipeline, fleet)


def test_the_shipped_users_of_redis_have_the_rights_they_need(make_pipeline):
    pipeline = make_pipeline(redis="cluster", redis_users=True)
    fleet = start_fleet(pipeline, events=30_000)
    assert_exact(pipeline, fleet)
    pipeline.redis.flush_all()
    assert_exact(pipeline, fleet)
