/* sandglass-collector: what its parts make together. Configuration, and the order in which things become durable. Its
 * main thread calls init, open, listen, then a turn whenever the loop is awake, end, destroy. */
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

/* main.c runs its loop, shows its health and counters, and tells its fault; all else is its own. */
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
SG_MUST_USE enum sg_error collector_end(struct collector *c);
/* Frees; also what was only begun. */
void collector_destroy(struct collector *c);

#endif
