#include "aggregator/rollup/aggregator.h"

#include <stdlib.h>

#include "aggregator/rollup/memory.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/service.h"

enum {
    POLL_MS = 50,
    ASK_MS = 1000, /* one partition's watermarks are asked this often */
    ASK_TIMEOUT_MS = 500,
    PROBE_MS = 1000, /* Redis is asked whether it is there this often */
    PUBLISH_MS = 5000,
    METADATA_MS = 2000,
    BACKOFF_BASE_MS = 50,
    BACKOFF_CAP_MS = 1000,
    BEHIND_FACTOR = 4,  /* while a backlog is read, flushes are so much rarer: the same cells change again and again */
    KEEP_FLUSHES = 120, /* a clean cell that no batch touched for so many flushes is forgotten */
};

static const struct counter_spec counter_specs[] = {AGGREGATOR_COUNTERS(COUNTERS_SPEC)};
#define COMPONENT(id, name, allowance, hold) {name, allowance, hold},
static const struct health_component components[] = {AGGREGATOR_COMPONENTS(COMPONENT)};

/* ---- making ---- */

enum sg_error aggregator_init(struct aggregator *a, const struct aggregator_config *config, struct sg_fault *f)
{
    *a = (struct aggregator){.config = config};
    counters_init(&a->counters, counter_specs, AGGREGATOR_COUNTER_COUNT);
    health_init(&a->health, components, AGGREGATOR_COMPONENT_COUNT, NULL);
    backoff_init(&a->backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, clock_boot().v);
    enum sg_error e = loop_init(&a->loop, NULL, f);
    struct redis_store_config store = {.address = config->redis,
                                       .cluster = config->redis_cluster,
                                       .shards = (uint32_t)config->shards,
                                       .user = config->redis_user,
                                       .password = config->redis_password};
    struct consumer_config consumer = {.brokers = config->kafka_brokers,
                                       .group = config->group,
                                       .instance = config->instance,
                                       .topic = config->events_topic,
                                       .properties = &config->kafka_properties};
    if (!e) e = batch_decoder_init(&a->decoder);
    if (!e) e = redis_store_new(&a->store, &store, f);
    if (!e) e = consumer_new(&a->consumer, &consumer, f);
    return e;
}

void aggregator_destroy(struct aggregator *a)
{
    consumer_free(a->consumer);
    sync_destroy(&a->sync);
    rollup_destroy(&a->rollup);
    redis_store_free(a->store);
    batch_decoder_destroy(&a->decoder);
    free(a->waits);
    free(a->ends);
    free(a->silent);
    loop_destroy(&a->loop);
    health_destroy(&a->health);
    *a = (struct aggregator){0};
}

/* ---- while something takes long ---- */

/* The process's other duties, while something else takes long. True: asked to stop. */
static bool pulse(void *arg)
{
    struct aggregator *a = arg;
    struct sg_fault f;
    if (loop_turn(&a->loop, 0, &f)) return true;
    aggregator_report(a, clock_boot());
    return loop_stopping(&a->loop);
}

/* ---- doubt ---- */

static bool final(enum sg_error e)
{
    return e == SG_ERR_CORRUPT || e == SG_ERR_MALFORMED || e == SG_ERR_OVERFLOW || e == SG_ERR_VERSION ||
           e == SG_ERR_CONFIG;
}

static enum sg_error restore(struct aggregator *a, uint32_t shard, struct sg_fault *f)
{
    struct restore_config config = {.brokers = a->config->kafka_brokers,
                                    .ledger_topic = a->config->ledger_topic,
                                    .client_id = a->config->instance,
                                    .properties = &a->config->kafka_properties,
                                    .shards = a->rollup.shards,
                                    .partitions = a->rollup.partitions,
                                    .pulse = pulse,
                                    .arg = a};
    uint64_t cells = 0;
    health_set_fault(&a->health, AGGREGATOR_RESTORE, "a shard of the view was empty and is restored from the archive");
    enum sg_error e = restore_shard(&config, a->store, shard, &a->waits[shard], &cells, f);
    if (e) {
        health_take_fault(&a->health, AGGREGATOR_RESTORE, f);
        return e;
    }
    log_event(LOG_INFO, "shard_restored", "shard=%u cells=%llu", shard, (unsigned long long)cells);
    counters_add(&a->counters, COUNT_RESTORED, 1);
    return SG_OK;
}

