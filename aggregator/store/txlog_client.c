#include "aggregator/store/txlog_client.h"

#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "common/memory.h"

/* proto/topics.md, "Clients", says why. */
static const char *const shared_properties[] = {
    "reconnect.backoff.ms",
    "50",
    "reconnect.backoff.max.ms",
    "500",
    "topic.metadata.refresh.fast.interval.ms",
    "250",
    "socket.nagle.disable",
    "true",
    "socket.keepalive.enable",
    "true",
    "allow.auto.create.topics",
    "false",
    NULL,
};

static bool set_all(rd_kafka_conf_t *conf, const char *const *pairs, struct sg_fault *f)
{
    char why[SG_FAULT_BYTES];
    for (; pairs && pairs[0]; pairs += 2) {
        if (rd_kafka_conf_set(conf, pairs[0], pairs[1], why, sizeof why) == RD_KAFKA_CONF_OK) continue;
        /* librdkafka's text quotes the value, which may be a secret */
        (void)sg_fail(f, SG_ERR_CONFIG, "kafka property %.64s is refused", pairs[0]);
        return false;
    }
    return true;
}

/* What a broker says in its own words stays out of our logs; faults carry the code's text. */
static void no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

void txlog_on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    (void)reason;
    (void)opaque;
    if (code == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE) memory_exhausted("a thread of the Kafka client");
}

rd_kafka_conf_t *txlog_conf(const struct txlog_config *config, const char *const *more, void *opaque,
                            struct sg_fault *f)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *own[] = {"bootstrap.servers", config->brokers, "client.id",
                         config->client_id ? config->client_id : "sandglass", NULL};
    rd_kafka_conf_set_log_cb(conf, no_log);
    rd_kafka_conf_set_error_cb(conf, txlog_on_error);
    rd_kafka_conf_set_opaque(conf, opaque);
    if (set_all(conf, shared_properties, f) && set_all(conf, own, f) && set_all(conf, config->kafka, f) &&
        set_all(conf, more, f))
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

enum sg_error txlog_error(rd_kafka_resp_err_t e)
{
    static const struct {
        rd_kafka_resp_err_t kafka;
        enum sg_error ours;
    } table[] = {
        {RD_KAFKA_RESP_ERR__FENCED, SG_ERR_FENCED},
        {RD_KAFKA_RESP_ERR_PRODUCER_FENCED, SG_ERR_FENCED},
        {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, SG_ERR_FENCED},
        {RD_KAFKA_RESP_ERR__TIMED_OUT, SG_ERR_TIMEOUT},
        {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SG_ERR_DENIED},
        {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, SG_ERR_DENIED},
        {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, SG_ERR_DENIED},
        {RD_KAFKA_RESP_ERR__AUTHENTICATION, SG_ERR_DENIED},
        {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, SG_ERR_NOT_FOUND},
        {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, SG_ERR_NOT_FOUND},
        {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, SG_ERR_NOT_FOUND},
        {RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, SG_ERR_CORRUPT},
        {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, SG_ERR_CORRUPT},
        {RD_KAFKA_RESP_ERR__BAD_MSG, SG_ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].kafka == e) return table[i].ours;
    return SG_ERR_UNREACHABLE;
}

uint64_t txlog_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint32_t txlog_timeout_ms(const struct txlog_config *config)
{
    return config->timeout_ms ? config->timeout_ms : TXLOG_TIMEOUT_MS_DEFAULT;
}

bool txlog_tick(const struct txlog_waiter *wait)
{
    return wait && wait->tick(wait->arg);
}

void txlog_prime(rd_kafka_t *rk, rd_kafka_topic_t *topic, uint32_t timeout_ms)
{
    const struct rd_kafka_metadata *m = NULL;
    if (rd_kafka_metadata(rk, 0, topic, &m, (int)timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(m);
}
