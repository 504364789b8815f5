/* The follower: librdkafka's simple consumer (no group, so no coordinator and no rights on groups), read_committed.
 *
 * Position moves past control and aborted records only when the partition's end is announced (PARTITION_EOF carries the
 * offset of what comes next), so lag is exact at the end and too high, never too low, before it. Lag is what the newest
 * fetch said, after a metadata request has shown that the brokers live: rd_kafka_query_watermark_offsets() would ask,
 * but with its broker gone 2.0 ignores its timeout and blocks until the broker is back. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/txlog_client.h"

struct txlog_reader {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    int32_t partition;
    bool started;
    uint64_t position;
    bool end_seen;               /* at least once */
    rd_kafka_resp_err_t trouble; /* the client's newest complaint, not yet told */
    char name[TXLOG_NAME_BYTES_MAX + 1];
};

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct txlog_reader *r = opaque;
    txlog_on_error(rk, code, reason, opaque);
    /* one broken connection of several is nothing; no broker at all, or no right to talk, is */
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || txlog_error(code) == SG_ERR_DENIED) r->trouble = code;
}

enum sg_error txlog_reader_open(struct txlog_reader **out, const struct txlog_config *config, uint64_t from,
                                struct sg_fault *f)
{
    static const char *const properties[] = {
        "isolation.level",
        "read_committed",
        "enable.partition.eof",
        "true",
        "enable.auto.commit",
        "false",
        "auto.offset.reset",
        "error",
        "fetch.wait.max.ms",
        "100",
        "check.crcs",
        "true",
        "fetch.error.backoff.ms",
        "100",
        NULL,
    };
    char why[SG_FAULT_BYTES];
    struct txlog_reader *r = calloc(1, sizeof *r);
    if (!r) return sg_fail(f, SG_ERR_NOMEM, "topic %s: no memory for its reader", config->topic);
    rd_kafka_conf_t *conf = txlog_conf(config, properties, r, f);
    if (!conf) goto out;
    rd_kafka_conf_set_error_cb(conf, on_error);
    r->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!r->rk) {
        rd_kafka_conf_destroy(conf);
        (void)sg_fail(f, SG_ERR_CONFIG, "the Kafka consumer cannot be made");
        goto out;
    }
    r->topic = rd_kafka_topic_new(r->rk, config->topic, NULL);
    r->partition = (int32_t)config->partition;
    r->position = from;
    strncpy(r->name, config->topic, sizeof r->name - 1);
    if (r->topic && config->at_once) txlog_prime(r->rk, r->topic, TXLOG_PRIME_MS);
    if (!r->topic ||
        rd_kafka_consume_start(r->topic, r->partition, from ? (int64_t)from : RD_KAFKA_OFFSET_BEGINNING) != 0) {
        (void)sg_fail(f, SG_ERR_CONFIG, "topic %s cannot be read", r->name);
        goto out;
    }
    r->started = true;
    *out = r;
    return SG_OK;
out:
    txlog_reader_destroy(r);
    return f ? f->code : SG_ERR_CONFIG;
}

static enum sg_error take(struct txlog_reader *r, const rd_kafka_message_t *m, txlog_each *each, void *arg,
                          struct sg_fault *f)
{
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if ((uint64_t)m->offset > r->position) r->position = (uint64_t)m->offset;
        r->end_seen = true;
        return SG_OK;
    }
    if (m->err)
        return sg_fail(f, txlog_error(m->err), "topic %s partition %d: %s", r->name, r->partition,
                       rd_kafka_err2str(m->err));
    int64_t time = rd_kafka_message_timestamp(m, NULL);
    struct txlog_record record = {
        (uint64_t)m->offset, {time < 0 ? 0 : time}, m->payload ? (const char *)m->payload : "", m->len};
    r->position = record.offset + 1;
    return each(arg, &record, f);
}

enum sg_error txlog_reader_poll(struct txlog_reader *r, uint32_t timeout_ms, size_t max, txlog_each *each, void *arg,
                                struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    rd_kafka_poll(r->rk, 0); /* serves on_error */
    for (size_t i = 0; i < max && e == SG_OK; i++) {
        rd_kafka_message_t *m = rd_kafka_consume(r->topic, r->partition, i ? 0 : (int)timeout_ms);
        if (!m) break;
        r->trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
        e = take(r, m, each, arg, f);
        rd_kafka_message_destroy(m);
    }
    if (e == SG_OK && r->trouble) {
        e = sg_fail(f, txlog_error(r->trouble), "topic %s: %s", r->name, rd_kafka_err2str(r->trouble));
        r->trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    return e;
}

enum sg_error txlog_reader_lag(struct txlog_reader *r, uint32_t timeout_ms, uint64_t *lag, struct sg_fault *f)
{
    const struct rd_kafka_metadata *m = NULL;
    int64_t low, high;
    rd_kafka_resp_err_t e = rd_kafka_metadata(r->rk, 0, r->topic, &m, (int)timeout_ms);
    if (e == RD_KAFKA_RESP_ERR_NO_ERROR) {
        e = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
        for (int i = 0; m->topic_cnt == 1 && i < m->topics[0].partition_cnt; i++)
            if (m->topics[0].partitions[i].id == r->partition) e = m->topics[0].partitions[i].err;
        rd_kafka_metadata_destroy(m);
    }
    if (e) return sg_fail(f, txlog_error(e), "topic %s partition %d: %s", r->name, r->partition, rd_kafka_err2str(e));
    *lag = r->end_seen ? 0 : 1;
    /* what the newest fetch said */
    if (rd_kafka_get_watermark_offsets(r->rk, rd_kafka_topic_name(r->topic), r->partition, &low, &high) == 0 &&
        high > 0 && (uint64_t)high > r->position)
        *lag = (uint64_t)high - r->position;
    return SG_OK;
}

uint64_t txlog_reader_position(const struct txlog_reader *r)
{
    return r->position;
}

void txlog_reader_destroy(struct txlog_reader *r)
{
    if (!r) return;
    if (r->started) rd_kafka_consume_stop(r->topic, r->partition);
    if (r->topic) rd_kafka_topic_destroy(r->topic);
    if (r->rk) rd_kafka_destroy(r->rk);
    free(r);
}
