/* sandglass-collector: what its parts make together. Configuration, counters, and the order in which things become
 * durable. Its main thread calls init, open, listen, then a turn whenever the loop is awake, end, destroy. */
#ifndef COLLECTOR_COLLECTOR_H
#define COLLECTOR_COLLECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/commit.h"
#include "collector/meter.h"
#include "collector/spool.h"
#include "common/config.h"
#include "common/counters.h"
#include "common/health.h"
#include "common/loop.h"
#include "proto/ingest_line.h"
#include "sandglass/error.h"

/* The configuration file, by collector_config_table. */
struct collector_config {
    char *runner, *region;
    int clock; /* enum meter_clock */
    char *ingest_socket, *ingest_socket_mode, *ingest_socket_owner;
    int64_t sandboxes_max;
    char *spool_dir;
    uint64_t spool_bytes_max, spool_segment_bytes;
    char *kafka_brokers, *events_topic;
    struct config_list kafka_properties;
    char *cgroup_root;
    bool sample_links;
    uint64_t seal_interval_ms, heartbeat_interval_ms, sample_interval_ms;
    struct config_listen ops_listen;
    int log_level;
};

/* Keys, defaults and help. */
extern const struct config_table collector_config_table;

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

/* All fields are its own. */
struct collector {
    const struct collector_config *config;
    struct loop loop;
    struct meter *meter;
    struct spool spool;
    struct shipper *shipper;
    struct sampler *sampler;
    struct ingest *ingest;
    struct health health;
    struct counters counters;
    struct commit commit;
    uint64_t delivered_seq;
    struct boot_ms second_at, sample_at, delivered_at;
    struct sg_fault *fault;
    enum sg_error error; /* what ends the program */
};

/* The configuration is borrowed; f is where every failure is told. */
void collector_init(struct collector *c, const struct collector_config *config, struct sg_fault *f);
/* The spool is recovered, and there is a shipper. IO, CORRUPT, NOMEM, LOCKED, CONFIG, VERSION, LIMIT. */
SG_MUST_USE enum sg_error collector_open(struct collector *c);
/* From now on there is a socket to be talked to, and the program is ready. IO, CONFIG, NOMEM. */
SG_MUST_USE enum sg_error collector_listen(struct collector *c);
/* Its work, in a bounded portion; *next: when it wants to be called again at the latest. What it returns ends it: IO,
 * CORRUPT, NOMEM. */
SG_MUST_USE enum sg_error collector_turn(struct collector *c, struct boot_ms now, struct boot_ms *next);
/* What was taken becomes durable, if nothing has gone wrong. What went wrong, then or before. */
enum sg_error collector_end(struct collector *c);
/* Frees; also what was only begun. */
void collector_destroy(struct collector *c);

#endif
