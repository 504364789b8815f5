/* sandglass-exporter: configuration and start. */
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/exporter.h"
#include "common/args.h"
#include "common/log.h"
#include "common/ops_http.h"
#include "common/service.h"
#include "proto/json_memory.h"
#include "sandglass/limits.h"

#define C struct exporter_config
static const struct config_key keys[] = {
    CONFIG_STRING(C, instance, "instance", "exporter-1", "name of this process in logs of Kafka"),
    CONFIG_STRING(C, cluster, "cluster", "sandglass",
                  "part of the transactional ids; the same for all exporters of one ledger, and never changed"),
    CONFIG_STRING(C, kafka_brokers, "kafka_brokers", NULL, "host:port,host:port of the Kafka cluster"),
    CONFIG_LIST(C, kafka_properties, "kafka_property", "NAME VALUE of a librdkafka property, for TLS and login"),
    CONFIG_STRING(C, ledger_topic, "ledger_topic", "sandglass.ledger", "topic of the ledger; a partition per shard"),
    CONFIG_STRING(C, control_topic, "control_topic", "sandglass.control", "topic of administrative facts"),
    CONFIG_STRING(C, redis, "redis", NULL, "host:port of Redis, or several nodes of a cluster"),
    CONFIG_BOOL(C, redis_cluster, "redis_cluster", "no", "whether it is a Redis Cluster"),
    CONFIG_STRING(C, redis_user, "redis_user", "", "user of Redis; empty: the default user"),
    CONFIG_SECRET(C, redis_password, "redis_password", "", "password of Redis"),
    CONFIG_INT(C, shards, "shards", "16", 1, SHARDS_MAX, "shards of the view; fixed when it was created"),
    CONFIG_STRING(C, stripe_url, "stripe_url", "https://api.stripe.com", "where Stripe's API is"),
    CONFIG_SECRET(C, stripe_key, "stripe_key", NULL, "restricted key: meter events write, meters read"),
    CONFIG_STRING(C, stripe_account, "stripe_account", "main",
                  "names the Stripe account in identifiers; never changed once something was billed"),
    CONFIG_STRING(C, stripe_version, "stripe_version", "2026-07-29.dahlia", "version of Stripe's API"),
    CONFIG_PATH(C, stripe_ca_file, "stripe_ca_file", "", "certificates to trust; empty: the system's"),
    CONFIG_STRING(C, stripe_proxy, "stripe_proxy", "", "HTTP proxy to reach Stripe through; empty: none"),
    CONFIG_INT(C, stripe_concurrency, "stripe_concurrency", "16", 1, STRIPE_CONCURRENCY_MAX,
               "requests in flight; one per customer and meter in any case"),
    CONFIG_LIST_REQUIRED(C, meters, "meter", "a field of the rollups that is billed; the event_name of its meter"),
    CONFIG_DURATION(C, hour_close_delay_ms, "hour_close_delay", "60s", 0, DAY_MS,
                    "how far the watermark must be past an hour's end"),
    CONFIG_DURATION(C, poll_interval_ms, "poll_interval", "5s", 100, HOUR_MS, "how often a shard is looked at"),
    CONFIG_DURATION(C, archive_interval_ms, "archive_interval", "15m", SECOND_MS, DAY_MS,
                    "how often closed windows and marks are archived"),
    CONFIG_DURATION(C, runner_grace_ms, "runner_grace", "10m", SECOND_MS, DAY_MS,
                    "a runner silent for longer does not hold the watermark back"),
    CONFIG_LISTEN(C, ops_listen, "ops_listen", "127.0.0.1:9466", "health and metrics"),
    CONFIG_WORD(C, log_level, "log_level", "info", log_level_words, "how much is logged"),
};
#undef C

static bool is_url_safe(const char *s)
{
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(s) && s[0];
}

static enum sg_error check(const void *config, struct sg_fault *f)
{
    const struct exporter_config *c = config;
    if (!stripe_url_allowed(c->stripe_url))
        return sg_fail(f, SG_ERR_CONFIG, "stripe_url: https without a slash at the end, or http to a loopback address");
    if (!id_valid(c->stripe_account, strlen(c->stripe_account)))
        return sg_fail(f, SG_ERR_CONFIG, "stripe_account: 1 to 64 of A-Z a-z 0-9 _ -");
    if (!id_valid(c->cluster, strlen(c->cluster)))
        return sg_fail(f, SG_ERR_CONFIG, "cluster: 1 to 64 of A-Z a-z 0-9 _ -");
    if (!is_url_safe(c->stripe_version)) return sg_fail(f, SG_ERR_CONFIG, "stripe_version: not a version");
    if (strlen(c->ledger_topic) > TXLOG_NAME_BYTES_MAX || strlen(c->control_topic) > TXLOG_NAME_BYTES_MAX)
        return sg_fail(f, SG_ERR_CONFIG, "a topic's name is too long");
    if (c->meters.count == 0 || c->meters.count > METERS_MAX)
        return sg_fail(f, SG_ERR_CONFIG, "meter: 1 to %d are needed", METERS_MAX);
    for (size_t i = 0; i < c->meters.count; i++) {
        enum field ignored;
        if (!field_parse(c->meters.item[i], strlen(c->meters.item[i]), &ignored))
            return sg_fail(f, SG_ERR_CONFIG, "meter: one of them is no field of a rollup");
    }
    return SG_OK;
}

const struct config_table exporter_config_table = {
    .program = "sandglass-exporter",
    .summary = "bring closed hours to Stripe, each exactly once, through the ledger",
    .keys = keys,
    .count = sizeof keys / sizeof *keys,
    .struct_bytes = sizeof(struct exporter_config),
    .check = check,
};

int main(int argc, char **argv)
{
    static struct exporter x;
    struct exporter_config config;
    struct sg_fault f = {0};
    struct ops_http *ops = NULL;
    int status;
    if (!args_main_setup(argc, argv, &exporter_config_table, &config, &status)) return status;
    log_init("sandglass-exporter", (enum log_level)config.log_level);
    service_setup(4096);
    json_memory_setup();
    enum sg_error e = exporter_init(&x, &config, &f);
    if (e == SG_OK) {
        struct ops_http_config listen = {
            .listen = config.ops_listen, .program = "sandglass-exporter", .health = &x.health, .counters = &x.counters};
        e = ops_http_start(&ops, &listen, &f);
    }
    if (e == SG_OK) {
        log_event(LOG_INFO, "started", "version=%s shards=%lld ops_port=%u", SANDGLASS_VERSION,
                  (long long)config.shards, ops_http_port(ops));
        e = exporter_run(&x, &f);
    }
    if (e != SG_OK) log_fault(LOG_ERROR, "stopped", &f);
    if (e == SG_OK) log_event(LOG_INFO, "stopped", "%s", "");
    log_flush(true);
    ops_http_stop(ops);
    exporter_destroy(&x);
    config_destroy(&exporter_config_table, &config);
    return e == SG_OK ? 0 : 1;
}
