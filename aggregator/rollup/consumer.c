#include "aggregator/rollup/consumer.h"

#include <assert.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/memory.h"
#include "sandglass/limits.h"

enum { MAKE_WAIT_S = 10, FREE_WAIT_S = 3 };

struct consumer {
    rd_kafka_t *member, *publisher;
    rd_kafka_topic_t *topic_handle;
    char *topic;
    uint32_t partition[PARTITIONS_MAX];
    size_t count;
    bool changed;  /* the assignment has, and its owner was not told */
    bool assigned; /* the group has given us our place */
    bool placed;
    const char *fault;
};

/* Bounds: 64 MiB of messages that wait. 1,000,000 messages: 2.0 pauses for a second whenever a limit is reached. */
static const char *const member_properties[] = {"enable.auto.commit",
                                                "false",
                                                "enable.auto.offset.store",
                                                "false",
                                                "auto.offset.reset",
                                                "error",
                                                "partition.assignment.strategy",
                                                "roundrobin",
                                                "enable.partition.eof",
                                                "true",
                                                "isolation.level",
                                                "read_committed",
                                                "check.crcs",
                                                "true",
                                                NULL};
static const char *const defaults[] = {"session.timeout.ms",
                                       "30000",
                                       "heartbeat.interval.ms",
                                       "500",
                                       "max.poll.interval.ms",
                                       "600000",
                                       "queued.min.messages",
                                       "1000000",
                                       "queued.max.messages.kbytes",
                                       "65536",
                                       "fetch.message.max.bytes",
                                       "2097152",
                                       "fetch.wait.max.ms",
                                       "50",
                                       NULL};
static const char *const common_properties[] = {"socket.nagle.disable",
                                                "true",
                                                "socket.keepalive.enable",
                                                "true",
                                                "reconnect.backoff.ms",
                                                "50",
                                                "reconnect.backoff.max.ms",
                                                "500",
                                                "topic.metadata.refresh.fast.interval.ms",
                                                "250",
                                                "allow.auto.create.topics",
                                                "false",
                                                NULL};

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value, struct sg_fault *f)
{
    char why[SG_FAULT_BYTES];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK) return true;
    /* librdkafka's text quotes the value, which may be a secret */
    (void)sg_fail(f, SG_ERR_CONFIG, "kafka property %.64s is refused", name);
    return false;
}

static bool set_all(rd_kafka_conf_t *conf, const char *const *pairs, struct sg_fault *f)
{
    for (; pairs[0]; pairs += 2)
        if (!set(conf, pairs[0], pairs[1], f)) return false;
    return true;
}

static bool set_list(rd_kafka_conf_t *conf, const struct config_list *list, struct sg_fault *f)
{
    for (size_t i = 0; list && i < list->count; i++) {
        char name[128];
        const char *space = strchr(list->item[i], ' ');
        if (!space || (size_t)(space - list->item[i]) >= sizeof name) {
            (void)sg_fail(f, SG_ERR_CONFIG, "kafka_property: NAME VALUE");
            return false;
        }
        memcpy(name, list->item[i], (size_t)(space - list->item[i]));
        name[space - list->item[i]] = '\0';
        if (!set(conf, name, space + 1, f)) return false;
    }
    return true;
}

/* What a broker says in its own words stays out of our logs. */
static void no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *arg)
{
    struct consumer *c = arg;
    (void)rk;
    (void)reason;
    /* it will not try again, and may not end without that thread either */
    if (code == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE) memory_exhausted("a thread of the Kafka client");
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) c->fault = "no broker can be reached";
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION) c->fault = "login refused";
    if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
        c->fault = "topic or group is not allowed";
}

/* ---- the assignment ---- */

static rd_kafka_topic_partition_list_t *list_of(const struct consumer *c, const uint64_t *offsets)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->count);
    for (size_t i = 0; i < c->count; i++)
        rd_kafka_topic_partition_list_add(list, c->topic, (int32_t)c->partition[i])->offset =
            offsets ? (int64_t)offsets[i] : RD_KAFKA_OFFSET_END;
    return list;
}

/* librdkafka (2.0 to at least 2.15, its issue 5573) stops the partitions of the assignment before by messages to
 * itself. When the next assignment overtakes the answer to one, it stops that partition a second time, and aborts on
 * the second answer. Its thread takes messages in order: a question that is answered after our assignment was taken has
 * let those stops through, and their answers stand before whatever we ask next. */