static enum sg_error know(struct aggregator *a, struct sg_fault *f)
{
    for (uint32_t s = 0; s < a->rollup.shards; s++) {
        bool empty = false;
        if (!rollup_unknown(&a->rollup, s)) continue;
        enum sg_error e = sync_know(&a->sync, s, &empty, f);
        if (empty) {
            e = restore(a, s, f);
            if (!e) e = sync_know(&a->sync, s, &empty, f);
        }
        if (e) return e;
    }
    health_clear(&a->health, AGGREGATOR_RESTORE); /* also when it was somebody else who restored */
    return SG_OK;
}

/* What the log says of one of our partitions. */
struct log_look {
    uint64_t start;
    bool misses;
};

static enum sg_error look_at_logs(struct aggregator *a, const uint32_t *partitions, size_t count, struct log_look *look,
                                  struct sg_fault *f)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t end;
        uint32_t p = partitions[i];
        enum sg_error e = consumer_watermarks(a->consumer, p, ASK_TIMEOUT_MS, &look[i].start, &end, f);
        a->silent[p] = e != SG_OK;
        if (e) return e;
        a->ends[p] = end;
        if (pulse(a)) return sg_fail(f, SG_ERR_STATE, "asked to stop");
    }
    return SG_OK;
}

/* What seems to be missed somebody else may have read in time: it becomes known anew before it is told. */
static enum sg_error look_again(struct aggregator *a, const uint32_t *partitions, size_t count, struct log_look *look,
                                struct sg_fault *f)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        look[i].misses = rollup_misses(&a->rollup, partitions[i], look[i].start);
        any |= look[i].misses;
    }
    if (!any) return SG_OK;
    enum sg_error e = sync_flush(&a->sync, f); /* as in reassign */
    if (e && e != SG_ERR_MISMATCH) return e;
    for (size_t i = 0; i < count; i++) {
        if (!look[i].misses) continue;
        rollup_drop(&a->rollup, partitions[i]);
        rollup_take(&a->rollup, partitions[i]);
    }
    return know(a, f);
}

static void tell_missed(struct aggregator *a, uint32_t p, uint64_t start)
{
    uint64_t missed = rollup_log_start(&a->rollup, p, start);
    if (!missed) return;
    log_event(LOG_WARN, "log_start", "partition=%u start=%llu missed=%llu", p, (unsigned long long)start,
              (unsigned long long)missed);
    aggregator_count(a, COUNT_LOG_LOST, &missed);
}

/* Whether the log has what the view says it had. */
static enum sg_error check_tail(struct aggregator *a, uint32_t p, struct sg_fault *f)
{
    if (rollup_next(&a->rollup, p) <= a->ends[p]) return SG_OK;
    enum sg_error e =
        sg_fail(f, SG_ERR_UNREACHABLE, "partition %u ends at %llu, the view stands at %llu: the log has lost its tail",
                p, (unsigned long long)a->ends[p], (unsigned long long)rollup_next(&a->rollup, p));
    health_take_fault(&a->health, AGGREGATOR_LOG, f);
    return e;
}

static enum sg_error place(struct aggregator *a, struct sg_fault *f)
{
    size_t count;
    const uint32_t *partitions = consumer_partitions(a->consumer, &count);
    uint64_t *offsets = memory_checked(calloc(count + 1, sizeof *offsets));
    struct log_look *look = memory_checked(calloc(count + 1, sizeof *look));
    rollup_queue_drop(&a->rollup);
    enum sg_error e = look_at_logs(a, partitions, count, look, f);
    if (!e) e = look_again(a, partitions, count, look, f);
    for (size_t i = 0; !e && i < count; i++) {
        tell_missed(a, partitions[i], look[i].start);
        e = check_tail(a, partitions[i], f);
        offsets[i] = rollup_next(&a->rollup, partitions[i]);
    }
    if (!e && count > 0) e = consumer_place(a->consumer, offsets, f);
    free(offsets);
    free(look);
    if (e) return e;
    counters_add(&a->counters, COUNT_REWINDS, 1);
    return SG_OK;
}

/* From any doubt to placed, or a wait. */
static enum sg_error recover(struct aggregator *a, struct boot_ms now, struct sg_fault *f)
{
    struct sg_fault why = {0};
    size_t count;
    (void)consumer_partitions(a->consumer, &count);
    if (now.v < a->retry_at.v || count == 0) return SG_OK;
    enum sg_error e = know(a, &why);
    if (!e && !a->write_fault) health_clear(&a->health, AGGREGATOR_REDIS);
    if (!e) e = place(a, &why);
    if (!e) {
        health_clear(&a->health, AGGREGATOR_LOG);
        backoff_reset(&a->backoff);
        if (!health_ready(&a->health)) service_ready();
        health_set_ready(&a->health, true);
        return SG_OK;
    }
    if (final(e)) {
        *f = why;
        return e;
    }
    log_fault(LOG_WARN, "waiting", &why);
    if (!rollup_ready(&a->rollup)) health_take_fault(&a->health, AGGREGATOR_REDIS, &why);
    a->retry_at.v = clock_boot().v + backoff_next(&a->backoff);
    return SG_OK;
}

