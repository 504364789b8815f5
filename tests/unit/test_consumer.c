/* The member of the consumer group against a broker of librdkafka's own making. */
#include "aggregator/rollup/consumer.h"

#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "common/clock.h"

enum { PARTITIONS = 6, ASSIGNED_MS = 30 * 1000, HAMMERED_MS = 3 * 1000, POLL_MS = 2, POLLS = 20 };

static rd_kafka_t *holder;
static rd_kafka_mock_cluster_t *cluster;
static struct consumer *consumer;
static struct sg_fault fault;

static struct consumer_event poll_once(uint32_t timeout_ms)
{
    struct consumer_event event;
    cr_assert_eq(consumer_poll(consumer, timeout_ms, &event, &fault), SG_OK, "%s", fault.text);
    consumer_event_done(&event);
    return event;
}

static void setup(void)
{
    char why[256];
    holder = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    cluster = rd_kafka_mock_cluster_new(holder, 1);
    cr_assert(cluster);
    cr_assert_eq(rd_kafka_mock_topic_create(cluster, "events", PARTITIONS, 1), 0);
    const struct consumer_config config = {.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                           .group = "group",
                                           .instance = "aggregator-1",
                                           .topic = "events"};
    cr_assert_eq(consumer_new(&consumer, &config, &fault), SG_OK, "%s", fault.text);
    uint64_t until = clock_boot().v + ASSIGNED_MS;
    while (poll_once(100).kind != CONSUMER_ASSIGNMENT) cr_assert_lt(clock_boot().v, until, "never assigned");
}

static void teardown(void)
{
    consumer_free(consumer);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(holder);
}

TestSuite(consumer, .init = setup, .fini = teardown, .timeout = 120);

Test(consumer, has_every_partition_of_its_topic)
{
    size_t count;
    const uint32_t *partitions = consumer_partitions(consumer, &count);
    cr_assert_eq(count, PARTITIONS);
    for (size_t i = 0; i < count; i++) cr_assert_eq(partitions[i], i);
}

/* An assignment that overtakes the end of the one before makes librdkafka abort. */
Test(consumer, may_be_parked_and_placed_as_fast_as_it_goes)
{
    const uint64_t offsets[PARTITIONS] = {0};
    uint64_t until = clock_boot().v + HAMMERED_MS;
    while (clock_boot().v < until) {
        cr_assert_eq(consumer_place(consumer, offsets, &fault), SG_OK, "%s", fault.text);
        for (int i = 0; i < POLLS; i++) (void)poll_once(POLL_MS); /* until it reads */
        consumer_park(consumer);
        cr_assert_eq(consumer_place(consumer, offsets, &fault), SG_OK, "%s", fault.text);
        consumer_park(consumer);
    }
}
