/* sandglass-aggregator: Kafka's log into the view in Redis (design.md, section 5).
 *
 * A TURN      polls batches until none is there or enough wait -> reads the cells they need, applies them -> when the
 * flush interval is over: flushes every shard. DOUBT       a shard refused, or did not answer; a rebalance; a position
 * that the log does not have: everything is parked, what is unknown is read again (an empty shard restored first),
 * everything is placed again. Start-up is this. FAILURES    Redis or Kafka away: tried again with backoff, nothing is
 * read from Kafka meanwhile, health is red within 10 s. Damaged marks or cells, another format, other measures: the
 * process says so and ends. A batch that cannot be read: quarantined with topic, partition, offset, code; the position
 * moves on. One thread, beside librdkafka's and the operations listener's. */
#ifndef ROLLUP_AGGREGATOR_H
#define ROLLUP_AGGREGATOR_H

#include "aggregator/rollup/consumer.h"
#include "aggregator/rollup/restore.h"
#include "aggregator/rollup/rollup.h"
#include "aggregator/rollup/sync.h"
#include "common/backoff.h"
#include "common/config.h"
#include "common/counters.h"
#include "common/health.h"
#include "common/loop.h"

/* As in the configuration file. */
struct aggregator_config {
    char *instance, *kafka_brokers, *group, *events_topic, *ledger_topic, *redis, *redis_user, *redis_password;
    struct config_list kafka_properties;
    bool redis_cluster;
    int64_t shards, cells_max;
    uint64_t flush_interval_ms;
    struct config_listen ops_listen;
    int log_level;
};
/* Static. */
extern const struct config_table aggregator_config_table;

#define AGGREGATOR_COUNTERS(X)                                                                                         \
    X(BATCHES, COUNTER, "sandglass_aggregator_batches_total", NULL, "batches that counted")                            \
    X(ROWS, COUNTER, "sandglass_aggregator_rows_total", NULL, "rows of batches that counted, replays included")        \
    X(DUPLICATES, COUNTER, "sandglass_aggregator_duplicates_total", NULL, "batches that were there already")           \
    X(GAPS, COUNTER, "sandglass_aggregator_gaps_total", NULL, "gaps found or reported")                                \
    X(QUARANTINED, COUNTER, "sandglass_aggregator_quarantined_total", NULL, "batches that could not be read")          \
    X(CHAIN_BREAKS, COUNTER, "sandglass_aggregator_chain_breaks_total", NULL,                                          \
      "batches whose predecessor is not the one that was read")                                                        \
    X(SATURATED, COUNTER, "sandglass_aggregator_saturated_total", NULL, "additions that did not fit in 64 bits")       \
    X(FLUSHES, COUNTER, "sandglass_aggregator_flushes_total", NULL, "flushes begun")                                   \
    X(WRITE_CALLS, COUNTER, "sandglass_aggregator_write_calls_total", NULL, "script calls that write")                 \
    X(WRITTEN, COUNTER, "sandglass_aggregator_written_cells_total", NULL, "cells written")                             \
    X(READ_CALLS, COUNTER, "sandglass_aggregator_read_calls_total", NULL, "script calls that read")                    \
    X(READ_CELLS, COUNTER, "sandglass_aggregator_read_cells_total", NULL, "cells read")                                \
    X(MISMATCHES, COUNTER, "sandglass_aggregator_mismatches_total", NULL,                                              \
      "times a shard was not what was last seen of it")                                                                \
    X(FENCED_FLUSHES, COUNTER, "sandglass_aggregator_fenced_flushes_total", NULL,                                      \
      "flushes of a shard whose compare-and-set did not match")                                                        \
    X(REWINDS, COUNTER, "sandglass_aggregator_rewinds_total", NULL, "times the consumer was placed anew")              \
    X(RESTORED, COUNTER, "sandglass_aggregator_restored_shards_total", NULL, "shards restored from the archive")       \
    X(LOG_LOST, COUNTER, "sandglass_aggregator_log_lost_total", NULL,                                                  \
      "offsets that the log had forgotten before the view or the archive had them")                                    \
    X(CELLS, GAUGE, "sandglass_aggregator_cells", NULL, "cells in memory")                                             \
    X(DIRTY, GAUGE, "sandglass_aggregator_dirty_cells", NULL, "cells that wait to be written")                         \
    X(PARTITIONS, GAUGE, "sandglass_aggregator_partitions", NULL, "partitions assigned to this process")               \
    X(LAG, GAUGE, "sandglass_aggregator_lag", NULL, "batches in the log that the view does not have")
