/* Fills the events topic with batches of runners whose sandboxes live long: what a fleet says all day.
 *
 * usage: drain_fill BROKERS TOPIC PARTITIONS RUNNERS ROWS
 * Every runner has SANDBOXES of them, of TEAMS teams with PROJECTS projects each; every ten seconds one slice of each
 * with the rises of its counters, a start in the first batch, an execution now and then. Batches are numbered and
 * chained as a collector's are. Runner i goes to partition i mod PARTITIONS. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/batch.h"

enum { SANDBOXES = 1000, TEAMS = 20, PROJECTS = 3, BATCH_ROWS = 4096, SLICE_MS = 10000, FLUSH_MS = 60000 };
enum { NAME_BYTES = 48, TEXT_BYTES = 80, QUEUE_FULL_WAIT_MS = 100 };
static const int64_t BEGIN_MS = INT64_C(1760000400000); /* a whole minute */

struct runner {
    char name[NAME_BYTES];
    const char *region;
    int32_t partition;
    struct batch_builder *rows;
    struct batch_totals totals;
    uint8_t previous[SHA256_BYTES];
    uint64_t seq, generation, random;
    uint32_t index[SANDBOXES];
    bool listed[SANDBOXES];
};

struct topic {
    rd_kafka_t *rk;
    const char *name;
};

static void die(const char *what)
{
    fprintf(stderr, "drain_fill: %s\n", what);
    exit(EXIT_FAILURE);
}

static void must(enum sg_error e)
{
    if (e) die(sg_error_text(e));
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static struct batch_sandbox sandbox_of(const struct runner *r, unsigned i, char text[3][TEXT_BYTES])
{
    uint32_t vcpus = 1u << i % 4;
    snprintf(text[0], TEXT_BYTES, "%s-sandbox-%04u", r->name, i);
    snprintf(text[1], TEXT_BYTES, "team-%u", i % TEAMS + 1);
    snprintf(text[2], TEXT_BYTES, "proj-%u", i / TEAMS % PROJECTS + 1);
    return (struct batch_sandbox){text[0], text[1], text[2], vcpus, vcpus * 2048, vcpus * 4096};
}

/* The sandbox's index in the present batch's dictionary. */
static uint32_t list(struct runner *r, unsigned i)
{
    char text[3][TEXT_BYTES];
    if (r->generation != batch_builder_generation(r->rows)) memset(r->listed, 0, sizeof r->listed);
    r->generation = batch_builder_generation(r->rows);
    if (r->listed[i]) return r->index[i];
    struct batch_sandbox s = sandbox_of(r, i, text);
    must(batch_builder_sandbox(r->rows, &s, &r->index[i]));
    r->listed[i] = true;
    return r->index[i];
}

static void send_batch(struct topic *t, struct runner *r, int64_t complete_through_ms)
{
    const uint8_t *bytes;
    size_t length;
    struct batch_head head = {.runner = r->name,
                              .region = r->region,
                              .epoch = 1,
                              .seq = ++r->seq,
                              .previous_sha256 = r->previous,
                              .complete_through = {complete_through_ms},
                              .totals = r->totals};
    must(batch_builder_seal(r->rows, &head, &bytes, &length));
    batch_sha256(bytes, length, r->previous);
    union {
        const uint8_t *in;
        void *out;
    } payload = {.in = bytes}; /* RD_KAFKA_V_VALUE takes no const; with F_COPY it only reads */
    for (;;) {
        rd_kafka_resp_err_t e =
            rd_kafka_producev(t->rk, RD_KAFKA_V_TOPIC(t->name), RD_KAFKA_V_PARTITION(r->partition),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(r->name, strlen(r->name)),
                              RD_KAFKA_V_VALUE(payload.out, length), RD_KAFKA_V_END);
        rd_kafka_poll(t->rk, e ? QUEUE_FULL_WAIT_MS : 0);
        if (!e) return;
        if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL) die("a message was not taken");
    }
}