/* Something is not what was last seen: park, and look again. */
static enum sg_error doubt(struct aggregator *a, enum sg_error e, const struct sg_fault *why, struct sg_fault *f)
{
    consumer_park(a->consumer);
    rollup_queue_drop(&a->rollup);
    log_fault(LOG_WARN, "doubt", why);
    if (final(e)) {
        *f = *why;
        return e;
    }
    if (e != SG_ERR_MISMATCH) {
        health_take_fault(&a->health, AGGREGATOR_REDIS, why);
        a->retry_at.v = clock_boot().v + backoff_next(&a->backoff);
    }
    return SG_OK;
}

/* ---- the assignment ---- */

static bool contains(const uint32_t *list, size_t count, uint32_t p)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == p) return true;
    return false;
}

static enum sg_error reassign(struct aggregator *a)
{
    size_t count;
    const uint32_t *list = consumer_partitions(a->consumer, &count);
    struct sg_fault why;
    /* what is applied is as true as before: written if the vectors still allow it */
    if (rollup_ready(&a->rollup)) (void)!sync_flush(&a->sync, &why);
    rollup_queue_drop(&a->rollup);
    for (uint32_t p = 0; p < a->rollup.partitions; p++) {
        bool ours = contains(list, count, p);
        if (ours)
            rollup_take(&a->rollup, p);
        else
            rollup_drop(&a->rollup, p);
        /* who has lost its place may have lost it by that silence */
        if (!ours && consumer_assigned(a->consumer)) a->silent[p] = false;
    }
    a->retry_at.v = 0;
    a->write_fault = false;
    /* of the partitions that were ours; what is still wrong will show again */
    health_clear(&a->health, AGGREGATOR_REDIS);
    health_clear(&a->health, AGGREGATOR_RESTORE);
    health_clear(&a->health, AGGREGATOR_LOG);
    log_event(LOG_INFO, "assigned", "partitions=%zu", count);
    return SG_OK;
}

/* ---- batches ---- */

static void quarantine(struct aggregator *a, const struct consumer_event *event, const struct sg_fault *why)
{
    char topic[256], reason[SG_FAULT_BYTES + 2];
    log_event(LOG_ERROR, "batch_quarantined", "topic=%s partition=%u offset=%llu error=%s reason=%s",
              log_quote(a->config->events_topic, topic, sizeof topic), event->partition,
              (unsigned long long)event->offset, sg_error_name(why->code), log_quote(why->text, reason, sizeof reason));
}

/* False: the message is not the next one. */
static bool take_message(struct aggregator *a, const struct consumer_event *event)
{
    struct batch b;
    struct sg_fault why = {0};
    uint8_t sha256[SHA256_BYTES];
    uint32_t p = event->partition;
    if (p >= a->rollup.partitions || !a->rollup.partition[p].taken) return true;
    if (event->offset < rollup_next(&a->rollup, p)) return true; /* fetched before the last place() */
    if (event->offset > rollup_next(&a->rollup, p)) return false;
    enum sg_error e = batch_decode(&a->decoder, event->bytes, event->length, &b, &why);
    if (e == SG_ERR_NOMEM) memory_exhausted("the rollup");
    if (e) {
        quarantine(a, event, &why);
        rollup_enqueue(&a->rollup, p, event->offset, event->time, NULL, NULL);
        return true;
    }
    batch_sha256(event->bytes, event->length, sha256);
    rollup_enqueue(&a->rollup, p, event->offset, event->time, &b, sha256);
    return true;
}

static void take_end(struct aggregator *a, const struct consumer_event *event)
{
    uint32_t p = event->partition;
    if (p >= a->rollup.partitions || !a->rollup.partition[p].taken) return;
    if (event->offset > a->ends[p]) a->ends[p] = event->offset;
    /* What waits was sent before now, and is applied before the next flush. The wall clock: of runners that fell silent
     * long ago, before this process or this view was, nothing else tells that they did. */
    if (rollup_next(&a->rollup, p) >= event->offset) rollup_heard(&a->rollup, p, clock_wall());
}

