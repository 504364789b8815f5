/* The floor of the aggregator: drains the events topic, unpacks every batch and sums its slices, without any guarantee.
 * No check of what it reads, no keys, no windows, no Redis, no position.
 *
 * usage: drain_floor BROKERS TOPIC PARTITIONS
 * Reads every partition from its beginning to its present end, with the aggregator's fetch settings; prints rows and
 * seconds (from the first message on) and CPU-seconds (all threads, from the start on) as a line of JSON. */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "batch.pb-c.h"
#include "bench/measure.h"

enum { ARENA_BYTES = 16 << 20, ARENA_ALIGN = 16, MESSAGES = 256, WAIT_MS = 1000, START_WAIT_MS = 20000 };

static const char *const properties[] = {"group.id",
                                         "drain-floor",
                                         "enable.auto.commit",
                                         "false",
                                         "enable.partition.eof",
                                         "true",
                                         "isolation.level",
                                         "read_committed",
                                         "check.crcs",
                                         "true",
                                         "queued.min.messages",
                                         "1000000",
                                         "queued.max.messages.kbytes",
                                         "65536",
                                         "fetch.message.max.bytes",
                                         "2097152",
                                         "fetch.wait.max.ms",
                                         "50",
                                         NULL};

struct arena {
    uint8_t *bytes;
    size_t used;
};

struct sums {
    uint64_t rows, vcpu_ms, mem_mib_ms, disk_mib_ms, running_ms, rises;
};

static void *arena_alloc(void *arg, size_t size)
{
    struct arena *a = arg;
    size_t rounded = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (rounded > ARENA_BYTES - a->used) return NULL;
    void *p = a->bytes + a->used;
    a->used += rounded;
    return p;
}

static void arena_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

static void die(const char *what)
{
    fprintf(stderr, "drain_floor: %s\n", what);
    exit(EXIT_FAILURE);
}

static uint64_t column_sum(const uint64_t *column, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += column[i];
    return sum;
}

static void add_batch(struct sums *s, const Sandglass__V1__Batch *b)
{
    const Sandglass__V1__Slices *l = b->slices;
    const Sandglass__V1__Sandboxes *x = b->sandboxes;
    s->rows += (l ? l->n_sandbox : 0) + (b->starts ? b->starts->n_sandbox : 0) +
               (b->states ? b->states->n_sandbox : 0) + (b->ends ? b->ends->n_sandbox : 0) +
               (b->execs ? b->execs->n_sandbox : 0) + (b->api_calls ? b->api_calls->n_team : 0) +
               (b->capacities ? b->capacities->n_at_ms : 0) + (b->gaps ? b->gaps->n_from_ms : 0);
    if (!l) return;
    for (size_t i = 0; i < l->n_length_ms; i++) {
        uint32_t sandbox = l->sandbox[i], length = l->length_ms[i];
        s->running_ms += length;
        if (x->n_vcpus) s->vcpu_ms += (uint64_t)length * x->vcpus[sandbox];
        if (x->n_mem_mib) s->mem_mib_ms += (uint64_t)length * x->mem_mib[sandbox];
        if (x->n_disk_mib) s->disk_mib_ms += (uint64_t)length * x->disk_mib[sandbox];
    }
    s->rises += column_sum(l->cpu_us, l->n_cpu_us) + column_sum(l->net_rx_bytes, l->n_net_rx_bytes) +
                column_sum(l->net_tx_bytes, l->n_net_tx_bytes) + column_sum(l->io_read_bytes, l->n_io_read_bytes) +
                column_sum(l->io_write_bytes, l->n_io_write_bytes);
}

static rd_kafka_t *consume_from_beginning(const char *brokers, const char *topic, int partitions)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why)) die("brokers");
    for (const char *const *p = properties; *p; p += 2)
        if (rd_kafka_conf_set(conf, p[0], p[1], why, sizeof why)) die(p[0]);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!rk) die("no consumer");
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(rk, all)) die("no assignment");
    rd_kafka_topic_partition_list_destroy(all);
    return rk;
}

/* True at the end of a partition. */
static bool take(struct sums *s, struct arena *arena, const rd_kafka_message_t *m)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) return true;
    if (m->err) die("a message could not be read");
    arena->used = 0;
    const Sandglass__V1__Batch *b = sandglass__v1__batch__unpack(&allocator, m->len, m->payload);
    if (!b) die("a message is no batch");
    add_batch(s, b);
    return false;
}

int main(int argc, char **argv)
{
    static rd_kafka_message_t *messages[MESSAGES];
    struct sums s = {0};
    struct arena arena = {malloc(ARENA_BYTES), 0};
    int ended = 0, partitions = argc == 4 ? (int)strtol(argv[3], NULL, 10) : 0;
    uint64_t began = 0;
    if (partitions <= 0 || !arena.bytes) die("usage: drain_floor BROKERS TOPIC PARTITIONS");
    rd_kafka_t *rk = consume_from_beginning(argv[1], argv[2], partitions);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    while (ended < partitions) {
        ssize_t count =
            rd_kafka_consume_batch_queue(queue, began ? WAIT_MS : START_WAIT_MS, messages, began ? MESSAGES : 1);
        if (count < 0 || (count == 0 && !began)) die("nothing came");
        if (!began) began = measure_wall_ns();
        for (ssize_t i = 0; i < count; i++) {
            ended += take(&s, &arena, messages[i]);
            rd_kafka_message_destroy(messages[i]);
        }
    }
    uint64_t cpu = measure_cpu_ns(), wall = measure_wall_ns() - began;
    printf("{\"rows\":%" PRIu64 ",\"cpu_s\":%.6f,\"seconds\":%.6f,\"vcpu_ms\":%" PRIu64 ",\"mem_mib_ms\":%" PRIu64
           ",\"disk_mib_ms\":%" PRIu64 ",\"running_ms\":%" PRIu64 ",\"rises\":%" PRIu64 "}\n",
           s.rows, (double)cpu / 1e9, (double)wall / 1e9, s.vcpu_ms, s.mem_mib_ms, s.disk_mib_ms, s.running_ms,
           s.rises);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    free(arena.bytes);
    return EXIT_SUCCESS;
}
