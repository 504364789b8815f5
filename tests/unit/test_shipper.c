/* The shipper against librdkafka's own mock brokers: order, number, doubt, absence. That a real broker de-duplicates is
 * the system tests' business (the mock does not). */
#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "collector/shipper.h"
#include "common/clock.h"
#include "tests/unit/tree_fixture.h"

enum { PRODUCE = 0, PARTITIONS = 6, PATIENCE_MS = 30000 }; /* PRODUCE: Kafka's ApiKey */

#define TOPIC "sandglass.events"

/* A spool, a shipper and a broker that is not one. */
static struct {
    char directory[64];
    struct spool spool;
    struct shipper *shipper;
    int wake_fd;
    rd_kafka_t *host; /* of the mock cluster */
    rd_kafka_mock_cluster_t *cluster;
} t;

static enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes, size_t length,
                           struct sg_fault *f)
{
    (void)arg, (void)kind, (void)seq, (void)bytes, (void)length, (void)f;
    return SG_OK;
}

static void open_spool(void)
{
    struct sg_fault f = {0};
    struct spool_options o = {.directory = t.directory, .runner = "r-1", .now = {1}, .bytes_max = 256 << 20};
    cr_assert_eq(spool_open(&t.spool, &o, apply, NULL, &f), SG_OK, "%s", f.text);
}

static void new_shipper(void)
{
    struct sg_fault f = {0};
    struct shipper_config c = {
        .brokers = rd_kafka_mock_cluster_bootstraps(t.cluster), .topic = TOPIC, .runner = "r-1", .wake_fd = t.wake_fd};
    cr_assert_eq(shipper_new(&t.shipper, &c, &t.spool, &f), SG_OK, "%s", f.text);
}

static void begin(void)
{
    snprintf(t.directory, sizeof t.directory, P_tmpdir "/sandglass-shipper-XXXXXX");
    cr_assert(mkdtemp(t.directory));
    t.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    t.host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    t.cluster = rd_kafka_mock_cluster_new(t.host, 1);
    cr_assert(t.cluster);
    cr_assert_eq(rd_kafka_mock_topic_create(t.cluster, TOPIC, PARTITIONS, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    open_spool();
    new_shipper();
}

static void end(void)
{
    shipper_free(t.shipper);
    spool_close(&t.spool);
    rd_kafka_mock_cluster_destroy(t.cluster);
    rd_kafka_destroy(t.host);
    close(t.wake_fd);
    remove_tree(t.directory);
}

TestSuite(shipper, .init = begin, .fini = end, .timeout = 120);

/* Batch seq says its number; its length varies. */
static void commit(uint64_t count)
{
    struct sg_fault f = {0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t seq = spool_last_seq(&t.spool) + 1;
        uint8_t batch[4096] = {0};
        memcpy(batch, &seq, sizeof seq);
        cr_assert_eq(spool_append(&t.spool, batch, 8 + seq * 131 % 4000, NULL, 0, &f), SG_OK, "%s", f.text);
    }
    cr_assert_eq(spool_sync(&t.spool, &f), SG_OK);
}

/* Turns as the collector's loop does, until `seq` is delivered; false when patience ends. */
static bool deliver(uint64_t seq, uint64_t patience_ms)
{
    struct sg_fault f = {0};
    uint64_t until = clock_boot().v + patience_ms;
    while (spool_delivered_seq(&t.spool) < seq) {
        struct boot_ms now = clock_boot(), next;
        if (now.v >= until) return false;
        cr_assert_eq(shipper_step(t.shipper, now, &next, &f), SG_OK, "%s", f.text);
        uint64_t wait_ms = clock_since(next, now) < until - now.v ? clock_since(next, now) : until - now.v;
        struct pollfd p = {.fd = t.wake_fd, .events = POLLIN};
        if (spool_delivered_seq(&t.spool) < seq && poll(&p, 1, (int)wait_ms) > 0) {
            uint64_t n;
            cr_assert_eq(read(t.wake_fd, &n, sizeof n), (ssize_t)sizeof n);
        }
    }
    return true;
}

static struct shipper_status status(void)
{
    struct shipper_status s;
    shipper_status(t.shipper, clock_boot(), &s);
    return s;
}

/* Reads the topic: every number from 1 to last must occur, first occurrences in order, all in murmur2's partition. */
static void expect_topic(uint64_t last, bool once)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(t.cluster), NULL, 0);
    rd_kafka_conf_set(conf, "group.id", "test", NULL, 0);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, NULL, 0);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++)
        rd_kafka_topic_partition_list_add(all, TOPIC, p)->offset = RD_KAFKA_OFFSET_BEGINNING;
    cr_assert_eq(rd_kafka_assign(rk, all), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(all);
    uint64_t seen = 0, until = clock_boot().v + PATIENCE_MS;
    while (seen < last && clock_boot().v < until) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 200);
        if (m && !m->err) {
            uint64_t seq;
            memcpy(&seq, m->payload, sizeof seq);
            cr_assert_leq(seq, seen + 1, "batch %lu after %lu", seq, seen);
            if (once) cr_assert_eq(seq, seen + 1);
            cr_assert_eq(m->len, 8 + seq * 131 % 4000);
            cr_assert_eq(m->partition, rd_kafka_msg_partitioner_murmur2(NULL, "r-1", 3, PARTITIONS, NULL, NULL));
            cr_assert(m->key_len == 3 && !memcmp(m->key, "r-1", 3));
            if (seq > seen) seen = seq;
        }
        if (m) rd_kafka_message_destroy(m);
    }
    cr_assert_eq(seen, last);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