static void add_slice(struct runner *r, unsigned i, int64_t start_ms)
{
    uint64_t x = next_random(&r->random);
    uint32_t vcpus = 1u << i % 4;
    struct batch_rise rise = {.cpu_us = x % (1000 * SLICE_MS), .mem_bytes = (UINT64_C(100) << 20) + x % 4096 * 65536};
    if (x % 2) rise.net_rx_bytes = x % 1000000, rise.net_tx_bytes = x % 100000;
    if (x % 5 == 0) rise.io_read_bytes = x % 5000000, rise.io_write_bytes = x % 9000000;
    uint32_t sandbox = list(r, i);
    if (start_ms == BEGIN_MS) must(batch_builder_start(r->rows, sandbox, (struct wall_ms){start_ms}, START_ADOPTED, 0));
    must(batch_builder_slice(r->rows, sandbox, (struct wall_ms){start_ms}, SLICE_MS, &rise));
    if (x % 50 == 0) must(batch_builder_exec(r->rows, sandbox, (struct wall_ms){start_ms}, x % 3, x % 60000));
    r->totals.running_ms += SLICE_MS;
    r->totals.vcpu_ms += (uint64_t)vcpus * SLICE_MS;
    r->totals.mem_mib_ms += UINT64_C(2048) * vcpus * SLICE_MS;
    r->totals.disk_mib_ms += UINT64_C(4096) * vcpus * SLICE_MS;
    r->totals.events++;
}

/* Ten seconds of a runner; how many rows. */
static uint64_t advance(struct topic *t, struct runner *r, int64_t start_ms)
{
    uint64_t rows = 0;
    for (unsigned i = 0; i < SANDBOXES; i++) {
        size_t before = batch_builder_rows(r->rows);
        add_slice(r, i, start_ms);
        rows += batch_builder_rows(r->rows) - before;
        if (batch_builder_rows(r->rows) >= BATCH_ROWS) send_batch(t, r, start_ms);
    }
    return rows;
}

static rd_kafka_t *producer(const char *brokers)
{
    static const char *const properties[] = {"enable.idempotence", "true",  "compression.codec", "zstd",
                                             "compression.level",  "1",     "linger.ms",         "5",
                                             "batch.size",         "262144"};
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why)) die("brokers");
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i += 2)
        if (rd_kafka_conf_set(conf, properties[i], properties[i + 1], why, sizeof why)) die(properties[i]);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk) die("no producer");
    return rk;
}

int main(int argc, char **argv)
{
    if (argc != 6) die("usage: drain_fill BROKERS TOPIC PARTITIONS RUNNERS ROWS");
    struct topic t = {producer(argv[1]), argv[2]};
    unsigned partitions = (unsigned)strtoul(argv[3], NULL, 10), count = (unsigned)strtoul(argv[4], NULL, 10);
    uint64_t wanted = strtoull(argv[5], NULL, 10), rows = 0;
    struct runner *runners = calloc(count ? count : 1, sizeof *runners);
    if (!runners || !partitions || !count) die("out of memory, or a count is zero");
    for (unsigned i = 0; i < count; i++) {
        runners[i] = (struct runner){.region = i % 2 ? "us" : "eu",
                                     .partition = (int32_t)(i % partitions),
                                     .rows = batch_builder_new(),
                                     .random = i + 1,
                                     .generation = UINT64_MAX};
        snprintf(runners[i].name, sizeof runners[i].name, "runner-%u", i + 1);
        if (!runners[i].rows) die("out of memory");
    }
    int64_t now_ms = BEGIN_MS;
    for (; rows < wanted; now_ms += SLICE_MS)
        for (unsigned i = 0; i < count; i++) rows += advance(&t, &runners[i], now_ms);
    for (unsigned i = 0; i < count; i++) {
        send_batch(&t, &runners[i], now_ms);
        batch_builder_free(runners[i].rows);
    }
    if (rd_kafka_flush(t.rk, FLUSH_MS)) die("not everything was sent");
    rd_kafka_destroy(t.rk);
    free(runners);
    return EXIT_SUCCESS;
}