enum aggregator_counter { AGGREGATOR_COUNTERS(COUNTERS_ENUM) AGGREGATOR_COUNTER_COUNT };

/* Component, name in reports, how long its fault may stand, how long an event stands. What may be a blip has an
 * allowance; with the time that it takes to notice, red comes within 10 s. */
#define AGGREGATOR_COMPONENTS(X)                                                                                       \
    X(KAFKA, "kafka", 5000, 0)                                                                                         \
    X(GROUP, "group", 5000, 0)                                                                                         \
    X(LOG, "log", 2000, 0)                                                                                             \
    X(REDIS, "redis", 5000, 0)                                                                                         \
    X(RESTORE, "restore", 5000, 0)                                                                                     \
    X(LOG_LOST, "log-lost", 0, AGGREGATOR_EVENT_MS)                                                                    \
    X(GAPS, "gaps", 0, AGGREGATOR_EVENT_MS)                                                                            \
    X(QUARANTINE, "quarantine", 0, AGGREGATOR_EVENT_MS)                                                                \
    X(SATURATED, "saturated", 0, AGGREGATOR_EVENT_MS)
enum { AGGREGATOR_EVENT_MS = 20 * 1000 };
#define AGGREGATOR_COMPONENT_ENUM(id, name, allowance, hold) AGGREGATOR_##id,
enum aggregator_component { AGGREGATOR_COMPONENTS(AGGREGATOR_COMPONENT_ENUM) AGGREGATOR_COMPONENT_COUNT };

struct aggregator {
    const struct aggregator_config *config;
    struct loop loop;
    struct health health;
    struct counters counters;
    struct redis_store *store;
    struct consumer *consumer;
    struct rollup rollup;
    struct sync sync;
    struct batch_decoder decoder;
    struct backoff backoff;
    struct boot_ms retry_at, flush_at, report_at, ask_at, probe_at, publish_at;
    bool write_fault; /* a write failed, and none has succeeded since */
    bool *silent;     /* by partition: its leader did not answer when asked last; false of those that are others' */
    bool behind;      /* since the last flush the queue was full once: there is a backlog */
    struct restore_wait *waits; /* by shard */
    uint64_t *ends;             /* by partition: the log's end as last known */
    uint32_t ask_next;          /* partition whose watermarks are asked next */
    bool ask_silent;            /* the last time it was one that was silent, if any was */
    uint64_t vouched_sum;       /* sum of stored positions at the last report: whether there was progress */
};

/* Makes everything that needs nobody else. CONFIG, IO, NOMEM. */
SG_MUST_USE enum sg_error aggregator_init(struct aggregator *a, const struct aggregator_config *config,
                                          struct sg_fault *f);
/* Learns the log's measures: waits for a broker. IO, STATE: asked to stop. */
SG_MUST_USE enum sg_error aggregator_begin(struct aggregator *a, struct sg_fault *f);
/* One turn. Anything but OK: it cannot go on. */
SG_MUST_USE enum sg_error aggregator_turn(struct aggregator *a, struct sg_fault *f);
/* Writes what can be written: a courtesy to whoever follows, who has less to replay. */
void aggregator_end(struct aggregator *a);
/* All of that, until SIGTERM or SIGINT: OK, or why it cannot go on. */
SG_MUST_USE enum sg_error aggregator_run(struct aggregator *a, struct sg_fault *f);
/* True when every partition is ours and the view has all that is below ends[partition]. After the beginning. */
bool aggregator_reached(const struct aggregator *a, const uint64_t *ends);
/* Safe on a zeroed struct. */
void aggregator_destroy(struct aggregator *a);

/* Parts of the above, aggregator_report.c. */

/* Counters, health, the log's file and the watchdog: when it is time for them. */
void aggregator_report(struct aggregator *a, struct boot_ms now);
/* Adds *risen to a counter and takes it back to 0; says so where people must look at each rise. */
void aggregator_count(struct aggregator *a, enum aggregator_counter counter, uint64_t *risen);
/* The offset that all shards vouch for; 0 while it is not known. */
uint64_t aggregator_stored_position(const struct rollup *r, uint32_t partition);
/* Up to where the view has what the log has: what the log has forgotten it cannot have any more. */
uint64_t aggregator_reached_position(const struct rollup *r, uint32_t partition);

#endif
