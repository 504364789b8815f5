/* What tests of the meter share: lines in, decoded batches added up out. The sums here are the test's own arithmetic.
 */
#ifndef TESTS_METER_FIXTURE_H
#define TESTS_METER_FIXTURE_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/meter.h"

/* 2025-11-23T08:00:00Z, on a minute. */
#define NOON INT64_C(1763884800000)

/* What came out of a meter's batches. */
struct harvest {
    uint64_t running_ms, vcpu_ms, cpu_us, net_rx_bytes, mem_bytes, slices, starts, states, ends, execs, calls, gaps;
    uint64_t capacities, calls_without_project;
    uint64_t batches, reason[REASONS], last_end_ms, missing, mem_peak_bytes;
    uint64_t cpu_us_in_minute, minute_ms; /* of the minute that starts at minute_ms */
    uint64_t running_ms_in_minute;
    uint64_t vcpus_allocated, sandboxes_running; /* newest capacity row */
    int64_t complete_through_ms;
    struct batch_totals totals;
};

struct bench {
    struct meter *meter;
    struct harvest got;
    uint64_t seq;
    uint8_t sha256[SHA256_BYTES];
    struct ingest_error_at {
        enum ingest_error error;
        size_t at;
    } refused;           /* by the last line */
    struct buffer delta; /* of the last seal */
};

/* A meter that knows nothing. */
static inline struct meter *new_meter(enum meter_clock clock)
{
    struct meter_config config = {.runner = "r1", .region = "eu", .clock = clock, .sandboxes_max = 100};
    struct meter *m = meter_new(&config);
    cr_assert_not_null(m);
    return m;
}

/* A bench around it. */
static inline struct bench setup(enum meter_clock clock)
{
    struct bench b = {.meter = new_meter(clock)};
    buffer_init(&b.delta, METER_DELTA_BYTES_MAX);
    return b;
}

static inline void teardown(struct bench *b)
{
    meter_free(b->meter);
    buffer_destroy(&b->delta);
}

static inline void add_slices(struct harvest *h, const struct batch *batch)
{
    const struct batch_slices *s = &batch->slices;
    for (size_t i = 0; i < s->count; i++) {
        uint64_t length = column_u32(s->length_ms, i);
        int64_t start = batch->base_ms + column_i64(s->start_ms, i);
        bool in_minute = h->minute_ms && (uint64_t)(start - start % MINUTE_MS) == h->minute_ms;
        h->running_ms += length;
        h->vcpu_ms += length * column_u32(batch->sandboxes.vcpus, column_u32(s->sandbox, i));
        h->cpu_us += column_u64(s->cpu_us, i);
        h->net_rx_bytes += column_u64(s->net_rx_bytes, i);
        h->mem_bytes += column_u64(s->mem_bytes, i);
        if (in_minute) h->cpu_us_in_minute += column_u64(s->cpu_us, i);
        if (in_minute) h->running_ms_in_minute += length;
    }
    h->slices += s->count;
}

/* Adds up a decoded batch. */
static inline void add_batch(struct harvest *h, const struct batch *batch)
{
    add_slices(h, batch);
    h->starts += batch->starts.count;
    h->states += batch->states.count;
    h->execs += batch->execs.count;
    h->calls += batch->api_calls.count;
    h->gaps += batch->gaps.count;
    h->capacities += batch->capacities.count;
    h->ends += batch->ends.count;
    h->batches++;
    for (size_t i = 0; i < batch->ends.count; i++) {
        h->reason[column_u32(batch->ends.reason, i)]++;
        h->last_end_ms = (uint64_t)(batch->base_ms + column_i64(batch->ends.at_ms, i));
        h->mem_peak_bytes = column_u64(batch->ends.mem_peak_bytes, i);
    }
    for (size_t i = 0; i < batch->api_calls.count; i++)
        h->calls_without_project += strcmp(batch->projects[column_u32(batch->api_calls.project, i)], "-") == 0;
    for (size_t i = 0; i < batch->gaps.count; i++)
        h->missing += column_u64(batch->gaps.last_n, i) - column_u64(batch->gaps.first_n, i) + 1;
    for (size_t i = 0; i < batch->capacities.count; i++) {
        h->vcpus_allocated = column_u64(batch->capacities.vcpus_allocated, i);
        h->sandboxes_running = column_u64(batch->capacities.sandboxes_running, i);
    }
    cr_assert_geq(batch->complete_through_ms, h->complete_through_ms, "the watermark fell");
    h->complete_through_ms = batch->complete_through_ms;
    h->totals = batch->totals;
}

