/* sandglass tail: follows the events topic from its present end, as JSON lines; a consumer of its own that commits
 * nothing. */
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/ctl/batch_json.h"
#include "aggregator/ctl/ctl.h"
#include "sandglass/limits.h"

enum { POLL_MS = 200, METADATA_MS = 10 * 1000, ASSIGN_MAX = PARTITIONS_MAX };

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static rd_kafka_t *consumer_open(const struct ctl_config *k, struct sg_fault *f)
{
    static const char *const settings[] = {
        "group.id", "sandglass-tail", "enable.auto.commit", "false", "auto.offset.reset", "latest", NULL};
    char text[256];
    rd_kafka_conf_t *conf = ctl_kafka_conf(k, settings, f);
    rd_kafka_t *rk = conf ? rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text) : NULL;
    if (rk || !conf) return rk;
    rd_kafka_conf_destroy(conf);
    (void)sg_fail(f, SG_ERR_CONFIG, "kafka: no consumer with this configuration");
    return NULL;
}

static enum sg_error assign_all(rd_kafka_t *rk, const char *name, struct sg_fault *f)
{
    const struct rd_kafka_metadata *m;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    if (!topic) return sg_fail(f, SG_ERR_NOMEM, "kafka: no topic handle");
    rd_kafka_resp_err_t e = rd_kafka_metadata(rk, 0, topic, &m, METADATA_MS);
    rd_kafka_topic_destroy(topic);
    if (e) return sg_fail(f, SG_ERR_UNREACHABLE, "kafka: no metadata: %s", rd_kafka_err2name(e));
    int count = m->topic_cnt == 1 && m->topics[0].partition_cnt <= ASSIGN_MAX ? m->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(m);
    if (count == 0) return sg_fail(f, SG_ERR_NOT_FOUND, "kafka: the events topic does not exist");
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(count);
    for (int p = 0; p < count; p++) rd_kafka_topic_partition_list_add(all, name, p)->offset = RD_KAFKA_OFFSET_END;
    e = rd_kafka_assign(rk, all);
    rd_kafka_topic_partition_list_destroy(all);
    return e ? sg_fail(f, SG_ERR_UNREACHABLE, "kafka: %s", rd_kafka_err2name(e)) : SG_OK;
}

/* A batch that cannot be read is told in a line of its own, with its place; following goes on. */
static enum sg_error show(struct batch_decoder *d, const rd_kafka_message_t *m)
{
    struct batch b;
    struct sg_fault f = {0};
    struct batch_place place = {m->partition, (uint64_t)m->offset};
    if (batch_decode(d, m->payload, m->len, &b, &f) == SG_OK) return batch_json_write(&b, &place, stdout);
    printf("{\"kind\":\"unreadable\",\"partition\":%d,\"offset\":%lld}\n", m->partition, (long long)m->offset);
    fprintf(stderr, "sandglass: %s\n", f.text);
    return SG_OK;
}

static enum sg_error follow(rd_kafka_t *rk, struct batch_decoder *d, long left, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    while (!e && !stopping && left != 0) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, POLL_MS);
        if (!m) continue;
        if (!m->err) {
            e = show(d, m);
            if (left > 0) left--;
            fflush(stdout);
        }
        rd_kafka_message_destroy(m);
    }
    return e ? sg_fail(f, e, "standard output could not be written") : SG_OK;
}

int ctl_tail(const struct ctl_call *c)
{
    struct batch_decoder d = {0};
    struct sg_fault f = {0};
    struct sigaction act = {.sa_handler = on_signal};
    char *end = NULL;
    long count = c->option[OPTION_COUNT] ? strtol(c->option[OPTION_COUNT], &end, 10) : -1;
    if (end && (*end || count < 1)) return ctl_misuse("--count must be a number of batches");
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    rd_kafka_t *rk = consumer_open(c->config, &f);
    if (!rk) return ctl_fail(&f);
    enum sg_error e = batch_decoder_init(&d);
    if (!e) e = assign_all(rk, c->config->events_topic, &f);
    if (!e) e = follow(rk, &d, count, &f);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    batch_decoder_destroy(&d);
    return e ? ctl_fail(&f) : CTL_DONE;
}