Test(shipper, batches_arrive_once_in_order_in_the_runners_partition)
{
    commit(500);
    cr_assert(deliver(500, PATIENCE_MS));
    commit(3);
    cr_assert(deliver(503, PATIENCE_MS));
    cr_assert_eq(status().lag_batches, 0);
    cr_assert_eq(status().delivered, 503);
    cr_assert_eq(status().restarts, 0);
    cr_assert_null(status().fault);
    expect_topic(503, true);
}

Test(shipper, a_delivery_error_replaces_the_producer_and_nothing_is_lost)
{
    commit(20);
    cr_assert(deliver(20, PATIENCE_MS));
    rd_kafka_mock_push_request_errors(t.cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS);
    commit(200);
    cr_assert(deliver(220, PATIENCE_MS));
    cr_assert_geq(status().restarts, 1);
    expect_topic(220, false);
}

Test(shipper, a_fatal_error_replaces_the_producer_and_nothing_is_lost)
{
    commit(20);
    cr_assert(deliver(20, PATIENCE_MS));
    rd_kafka_mock_push_request_errors(t.cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    commit(200);
    cr_assert(deliver(220, PATIENCE_MS));
    cr_assert_geq(status().restarts, 1);
    expect_topic(220, false);
}

Test(shipper, an_absent_broker_holds_everything_back_and_is_named)
{
    commit(5);
    cr_assert(deliver(5, PATIENCE_MS));
    cr_assert_eq(rd_kafka_mock_broker_set_down(t.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    commit(300);
    cr_assert_not(deliver(305, 2500));
    cr_assert_not_null(status().fault);
    cr_assert_gt(status().lag_batches, 0);
    cr_assert_geq(status().lag_age_ms, 1000);
    cr_assert_leq(status().sent - status().delivered, SHIPPER_WINDOW_MESSAGES);
    cr_assert_eq(rd_kafka_mock_broker_set_up(t.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert(deliver(305, PATIENCE_MS));
    cr_assert_null(status().fault);
    expect_topic(305, false);
}

Test(shipper, a_broker_that_is_absent_from_the_start_blocks_nobody)
{
    cr_assert_eq(rd_kafka_mock_broker_set_down(t.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    commit(3);
    struct sg_fault f = {0};
    struct boot_ms next;
    for (int i = 0; i < 100; i++) {
        struct boot_ms before = clock_boot();
        cr_assert_eq(shipper_step(t.shipper, before, &next, &f), SG_OK);
        cr_assert_lt(clock_since(clock_boot(), before), 500);
    }
    cr_assert_not(deliver(1, 2000));
    cr_assert_not_null(status().fault);
    cr_assert_eq(rd_kafka_mock_broker_set_up(t.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert(deliver(3, PATIENCE_MS));
    expect_topic(3, true);
}

Test(shipper, a_restarted_collector_goes_on_where_kafka_is)
{
    commit(50);
    cr_assert(deliver(50, PATIENCE_MS));
    shipper_free(t.shipper);
    spool_close(&t.spool);
    open_spool();
    cr_assert_eq(spool_delivered_seq(&t.spool), 50);
    new_shipper();
    commit(50);
    cr_assert(deliver(100, PATIENCE_MS));
    expect_topic(100, true);
}

Test(shipper, a_refused_property_is_named_without_its_value)
{
    struct sg_fault f = {0};
    struct shipper *other;
    const char *kafka[] = {"sasl.mechanism.of.no.kind", "canary-7731", NULL};
    struct shipper_config c = {.brokers = "127.0.0.1:1", .topic = TOPIC, .runner = "r-1", .kafka = kafka};
    cr_assert_eq(shipper_new(&other, &c, &t.spool, &f), SG_ERR_CONFIG);
    cr_assert(strstr(f.text, "sasl.mechanism.of.no.kind"));
    cr_assert_not(strstr(f.text, "canary"));
}