/* Seals, decodes, adds up; the delta is kept in b->delta. */
static inline void seal(struct bench *b)
{
    struct batch_decoder d;
    struct batch batch;
    struct sg_fault f = {0};
    const uint8_t *bytes, *delta;
    size_t length, delta_length;
    struct meter_position position = {1, ++b->seq, b->sha256};
    cr_assert_eq(meter_seal(b->meter, &position, &bytes, &length, &delta, &delta_length), SG_OK);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    cr_assert_eq(batch_decode(&d, bytes, length, &batch, &f), SG_OK, "%s", f.text);
    add_batch(&b->got, &batch);
    batch_decoder_destroy(&d);
    batch_sha256(bytes, length, b->sha256);
    buffer_reset(&b->delta);
    buffer_append(&b->delta, delta, delta_length);
    meter_durable(b->meter);
}

/* Settles and seals, as the end of a seal interval does. */
static inline void commit(struct bench *b)
{
    while (meter_settle(b->meter) == METER_FULL) seal(b);
    seal(b);
}

/* One line of source `source` (its index), through the parser; seals while the meter is full. */
static inline enum meter_verdict say(struct bench *b, unsigned source, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline enum meter_verdict say(struct bench *b, unsigned source, const char *format, ...)
{
    char line[INGEST_LINE_BYTES_MAX];
    struct ingest_event e;
    struct meter_refusal refusal = {INGEST_OK, 0};
    enum meter_verdict v;
    size_t at;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    enum ingest_error error = ingest_line_parse(line, (size_t)length, &e, &at);
    cr_assert_eq(error, INGEST_OK, "%s: %s", line, ingest_error_text(error));
    while ((v = meter_event(b->meter, source, &e, &refusal)) == METER_FULL) seal(b);
    b->refused.error = refusal.error;
    b->refused.at = refusal.at;
    return v;
}

/* A greeting; gives the source's index. */
static inline unsigned greet(struct bench *b, const char *source, const char *boot_id, uint64_t boot_ms,
                             int64_t wall_ms)
{
    struct ingest_event e = {.type = INGEST_TYPE_HELLO};
    unsigned index;
    uint64_t durable;
    bool fresh;
    snprintf(e.source.s, sizeof e.source.s, "%s", source);
    snprintf(e.boot_id.s, sizeof e.boot_id.s, "%s", boot_id);
    e.number[INGEST_FIELD_BOOT_MS] = boot_ms;
    e.number[INGEST_FIELD_WALL_MS] = (uint64_t)wall_ms;
    enum meter_verdict v;
    while ((v = meter_hello(b->meter, &e, &index, &durable, &fresh)) == METER_FULL) seal(b);
    cr_assert_eq(v, METER_ACCEPTED);
    return index;
}

#define EVENT(type) "{\"n\":%llu,\"boot_ms\":%llu,\"type\":\"" type "\""
#define CREATED                                                                                                        \
    EVENT("sandbox.created")                                                                                           \
    ",\"sandbox\":\"%s\",\"team\":\"t\",\"project\":\"p\",\"vcpus\":2,\"mem_mib\":10,\"disk_mib\":100,"                \
    "\"origin\":\"create\",\"create_ms\":5}"
#define ADOPTED                                                                                                        \
    EVENT("sandbox.adopted")                                                                                           \
    ",\"sandbox\":\"%s\",\"team\":\"t\",\"project\":\"p\",\"vcpus\":2,\"mem_mib\":10,\"disk_mib\":100,\"running\":%s}"
#define USAGE      EVENT("sandbox.usage") ",\"sandbox\":\"%s\",\"cpu_us\":%llu}"
#define HIBERNATED EVENT("sandbox.hibernated") ",\"sandbox\":\"%s\"}"
#define RESUMED    EVENT("sandbox.resumed") ",\"sandbox\":\"%s\"}"
#define DESTROYED  EVENT("sandbox.destroyed") ",\"sandbox\":\"%s\",\"reason\":\"api\"}"
#define TICK       EVENT("tick") "}"
#define U(x)       ((unsigned long long)(x))

#endif