static rd_kafka_resp_err_t assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_topic_partition_list_t *same;
    rd_kafka_resp_err_t e = rd_kafka_assign(rk, list);
    if (rd_kafka_assignment(rk, &same) == RD_KAFKA_RESP_ERR_NO_ERROR) rd_kafka_topic_partition_list_destroy(same);
    return e;
}

static rd_kafka_resp_err_t assign_at(struct consumer *c, const uint64_t *offsets)
{
    rd_kafka_topic_partition_list_t *list = list_of(c, offsets);
    rd_kafka_resp_err_t e = assign(c->member, list);
    rd_kafka_topic_partition_list_destroy(list);
    return e;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *arg)
{
    struct consumer *c = arg;
    c->changed = true;
    c->placed = false;
    c->count = 0;
    c->assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    if (code != RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        (void)assign(rk, NULL);
        return;
    }
    for (int i = 0; i < list->cnt && c->count < PARTITIONS_MAX; i++)
        c->partition[c->count++] = (uint32_t)list->elems[i].partition;
    qsort(c->partition, c->count, sizeof *c->partition, by_number);
    (void)assign_at(c, NULL);
}

const uint32_t *consumer_partitions(const struct consumer *c, size_t *count)
{
    *count = c->count;
    return c->partition;
}

bool consumer_assigned(const struct consumer *c)
{
    return c->assigned;
}

enum sg_error consumer_place(struct consumer *c, const uint64_t *offsets, struct sg_fault *f)
{
    rd_kafka_resp_err_t e = assign_at(c, offsets);
    if (e) return sg_fail(f, SG_ERR_STATE, "kafka: assign: %s", rd_kafka_err2name(e));
    c->placed = true;
    return SG_OK;
}

void consumer_park(struct consumer *c)
{
    if (!c->placed) return;
    c->placed = false;
    (void)assign_at(c, NULL);
}

bool consumer_placed(const struct consumer *c)
{
    return c->placed;
}

/* ---- making ---- */

struct making {
    rd_kafka_conf_t *conf;
    rd_kafka_t *client;
    pthread_mutex_t mutex; /* guards made */
    pthread_cond_t changed;
    bool made;
};

static void *make(void *arg)
{
    char why[SG_FAULT_BYTES];
    struct making *m = arg;
    m->client = rd_kafka_new(RD_KAFKA_CONSUMER, m->conf, why, sizeof why);
    pthread_mutex_lock(&m->mutex);
    m->made = true;
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
    return NULL;
}

/* False: it has not come back in time. */
static bool wait_made(struct making *m)
{
    struct timespec until;
    int status = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += MAKE_WAIT_S;
    pthread_mutex_lock(&m->mutex);
    while (!m->made && status == 0) status = pthread_cond_timedwait(&m->changed, &m->mutex, &until);
    bool made = m->made;
    pthread_mutex_unlock(&m->mutex);
    return made;
}

static void making_init(struct making *m, rd_kafka_conf_t *conf)
{
    pthread_condattr_t monotonic;
    *m = (struct making){.conf = conf};
    int status = pthread_condattr_init(&monotonic) | pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) |
                 pthread_cond_init(&m->changed, &monotonic) | pthread_mutex_init(&m->mutex, NULL);
    assert(status == 0);
    pthread_condattr_destroy(&monotonic);
}

/* Takes conf; NULL: it is refused. A member of a group has a thread for its coordinator before librdkafka's main thread
 * is made. When there is none to be had, librdkafka 2.0 waits for the end of the former, which nobody has told to end,
 * for ever. So it is made in a thread that need not come back: then the process ends. */
static rd_kafka_t *client_new(struct consumer *c, rd_kafka_conf_t *conf)
{
    pthread_t thread;
    struct making m;
    making_init(&m, conf);
    rd_kafka_conf_set_opaque(conf, c);
    rd_kafka_conf_set_log_cb(conf, no_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    if (pthread_create(&thread, NULL, make, &m) || !wait_made(&m)) memory_exhausted("a thread of the Kafka client");
    pthread_join(thread, NULL);
    pthread_cond_destroy(&m.changed);
    pthread_mutex_destroy(&m.mutex);
    if (m.client)
        rd_kafka_poll_set_consumer(m.client);
    else
        rd_kafka_conf_destroy(conf);
    return m.client;
}

static enum sg_error member_new(struct consumer *c, const struct consumer_config *config, struct sg_fault *f)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (!set_all(conf, common_properties, f) || !set_all(conf, defaults, f) || !set_list(conf, config->properties, f) ||
        !set_all(conf, member_properties, f) || !set(conf, "bootstrap.servers", config->brokers, f) ||
        !set(conf, "group.id", config->group, f) || !set(conf, "group.instance.id", config->instance, f) ||
        !set(conf, "client.id", config->instance, f)) {
        rd_kafka_conf_destroy(conf);
        return SG_ERR_CONFIG;
    }
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    c->member = client_new(c, conf);
    return c->member ? SG_OK : sg_fail(f, SG_ERR_CONFIG, "kafka: the consumer cannot be made");
}

