/* What an aggregator says of itself: counters, health, lag (aggregator.h). */
#include "aggregator/rollup/aggregator.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/service.h"

enum { REPORT_MS = 500 };

static void set_fault(struct aggregator *a, enum aggregator_component component, const char *reason)
{
    if (reason)
        health_set_fault(&a->health, component, reason);
    else
        health_clear(&a->health, component);
}

/* Counters whose rise is an event that people must look at. */
static void tell_event(struct aggregator *a, enum aggregator_counter counter)
{
    static const struct {
        enum aggregator_counter counter;
        enum aggregator_component component;
        const char *reason;
    } events[] = {
        {COUNT_GAPS, AGGREGATOR_GAPS, "a runner's batches are missing: usage was lost"},
        {COUNT_QUARANTINED, AGGREGATOR_QUARANTINE, "a batch could not be read and is left out"},
        {COUNT_LOG_LOST, AGGREGATOR_LOG_LOST, "the log has forgotten batches before the view had them"},
        {COUNT_SATURATED, AGGREGATOR_SATURATED, "a sum has reached the largest number that fits"},
    };
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i].counter == counter) health_set_fault(&a->health, events[i].component, events[i].reason);
}

void aggregator_count(struct aggregator *a, enum aggregator_counter counter, uint64_t *risen)
{
    if (*risen) tell_event(a, counter);
    counters_add(&a->counters, counter, *risen);
    *risen = 0;
}

static void report_counters(struct aggregator *a)
{
    struct rollup *r = &a->rollup;
    aggregator_count(a, COUNT_BATCHES, &r->batches);
    aggregator_count(a, COUNT_ROWS, &r->rows);
    aggregator_count(a, COUNT_SATURATED, &r->cells.saturated);
    aggregator_count(a, COUNT_WRITE_CALLS, &a->sync.flush_calls);
    aggregator_count(a, COUNT_WRITTEN, &a->sync.written_cells);
    aggregator_count(a, COUNT_READ_CALLS, &a->sync.read_calls);
    aggregator_count(a, COUNT_READ_CELLS, &a->sync.read_cells);
    aggregator_count(a, COUNT_MISMATCHES, &a->sync.mismatches);
    aggregator_count(a, COUNT_FENCED_FLUSHES, &a->sync.fenced_flushes);
    for (uint32_t p = 0; p < r->partitions; p++) {
        struct marks *m = &r->partition[p].marks;
        aggregator_count(a, COUNT_DUPLICATES, &m->duplicates);
        aggregator_count(a, COUNT_GAPS, &m->gaps);
        aggregator_count(a, COUNT_QUARANTINED, &m->quarantined);
        aggregator_count(a, COUNT_CHAIN_BREAKS, &m->chain_breaks);
    }
    counters_set(&a->counters, COUNT_CELLS, r->cells.count);
    counters_set(&a->counters, COUNT_DIRTY, r->shards ? rollup_dirty(r) : 0);
}

uint64_t aggregator_stored_position(const struct rollup *r, uint32_t partition)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t s = 0; s < r->shards; s++)
        if (r->partition[partition].vouched[s] < least) least = r->partition[partition].vouched[s];
    return least;
}

uint64_t aggregator_reached_position(const struct rollup *r, uint32_t partition)
{
    uint64_t log_start = r->partition[partition].log_start, stored = aggregator_stored_position(r, partition);
    return log_start > stored ? log_start : stored;
}

/* Lag is what the view lacks: to the log's end as last known. While that is not known there is something to be done. */
static void report_lag(struct aggregator *a)
{
    size_t count;
    const uint32_t *partitions = consumer_partitions(a->consumer, &count);
    uint64_t lag = 0, sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t end, stored = aggregator_reached_position(&a->rollup, partitions[i]);
        if (consumer_end(a->consumer, partitions[i], &end) && end > a->ends[partitions[i]])
            a->ends[partitions[i]] = end;
        end = a->ends[partitions[i]];
        lag += end > stored ? end - stored : 0;
        sum += stored;
    }
    if (!consumer_placed(a->consumer) && count > 0 && lag == 0) lag = 1;
    if (sum > a->vouched_sum) health_progress(&a->health);
    a->vouched_sum = sum;
    health_set_lag(&a->health, lag);
    counters_set(&a->counters, COUNT_LAG, lag);
    counters_set(&a->counters, COUNT_PARTITIONS, count);
}

/* A broker that hangs, or one of several that is away, makes no error: its partitions do not answer. */
static void report_kafka(struct aggregator *a)
{
    const char *fault = consumer_fault(a->consumer);
    for (uint32_t p = 0; p < a->rollup.partitions && !fault; p++)
        if (a->silent[p]) fault = "the leader of a partition does not answer";
    set_fault(a, AGGREGATOR_KAFKA, fault);
    set_fault(a, AGGREGATOR_GROUP, consumer_assigned(a->consumer) ? NULL : "the consumer group gives us no place");
}

void aggregator_report(struct aggregator *a, struct boot_ms now)
{
    if (now.v < a->report_at.v) return;
    a->report_at.v = now.v + REPORT_MS;
    report_counters(a);
    if (a->rollup.shards) report_lag(a);
    report_kafka(a);
    log_flush(false);
    service_alive();
}
