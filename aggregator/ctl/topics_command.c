/* sandglass topics create: the three topics as proto/topics.md says they have to be. A topic that is there already is
 * left as it is, but its number of partitions must be what is asked for: it is fixed at creation. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/ctl/ctl.h"
#include "sandglass/limits.h"

enum { TIMEOUT_MS = 20 * 1000, PAUSE_MS = 100, PARTITIONS_DEFAULT = 6 };

struct topic_plan {
    const char *name;
    int partitions;
    const char *config[8]; /* name, value, ..., NULL */
};

static rd_kafka_t *client_open(const struct ctl_config *k, struct sg_fault *f)
{
    static const char *const none[] = {NULL};
    char text[256];
    rd_kafka_conf_t *conf = ctl_kafka_conf(k, none, f);
    if (!conf) return NULL;
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        (void)sg_fail(f, SG_ERR_NOMEM, "kafka: no client");
    }
    return rk;
}

/* What the broker says of one created topic. */
static enum sg_error result_of(const rd_kafka_topic_result_t *r, struct sg_fault *f)
{
    rd_kafka_resp_err_t e = rd_kafka_topic_result_error(r);
    if (e == RD_KAFKA_RESP_ERR_NO_ERROR || e == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) return SG_OK;
    return sg_fail(f, SG_ERR_DENIED, "kafka: topic %s: %s", rd_kafka_topic_result_name(r), rd_kafka_err2name(e));
}

static enum sg_error create_one(rd_kafka_t *rk, rd_kafka_queue_t *queue, const struct topic_plan *plan, int replication,
                                struct sg_fault *f)
{
    char text[256];
    size_t count = 0;
    enum sg_error e = SG_OK;
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(plan->name, plan->partitions, replication, text, sizeof text);
    if (!topic)
        return sg_fail(f, SG_ERR_USAGE, "kafka: topic %s cannot have %d partitions and %d replicas", plan->name,
                       plan->partitions, replication);
    for (size_t i = 0; plan->config[i]; i += 2)
        rd_kafka_NewTopic_set_config(topic, plan->config[i], plan->config[i + 1]);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, TIMEOUT_MS, text, sizeof text);
    rd_kafka_CreateTopics(rk, &topic, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS + 1000);
    const rd_kafka_CreateTopics_result_t *result = event ? rd_kafka_event_CreateTopics_result(event) : NULL;
    if (!result || rd_kafka_event_error(event))
        e = sg_fail(f, SG_ERR_UNREACHABLE, "kafka: no answer to creating topic %s", plan->name);
    else {
        const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
        for (size_t i = 0; !e && i < count; i++) e = result_of(topics[i], f);
    }
    if (event) rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(topic);
    return e;
}

/* The number of partitions a broker knows the topic to have; 0 when it does not know the topic. */
static enum sg_error count_partitions(rd_kafka_t *rk, rd_kafka_topic_t *topic, int *out, struct sg_fault *f)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t e = rd_kafka_metadata(rk, 0, topic, &metadata, TIMEOUT_MS);
    if (e)
        return sg_fail(f, SG_ERR_UNREACHABLE, "kafka: no metadata of topic %s: %s", rd_kafka_topic_name(topic),
                       rd_kafka_err2name(e));
    *out = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    return SG_OK;
}

/* The controller answers before every broker has heard of the topic: a topic unknown so far is asked for again. */
static enum sg_error check_one(rd_kafka_t *rk, const struct topic_plan *plan, struct sg_fault *f)
{
    int there = 0;
    enum sg_error e = SG_OK;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, plan->name, NULL);
    if (!topic) return sg_fail(f, SG_ERR_NOMEM, "kafka: no topic handle");
    for (int waited_ms = 0; !e && there == 0 && waited_ms < TIMEOUT_MS; waited_ms += PAUSE_MS) {
        e = count_partitions(rk, topic, &there, f);
        if (!e && there == 0) rd_kafka_poll(rk, PAUSE_MS);
    }
    rd_kafka_topic_destroy(topic);
    if (e || there == plan->partitions) return e;
    return sg_fail(f, SG_ERR_MISMATCH, "kafka: topic %s has %d partitions, not %d: their number is fixed at creation",
                   plan->name, there, plan->partitions);
}

static bool take_count(const char *text, int fallback, int max, int *out)
{
    char *end;
    *out = fallback;
    if (!text) return true;
    long v = strtol(text, &end, 10);
    if (*end || end == text || v < 1 || v > max) return false;
    *out = (int)v;
    return true;
}

int ctl_topics_create(const struct ctl_call *c)
{
    int partitions, replication;
    struct sg_fault f = {0};
    if (!take_count(c->option[OPTION_PARTITIONS], PARTITIONS_DEFAULT, PARTITIONS_MAX, &partitions))
        return ctl_misuse("--partitions must be 1 to 1024");
    if (!take_count(c->option[OPTION_REPLICATION], 3, 7, &replication))
        return ctl_misuse("--replication must be 1 to 7");
    const char *in_sync = replication >= 3 ? "2" : "1";
    const struct topic_plan plans[] = {
        {c->config->events_topic,
         partitions,
         {"retention.ms", "2592000000", "min.insync.replicas", in_sync, "unclean.leader.election.enable", "false"}},
        {c->config->ledger_topic,
         (int)c->config->shards,
         {"retention.ms", "220752000000", "min.insync.replicas", in_sync, "unclean.leader.election.enable", "false"}},
        {c->config->control_topic,
         1,
         {"retention.ms", "-1", "min.insync.replicas", in_sync, "unclean.leader.election.enable", "false"}},
    };
    rd_kafka_t *rk = client_open(c->config, &f);
    if (!rk) return ctl_fail(&f);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    enum sg_error e = SG_OK;
    for (size_t i = 0; !e && i < sizeof plans / sizeof *plans; i++) {
        e = create_one(rk, queue, &plans[i], replication, &f);
        if (!e) e = check_one(rk, &plans[i], &f);
        if (!e) printf("%s: %d partitions\n", plans[i].name, plans[i].partitions);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return e ? ctl_fail(&f) : CTL_DONE;
}