static enum sg_error publisher_new(struct consumer *c, const struct consumer_config *config, struct sg_fault *f)
{
    char group[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    (void)snprintf(group, sizeof group, "%s.positions", config->group);
    if (!set_all(conf, common_properties, f) || !set_list(conf, config->properties, f) ||
        !set(conf, "enable.auto.commit", "false", f) || !set(conf, "bootstrap.servers", config->brokers, f) ||
        !set(conf, "group.id", group, f) || !set(conf, "client.id", config->instance, f)) {
        rd_kafka_conf_destroy(conf);
        return SG_ERR_CONFIG;
    }
    c->publisher = client_new(c, conf);
    return c->publisher ? SG_OK : sg_fail(f, SG_ERR_CONFIG, "kafka: the publisher of positions cannot be made");
}

static enum sg_error subscribe(struct consumer *c, struct sg_fault *f)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, c->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t e = rd_kafka_subscribe(c->member, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (e) return sg_fail(f, SG_ERR_CONFIG, "kafka: subscribe: %s", rd_kafka_err2name(e));
    c->topic_handle = rd_kafka_topic_new(c->member, c->topic, NULL);
    return c->topic_handle ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "kafka: no memory for a topic");
}

enum sg_error consumer_new(struct consumer **out, const struct consumer_config *config, struct sg_fault *f)
{
    struct consumer *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c || !(c->topic = strdup(config->topic))) {
        free(c);
        return sg_fail(f, SG_ERR_NOMEM, "no memory for the consumer");
    }
    enum sg_error e = member_new(c, config, f);
    if (!e) e = publisher_new(c, config, f);
    if (!e) e = subscribe(c, f);
    if (e) {
        consumer_free(c);
        return e;
    }
    *out = c;
    return SG_OK;
}

/* Not closed first: a static member keeps its place, and nothing is committed. */
static void *tear_down(void *arg)
{
    struct consumer *c = arg;
    if (c->topic_handle) rd_kafka_topic_destroy(c->topic_handle);
    if (c->publisher) rd_kafka_destroy_flags(c->publisher, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (c->member) rd_kafka_destroy_flags(c->member, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

/* While no broker can be reached, librdkafka 2.0 waits for answers for as long as the session lasts: then the rest is
 * left to the end of the process. */
void consumer_free(struct consumer *c)
{
    pthread_t thread;
    struct timespec until;
    if (!c) return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FREE_WAIT_S;
    if (pthread_create(&thread, NULL, tear_down, c))
        (void)tear_down(c); /* no thread to be had */
    else if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until)) {
        (void)pthread_detach(thread);
        return;
    }
    free(c->topic);
    free(c);
}

/* ---- asking ---- */

enum sg_error consumer_partition_count(struct consumer *c, uint32_t timeout_ms, uint32_t *out, struct sg_fault *f)
{
    const struct rd_kafka_metadata *m = NULL;
    if (rd_kafka_metadata(c->member, 0, c->topic_handle, &m, (int)timeout_ms)) {
        rd_kafka_message_t *told = rd_kafka_consumer_poll(c->member, 0); /* on_error learns why */
        if (told) rd_kafka_message_destroy(told);
        return sg_fail(f, SG_ERR_UNREACHABLE, "kafka: no broker can be reached");
    }
    bool there = m->topic_cnt == 1 && m->topics[0].err == 0 && m->topics[0].partition_cnt > 0;
    *out = there ? (uint32_t)m->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(m);
    if (!there) return sg_fail(f, SG_ERR_NOT_FOUND, "kafka: the events topic does not exist or is not allowed");
    if (*out > PARTITIONS_MAX) return sg_fail(f, SG_ERR_LIMIT, "kafka: more than %d partitions", PARTITIONS_MAX);
    return SG_OK;
}

bool consumer_end(const struct consumer *c, uint32_t partition, uint64_t *end)
{
    int64_t low, high;
    if (rd_kafka_get_watermark_offsets(c->member, c->topic, (int32_t)partition, &low, &high) || high < 0) return false;
    *end = (uint64_t)high;
    return true;
}

/* rd_kafka_query_watermark_offsets() would ask for both, but with its broker gone 2.0 ignores its timeout and blocks
 * until the broker is back; this keeps it. which: RD_KAFKA_OFFSET_BEGINNING or _END, which stand for a time here. */
static rd_kafka_resp_err_t ask_offset(struct consumer *c, uint32_t partition, int64_t which, uint32_t timeout_ms,
                                      uint64_t *out)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *asked = rd_kafka_topic_partition_list_add(list, c->topic, (int32_t)partition);
    asked->offset = which;
    rd_kafka_resp_err_t e = rd_kafka_offsets_for_times(c->member, list, (int)timeout_ms);
    if (!e) e = asked->err;
    if (!e && asked->offset < 0) e = RD_KAFKA_RESP_ERR__NO_OFFSET;
    if (!e) *out = (uint64_t)asked->offset;
    rd_kafka_topic_partition_list_destroy(list);
    return e;
}

