/* The collector's configuration keys. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "collector/collector.h"
#include "collector/meter.h"
#include "collector/spool.h"
#include "common/log.h"
#include "sandglass/id.h"
#include "sandglass/limits.h"

static const char *const clock_words[] = {"event", "system", NULL}; /* as enum meter_clock */

#define C struct collector_config
static const struct config_key keys[] = {
    CONFIG_STRING(C, runner, "runner", NULL, "name of this runner: an identifier, unique in the fleet"),
    CONFIG_STRING(C, region, "region", NULL, "region of this runner: an identifier"),
    CONFIG_WORD(C, clock, "clock", "system", clock_words,
                "what moves time: system for live hosts, event for backfill and tests"),
    CONFIG_PATH(C, ingest_socket, "ingest_socket", "/run/sandglass/ingest.sock",
                "Unix socket on which supervisors speak"),
    CONFIG_STRING(C, ingest_socket_mode, "ingest_socket_mode", "0660", "permissions of the socket, octal"),
    CONFIG_STRING(C, ingest_socket_owner, "ingest_socket_owner", "", "owner of the socket: USER, USER:GROUP or :GROUP"),
    CONFIG_INT(C, sandboxes_max, "sandboxes_max", "65536", 1, 1 << 20, "sandboxes alive at a time, at most"),
    CONFIG_PATH(C, spool_dir, "spool_dir", "/var/lib/sandglass/spool", "directory of the spool; it must exist"),
    CONFIG_BYTES(C, spool_bytes_max, "spool_bytes_max", "2G", SPOOL_BYTES_MIN, UINT64_C(1) << 44,
                 "disk space of the spool; when it is used up nothing is taken until Kafka has taken"),
    CONFIG_BYTES(C, spool_segment_bytes, "spool_segment_bytes", "0", 0, UINT64_C(1) << 32,
                 "size of a segment; 0 for the default"),
    CONFIG_STRING(C, kafka_brokers, "kafka_brokers", NULL, "brokers to ask first: HOST:PORT,HOST:PORT"),
    CONFIG_STRING(C, events_topic, "events_topic", "sandglass.events", "topic that batches go to"),
    CONFIG_LIST(C, kafka_properties, "kafka_property", "a property of librdkafka, NAME VALUE; may be repeated"),
    CONFIG_PATH(C, cgroup_root, "cgroup_root", "", "where the cgroups of sandboxes are found; empty: not read"),
    CONFIG_BOOL(C, sample_links, "sample_links", "no", "read the counters of the sandboxes' TAP devices"),
    CONFIG_DURATION(C, seal_interval_ms, "seal_interval", "200ms", 1, MINUTE_MS,
                    "how long an event waits for others before all are made durable and acknowledged"),
    CONFIG_DURATION(C, heartbeat_interval_ms, "heartbeat_interval", "10s", 100, MINUTE_MS,
                    "how often a batch is sent although nothing happened"),
    CONFIG_DURATION(C, sample_interval_ms, "sample_interval", "10s", 100, HOUR_MS,
                    "how often cgroups and TAP devices are read (clock = system)"),
    CONFIG_LISTEN(C, ops_listen, "ops_listen", "127.0.0.1:9464", "address of /healthz, /readyz and /metrics"),
    CONFIG_WORD(C, log_level, "log_level", "info", log_level_words, "least level of log lines"),
};

static enum sg_error check(const void *config, struct sg_fault *f)
{
    const struct collector_config *c = config;
    char *end;
    unsigned long mode = strtoul(c->ingest_socket_mode, &end, 8);
    if (!id_valid(c->runner, strlen(c->runner))) return sg_fail(f, SG_ERR_CONFIG, "runner is not an identifier");
    if (!id_valid(c->region, strlen(c->region))) return sg_fail(f, SG_ERR_CONFIG, "region is not an identifier");
    if (*end || end == c->ingest_socket_mode || mode > 0777)
        return sg_fail(f, SG_ERR_CONFIG, "ingest_socket_mode is not an octal mode");
    for (size_t i = 0; i < c->kafka_properties.count; i++)
        if (!strchr(c->kafka_properties.item[i], ' '))
            return sg_fail(f, SG_ERR_CONFIG, "kafka_property is not NAME VALUE");
    return SG_OK;
}

const struct config_table collector_config_table = {.program = "sandglass-collector",
                                                    .summary = "meters the sandboxes of one runner",
                                                    .keys = keys,
                                                    .count = sizeof keys / sizeof *keys,
                                                    .struct_bytes = sizeof(struct collector_config),
                                                    .check = check};
