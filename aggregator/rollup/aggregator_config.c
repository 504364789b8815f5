/* The aggregator's configuration. */
#include <string.h>

#include "aggregator/rollup/aggregator.h"
#include "common/log.h"
#include "sandglass/limits.h"

#define C struct aggregator_config
static const struct config_key keys[] = {
    CONFIG_STRING(C, instance, "instance", "aggregator-1",
                  "name of this process, stable and unique: its static membership in the consumer group"),
    CONFIG_STRING(C, kafka_brokers, "kafka_brokers", NULL, "host:port,host:port of the Kafka cluster"),
    CONFIG_LIST(C, kafka_properties, "kafka_property", "NAME VALUE of a librdkafka property, for TLS and login"),
    CONFIG_STRING(C, group, "group", "sandglass-aggregator",
                  "consumer group; positions are published for lag tools under this name with .positions"),
    CONFIG_STRING(C, events_topic, "events_topic", "sandglass.events", "topic that collectors write to"),
    CONFIG_STRING(C, ledger_topic, "ledger_topic", "sandglass.ledger", "topic with the archive; a partition per shard"),
    CONFIG_STRING(C, redis, "redis", NULL, "host:port of Redis, or several nodes of a cluster"),
    CONFIG_BOOL(C, redis_cluster, "redis_cluster", "no", "whether it is a Redis Cluster"),
    CONFIG_STRING(C, redis_user, "redis_user", "", "user of Redis; empty: the default user"),
    CONFIG_SECRET(C, redis_password, "redis_password", "", "password of Redis"),
    CONFIG_INT(C, shards, "shards", "16", 1, SHARDS_MAX, "shards of the view; fixed when it is created"),
    CONFIG_DURATION(C, flush_interval_ms, "flush_interval", "500ms", 10, MINUTE_MS, "how often sums are written"),
    CONFIG_INT(C, cells_max, "cells_max", "500000", 1000, 100000000,
               "cells in memory, about 300 bytes each; beyond that clean ones are forgotten early"),
    CONFIG_LISTEN(C, ops_listen, "ops_listen", "127.0.0.1:9465", "health and metrics"),
    CONFIG_WORD(C, log_level, "log_level", "info", log_level_words, "how much is logged"),
};
#undef C

static enum sg_error check(const void *config, struct sg_fault *f)
{
    const struct aggregator_config *c = config;
    for (size_t i = 0; i < c->kafka_properties.count; i++)
        if (!strchr(c->kafka_properties.item[i], ' ')) return sg_fail(f, SG_ERR_CONFIG, "kafka_property: NAME VALUE");
    if (c->instance[0] == '\0' || c->group[0] == '\0')
        return sg_fail(f, SG_ERR_CONFIG, "instance and group need a name");
    return SG_OK;
}

const struct config_table aggregator_config_table = {
    .program = "sandglass-aggregator",
    .summary = "roll the events up into the view, each exactly once",
    .keys = keys,
    .count = sizeof keys / sizeof *keys,
    .struct_bytes = sizeof(struct aggregator_config),
    .check = check,
};