enum sg_error consumer_watermarks(struct consumer *c, uint32_t partition, uint32_t timeout_ms, uint64_t *start,
                                  uint64_t *end, struct sg_fault *f)
{
    rd_kafka_resp_err_t e = ask_offset(c, partition, RD_KAFKA_OFFSET_BEGINNING, timeout_ms, start);
    if (!e) e = ask_offset(c, partition, RD_KAFKA_OFFSET_END, timeout_ms, end);
    if (e)
        return sg_fail(f, SG_ERR_UNREACHABLE, "kafka: watermarks of partition %u: %s", partition, rd_kafka_err2name(e));
    c->fault = NULL;
    return SG_OK;
}

void consumer_publish(struct consumer *c, const uint64_t *positions)
{
    if (c->count == 0) return;
    rd_kafka_topic_partition_list_t *list = list_of(c, positions);
    (void)rd_kafka_commit(c->publisher, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_message_t *m = rd_kafka_consumer_poll(c->publisher, 0); /* serves what is due */
    if (m) rd_kafka_message_destroy(m);
}

const char *consumer_fault(const struct consumer *c)
{
    return c->fault;
}

/* ---- polling ---- */

void consumer_event_done(struct consumer_event *e)
{
    if (e->message) rd_kafka_message_destroy(e->message);
    e->message = NULL;
}

static void message_take(rd_kafka_message_t *m, struct consumer_event *out)
{
    int64_t time = rd_kafka_message_timestamp(m, NULL);
    out->kind = CONSUMER_MESSAGE;
    out->partition = (uint32_t)m->partition;
    out->offset = (uint64_t)m->offset;
    out->time.v = time < 0 ? 0 : time > WALL_MS_MAX ? WALL_MS_MAX : time;
    out->bytes = m->payload;
    out->length = m->len;
    out->message = m;
}

static enum sg_error error_take(struct consumer *c, const rd_kafka_message_t *m, struct consumer_event *out,
                                struct sg_fault *f)
{
    out->partition = (uint32_t)m->partition;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        c->fault = NULL;
        out->kind = c->placed ? CONSUMER_END : CONSUMER_NOTHING;
        out->offset = (uint64_t)m->offset;
    } else if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
        out->kind = c->placed ? CONSUMER_OUT_OF_RANGE : CONSUMER_NOTHING;
    } else if (m->err == RD_KAFKA_RESP_ERR__FATAL) {
        char why[64];
        return sg_fail(f, SG_ERR_STATE, "kafka: %s",
                       rd_kafka_err2name(rd_kafka_fatal_error(c->member, why, sizeof why)));
    } else {
        on_error(c->member, m->err, "", c);
        if (m->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) c->fault = "the events topic does not exist";
        log_event(LOG_WARN, "kafka_error", "code=%s", rd_kafka_err2name(m->err));
    }
    return SG_OK;
}

enum sg_error consumer_poll(struct consumer *c, uint32_t timeout_ms, struct consumer_event *out, struct sg_fault *f)
{
    *out = (struct consumer_event){.kind = CONSUMER_NOTHING};
    rd_kafka_message_t *m = c->changed ? NULL : rd_kafka_consumer_poll(c->member, (int)timeout_ms);
    enum sg_error e = SG_OK;
    if (m && m->err)
        e = error_take(c, m, out, f);
    else if (m && c->placed)
        message_take(m, out);
    if (m && !out->message) rd_kafka_message_destroy(m);
    if (out->kind == CONSUMER_MESSAGE) c->fault = NULL;
    if (c->changed && out->kind == CONSUMER_NOTHING) {
        c->changed = false;
        out->kind = CONSUMER_ASSIGNMENT;
    }
    return e;
}
