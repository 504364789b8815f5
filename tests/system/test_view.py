"""Redis is a view: it may lose its last second, or everything."""
import shutil
import time

from conftest import assert_exact, assert_settled, start_fleet

EVENTS = 150_000


def test_redis_without_the_last_second_of_its_append_only_file_is_exact(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=EVENTS, seconds=15)
    for _ in range(3):
        time.sleep(3)
        before = pipeline.redis.aof_end("redis")
        time.sleep(1)
        pipeline.redis.kill()
        written = pipeline.redis.aof_written("redis", since=before)
        assert pipeline.redis.cut_aof_tail("redis", max(written, 1000)) > 0
        pipeline.redis.start()
        pipeline.redis.wait_ready()
    assert_exact(pipeline, fleet)


def test_an_emptied_redis_is_rebuilt_exactly_under_load(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=EVENTS, seconds=15)
    time.sleep(6)
    pipeline.redis.flush_all()
    assert_exact(pipeline, fleet)


def test_a_redis_that_lost_its_disk_is_rebuilt_to_the_same_answers(make_pipeline):
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=EVENTS // 3)
    assert_exact(pipeline, fleet)
    usage = pipeline.cli_text("usage", "team-1", "--step", "hour", "--json")
    pipeline.redis.kill()
    shutil.rmtree(pipeline.redis.data_dir("redis"))
    pipeline.redis.start()
    pipeline.redis.wait_ready()
    assert_settled(pipeline)
    assert pipeline.cli_text("usage", "team-1", "--step", "hour", "--json") == usage
    assert_exact(pipeline, fleet)
