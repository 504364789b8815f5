/* What the collector counts and shows. */
#ifndef COLLECTOR_COLLECTOR_COUNTERS_H
#define COLLECTOR_COLLECTOR_COUNTERS_H

#include "common/counters.h"
#include "proto/ingest_line.h"

#define COLLECTOR_COUNTERS(X)                                                                                          \
    X(EVENTS, COUNTER, "sandglass_collector_events_total", NULL, "lines accepted in this epoch of the spool")          \
    X(LINES_REFUSED, COUNTER, "sandglass_collector_lines_refused_total", NULL,                                         \
      "numbered lines refused in this epoch of the spool")                                                             \
    X(VCPU_MS, COUNTER, "sandglass_collector_vcpu_ms_total", NULL, "allocated vCPU milliseconds sealed in this epoch") \
    X(MEM_MIB_MS, COUNTER, "sandglass_collector_mem_mib_ms_total", NULL,                                               \
      "allocated MiB milliseconds of memory sealed in this epoch")                                                     \
    X(DISK_MIB_MS, COUNTER, "sandglass_collector_disk_mib_ms_total", NULL,                                             \
      "allocated MiB milliseconds of disk sealed in this epoch")                                                       \
    X(RUNNING_MS, COUNTER, "sandglass_collector_running_ms_total", NULL, "running milliseconds sealed in this epoch")  \
    X(LATE, COUNTER, "sandglass_collector_late_events_total", NULL,                                                    \
      "transitions older than what was billed, moved to where billing stood")                                          \
    X(GAPS, COUNTER, "sandglass_collector_missing_numbers_total", NULL, "numbers of sources that never came")          \
    X(SOURCES, GAUGE, "sandglass_collector_sources", NULL, "sources known")                                            \
    X(SESSIONS, GAUGE, "sandglass_collector_sessions", NULL, "sessions open")                                          \
    X(SANDBOXES, GAUGE, "sandglass_collector_sandboxes", NULL, "sandboxes alive, hibernated ones included")            \
    X(RUNNING, GAUGE, "sandglass_collector_sandboxes_running", NULL, "sandboxes running")                              \
    X(COMPLETE_THROUGH, GAUGE, "sandglass_collector_complete_through_ms", NULL,                                        \
      "Unix time in ms before which all usage is sealed")                                                              \
    X(BATCHES, COUNTER, "sandglass_collector_batches_sealed_total", NULL, "batches sealed since the start")            \
    X(BATCH_BYTES, COUNTER, "sandglass_collector_batch_bytes_total", NULL, "bytes of batches sealed since the start")  \
    X(EPOCH, GAUGE, "sandglass_collector_epoch", NULL, "epoch of the spool")                                           \
    X(SEQ, GAUGE, "sandglass_collector_seq", NULL, "number of the newest batch on disk")                               \
    X(DELIVERED_SEQ, GAUGE, "sandglass_collector_delivered_seq", NULL, "number of the newest batch that Kafka has")    \
    X(LAG, GAUGE, "sandglass_collector_lag_batches", NULL, "batches on disk that Kafka has not confirmed")             \
    X(LAG_AGE, GAUGE, "sandglass_collector_lag_age_ms", NULL, "age of the oldest of them")                             \
    X(SPOOL_BYTES, GAUGE, "sandglass_collector_spool_bytes", NULL, "bytes that the spool takes on disk")               \
    X(SPOOL_BYTES_MAX, GAUGE, "sandglass_collector_spool_bytes_max", NULL, "bytes that it may take")                   \
    X(SPOOL_FULL, GAUGE, "sandglass_collector_spool_full", NULL, "1 while the spool is full and nothing is taken")     \
    X(SENT, COUNTER, "sandglass_collector_messages_sent_total", NULL, "messages given to the Kafka client")            \
    X(RESTARTS, COUNTER, "sandglass_collector_producer_restarts_total", NULL, "producers replaced after an error")     \
    X(SATURATED, GAUGE, "sandglass_collector_totals_saturated", NULL,                                                  \
      "1 when a running sum has reached its largest number: reconcile will show a difference")

enum collector_counter {
    COLLECTOR_COUNTERS(COUNTERS_ENUM) COUNT_REFUSED,
    COLLECTOR_COUNTER_COUNT = COUNT_REFUSED + INGEST_ERROR_COUNT - 1
};

/* By enum collector_counter. */
extern const struct counter_spec collector_counter_specs[COLLECTOR_COUNTER_COUNT];

#endif