static enum sg_error take_event(struct aggregator *a, struct consumer_event *event, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    bool lost = false;
    switch (event->kind) {
    case CONSUMER_NOTHING: break;
    case CONSUMER_ASSIGNMENT: e = reassign(a); break;
    case CONSUMER_MESSAGE: lost = !take_message(a, event); break;
    case CONSUMER_END: take_end(a, event); break;
    case CONSUMER_OUT_OF_RANGE: lost = true; break;
    }
    if (lost) {
        (void)sg_fail(f, SG_ERR_STATE, "partition %u does not go on at %llu", event->partition,
                      (unsigned long long)rollup_next(&a->rollup, event->partition));
        log_fault(LOG_WARN, "doubt", f);
        consumer_park(a->consumer);
        rollup_queue_drop(&a->rollup);
    }
    consumer_event_done(event);
    return e;
}

/* Polls until nothing is there or enough waits. */
static enum sg_error fill(struct aggregator *a, struct boot_ms now, struct sg_fault *f)
{
    uint64_t wait = a->flush_at.v > now.v ? a->flush_at.v - now.v : 0;
    uint32_t timeout = wait > POLL_MS ? POLL_MS : (uint32_t)wait;
    if (!consumer_placed(a->consumer)) timeout = POLL_MS;
    for (;;) {
        struct consumer_event event;
        enum sg_error e = consumer_poll(a->consumer, timeout, &event, f);
        bool nothing = event.kind == CONSUMER_NOTHING;
        if (!e) e = take_event(a, &event, f);
        if (rollup_queue_full(&a->rollup)) a->behind = true;
        if (e || nothing || rollup_queue_full(&a->rollup)) return e;
        timeout = 0;
    }
}

/* ---- flushing ---- */

static enum sg_error flush(struct aggregator *a, struct boot_ms now, struct sg_fault *f)
{
    struct sg_fault why = {0};
    struct rollup *r = &a->rollup;
    bool crowded = r->cells.count >= (size_t)a->config->cells_max;
    if (now.v < a->flush_at.v && !crowded && !rollup_flush_due(r)) return SG_OK;
    a->flush_at.v = now.v + a->config->flush_interval_ms * (a->behind ? BEHIND_FACTOR : 1);
    a->behind = false;
    counters_add(&a->counters, COUNT_FLUSHES, 1);
    uint64_t calls = a->sync.flush_calls;
    health_doing(&a->health, "a flush to Redis");
    enum sg_error e = sync_flush(&a->sync, &why);
    health_doing(&a->health, NULL);
    if (e) {
        a->write_fault = e != SG_ERR_MISMATCH;
        return doubt(a, e, &why, f);
    }
    /* a flush with nothing to write proves nothing: a Redis that only refuses writes would look well; one that wrote to
     * some shards nothing of the others: they are probed */
    if (a->sync.flush_calls != calls) a->write_fault = false;
    if (crowded)
        cells_sweep(&r->cells, UINT32_MAX, r->cells.slot_count);
    else if (r->flushes > KEEP_FLUSHES)
        cells_sweep(&r->cells, r->flushes - KEEP_FLUSHES, r->cells.slot_count / KEEP_FLUSHES + 1);
    return SG_OK;
}

/* One after the other; every second time one that was silent, so that the end of its silence is soon known. */
static uint32_t asked_next(struct aggregator *a, const uint32_t *partitions, size_t count)
{
    a->ask_silent = !a->ask_silent;
    if (a->ask_silent)
        for (size_t i = 0; i < count; i++)
            if (a->silent[partitions[i]]) return partitions[i];
    return partitions[a->ask_next++ % count];
}

/* Idle partitions: is their end still where we stand? Also moves the log's start, below which nothing is remembered.
 * Without a place in the group any partition is asked: nothing else would tell whether Kafka is there. */
static void ask(struct aggregator *a, struct boot_ms now)
{
    size_t count;
    const uint32_t *partitions = consumer_partitions(a->consumer, &count);
    bool outside = !consumer_assigned(a->consumer);
    struct sg_fault why;
    if (now.v < a->ask_at.v) return;
    a->ask_at.v = now.v + ASK_MS;
    uint32_t p = outside ? a->ask_next++ % a->rollup.partitions : asked_next(a, partitions, count);
    uint64_t start, end;
    struct wall_ms at = clock_wall();
    a->silent[p] = consumer_watermarks(a->consumer, p, ASK_TIMEOUT_MS, &start, &end, &why) != SG_OK;
    if (a->silent[p] || outside) return;
    a->ends[p] = end;
    if (start <= rollup_next(&a->rollup, p)) tell_missed(a, p, start);
    if (rollup_next(&a->rollup, p) >= end) rollup_heard(&a->rollup, p, at);
}

/* Idle as well, Redis must be there: nothing else would tell before there is something to write. */
static void probe(struct aggregator *a, struct boot_ms now)
{
    struct sg_fault why = {0};
    if (now.v < a->probe_at.v) return;
    a->probe_at.v = now.v + PROBE_MS;
    health_doing(&a->health, "a question to Redis");
    if (redis_store_probe(a->store, a->rollup.shards, &why))
        health_take_fault(&a->health, AGGREGATOR_REDIS, &why);
    else if (!a->write_fault)
        health_clear(&a->health, AGGREGATOR_REDIS);
    health_doing(&a->health, NULL);
}

static void publish(struct aggregator *a, struct boot_ms now)
{
    size_t count;
    const uint32_t *partitions = consumer_partitions(a->consumer, &count);
    if (now.v < a->publish_at.v || count == 0) return;
    a->publish_at.v = now.v + PUBLISH_MS;
    uint64_t *positions = memory_checked(calloc(count, sizeof *positions));
    for (size_t i = 0; i < count; i++) positions[i] = aggregator_stored_position(&a->rollup, partitions[i]);
    consumer_publish(a->consumer, positions);
    free(positions);
}

/* ---- running ---- */

/* How many partitions there are is fixed; it must be known before anything else. */
enum sg_error aggregator_begin(struct aggregator *a, struct sg_fault *f)
{
    struct sg_fault why = {0};
    uint32_t partitions = 0;
    while (consumer_partition_count(a->consumer, METADATA_MS, &partitions, &why)) {
        health_set_lag(&a->health, 1);
        health_set_fault(&a->health, AGGREGATOR_KAFKA, "the events topic cannot be read");
        log_fault(LOG_WARN, "waiting", &why);
        if (loop_turn(&a->loop, POLL_MS, f)) return SG_ERR_IO;
        if (loop_stopping(&a->loop)) return sg_fail(f, SG_ERR_STATE, "asked to stop");
        service_alive();
    }
    health_clear(&a->health, AGGREGATOR_KAFKA);
    rollup_init(&a->rollup, (uint32_t)a->config->shards, partitions);
    a->rollup.nonce = cells_hash(a->config->instance) + clock_boot().v;
    sync_init(&a->sync, &a->rollup, a->store);
    a->waits = memory_checked(calloc(a->rollup.shards, sizeof *a->waits));
    a->ends = memory_checked(calloc(partitions, sizeof *a->ends));
    a->silent = memory_checked(calloc(partitions, sizeof *a->silent));
    return SG_OK;
}

enum sg_error aggregator_turn(struct aggregator *a, struct sg_fault *f)
{
    struct boot_ms now = clock_boot();
    struct sg_fault why = {0};
    enum sg_error e = fill(a, now, f);
    if (!e && !consumer_placed(a->consumer)) e = recover(a, now, f);
    if (!e && consumer_placed(a->consumer)) {
        e = sync_apply(&a->sync, &why);
        e = e ? doubt(a, e, &why, f) : flush(a, clock_boot(), f);
    }
    if (!e && (consumer_placed(a->consumer) || !consumer_assigned(a->consumer))) ask(a, now);
    if (!e && consumer_placed(a->consumer)) {
        probe(a, now);
        publish(a, now);
    }
    aggregator_report(a, now);
    return e;
}

void aggregator_end(struct aggregator *a)
{
    struct sg_fault why;
    if (rollup_ready(&a->rollup)) (void)!sync_flush(&a->sync, &why);
}

bool aggregator_reached(const struct aggregator *a, const uint64_t *ends)
{
    size_t count;
    (void)consumer_partitions(a->consumer, &count);
    if (count < a->rollup.partitions || !consumer_placed(a->consumer)) return false;
    for (uint32_t p = 0; p < a->rollup.partitions; p++)
        if (aggregator_reached_position(&a->rollup, p) < ends[p]) return false;
    return true;
}

enum sg_error aggregator_run(struct aggregator *a, struct sg_fault *f)
{
    enum sg_error e = aggregator_begin(a, f);
    if (e) return loop_stopping(&a->loop) ? SG_OK : e;
    while (!e && !loop_stopping(&a->loop)) {
        e = loop_turn(&a->loop, 0, f);
        if (!e) e = aggregator_turn(a, f);
    }
    if (!e) aggregator_end(a);
    return e;
}
