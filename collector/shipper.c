/* Spool to Kafka: one message in the window after the other, one producer after the other.
 *
 * HAPPY PATH  A producer is started; its scout learns the partition count; the partition is murmur2(runner) mod that,
 * as Java's default partitioner has it. Batches delivered + 1, + 2, ... are read from the spool and handed to
 * librdkafka (copied; key = runner, time = now) while they fit the window. Its delivery reports come back in order and
 * move the spool's position by one each. Idempotence (acks=all, no message timeout) keeps order and number through
 * broken connections and new leaders; the numbers in the batches keep them through everything else.
 *
 * FAILURES
 *   broker away               librdkafka waits and tries again for ever; nothing is dropped; status names the fault
 *   a report with an error,   librdkafka sends nothing behind it (gapless, one request in flight): purge, retire this
 *   out of order, or fatal    producer, start another, go on from the spool's position. The same bytes are sent again;
 *                             the aggregator skips what it has
 *   producer cannot be made   tried again with backoff
 *   crash                     as above: what was in flight is sent again
 *   spool unreadable          returned: the collector stops
 *   Offsets in reports are not looked at: a duplicate's report is a success with a made-up offset.
 *
 * What follows from a report or a doubt, and what is in flight at most, is the plan's (shipper_plan.h).
 *
 * INVARIANTS  At most one producer, and at most one being torn down: memory is bounded through any row of failures. */
#include "collector/shipper.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "collector/shipper_producer.h"
#include "common/log.h"

enum { EVENTS_PER_STEP = 256, FREE_WAIT_MS = 3000 };

struct shipper {
    struct spool *spool;
    rd_kafka_conf_t *conf;
    char *topic, *runner;
    int wake_fd;

    struct producer *producer, *retired; /* either may be NULL */
    int32_t partition;                   /* of this producer's topic; -1: not known yet */
    struct shipper_plan plan;
    const char *fault;
};

/* ---- making ---- */

static const char *const defaults[] = {"linger.ms",
                                       "5",
                                       "compression.codec",
                                       "zstd",
                                       "compression.level",
                                       "1",
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
                                       "client.id",
                                       "sandglass-collector",
                                       NULL};

/* What correctness or the memory bound rests on; not for the configuration to change. */
static const char *const required[] = {"enable.idempotence", "true",
                                       /* A batch must never land before one with a lower number: the reader would take
                                        * the lower one for a duplicate. So after an error nothing more goes out
                                        * (gapless), and there is nothing behind it on the wire (one request). */
                                       "enable.gapless.guarantee", "true", "max.in.flight.requests.per.connection", "1",
                                       "acks", "all", "message.timeout.ms", "0", "queue.buffering.max.messages", "128",
                                       "queue.buffering.max.kbytes", "8192", "batch.size", "262144",
                                       "allow.auto.create.topics", "false", NULL};

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

/* What a broker says in its own words stays out of our logs. */
static void no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

/* Backoff needs no secrecy, only that runners differ. */
static uint64_t seed_of(const char *runner)
{
    uint64_t seed = 14695981039346656037u;
    for (; *runner; runner++) seed = (seed ^ (uint8_t)*runner) * 1099511628211u;
    return seed;
}

static enum sg_error configure(struct shipper *s, const struct shipper_config *c, struct sg_fault *f)
{
    s->topic = strdup(c->topic);
    s->runner = strdup(c->runner);
    s->conf = rd_kafka_conf_new();
    if (!s->topic || !s->runner || !s->conf) return sg_fail(f, SG_ERR_NOMEM, "no memory for the shipper");
    const char *own[] = {"bootstrap.servers", c->brokers, c->client_id ? "client.id" : NULL, c->client_id, NULL};
    if (!set_all(s->conf, defaults, f) || !set_all(s->conf, c->kafka, f) || !set_all(s->conf, own, f) ||
        !set_all(s->conf, required, f))
        return SG_ERR_CONFIG;
    rd_kafka_conf_set_log_cb(s->conf, no_log);
    rd_kafka_conf_set_events(s->conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return SG_OK;
}

enum sg_error shipper_new(struct shipper **out, const struct shipper_config *config, struct spool *spool,
                          struct sg_fault *f)
{
    struct shipper *s = calloc(1, sizeof *s);
    if (!s) return sg_fail(f, SG_ERR_NOMEM, "no memory for the shipper");
    enum sg_error e = configure(s, config, f);
    if (e) {
        shipper_free(s);
        return e;
    }
    s->spool = spool;
    s->wake_fd = config->wake_fd;
    s->partition = -1;
    shipper_plan_init(&s->plan, spool_delivered_seq(spool), seed_of(config->runner));
    *out = s;
    return SG_OK;
}

/* This producer's messages are given up; the next one starts again behind the spool's position. */
static void retire(struct shipper *s)
{
    producer_retire(s->producer);
    s->retired = s->producer;
    s->producer = NULL;
    s->partition = -1;
}

void shipper_free(struct shipper *s)
{
    if (!s) return;
    /* One still being torn down is left to the end of the process when it takes too long: its state is in the spool. */
    if (s->retired && producer_reaped(s->retired, FREE_WAIT_MS)) s->retired = NULL;
    if (s->producer) {
        retire(s);
        (void)!producer_reaped(s->retired, FREE_WAIT_MS);
    }
    struct sg_fault f = {0};
    if (s->spool && spool_save_cursor(s->spool, &f)) log_fault(LOG_WARN, "cursor_not_saved", &f);
    if (s->conf) rd_kafka_conf_destroy(s->conf);
    free(s->topic);
    free(s->runner);
    free(s);
}

/* ---- reports ---- */

static void take_report(struct shipper *s, const rd_kafka_message_t *m)
{
    bool doubted = s->plan.doubt;
    if (shipper_plan_report(&s->plan, (uint64_t)(uintptr_t)m->_private, m->len, !m->err))
        s->fault = NULL;
    else if (m->err)
        s->fault = rd_kafka_err2str(m->err);
    else if (!doubted)
        s->fault = "a delivery report out of order";
}

static void take_error(struct shipper *s, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t e = rd_kafka_event_error(event);
    if (e == RD_KAFKA_RESP_ERR__FATAL) {
        char why[256];
        e = rd_kafka_fatal_error(s->producer->rk, why, sizeof why);
        shipper_plan_doubt(&s->plan);
    }
    /* a thread for a broker could not be made, and this producer will not try again */
    if (e == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE) shipper_plan_doubt(&s->plan);
    /* one connection of several, and nobody waits for it */
    if (e == RD_KAFKA_RESP_ERR__TRANSPORT && spool_delivered_seq(s->spool) == spool_durable_seq(s->spool)) return;
    s->fault = rd_kafka_err2str(e);
}

/* True when all events that were there have been taken. */
static bool take_events(struct shipper *s)
{
    for (int i = 0; i < EVENTS_PER_STEP && !s->plan.doubt; i++) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(s->producer->queue, 0);
        if (!event) return true;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR) take_error(s, event);
        const rd_kafka_message_t *m;
        while (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR && (m = rd_kafka_event_message_next(event)))
            take_report(s, m);
        rd_kafka_event_destroy(event);
    }
    return false;
}

/* ---- sending ---- */

static void learn_partition(struct shipper *s)
{
    int count = atomic_load(&s->producer->partitions);
    if (count <= 0) {
        rd_kafka_resp_err_t trouble = (rd_kafka_resp_err_t)atomic_load(&s->producer->trouble);
        if (trouble) s->fault = rd_kafka_err2str(trouble);
        return;
    }
    s->partition =
        rd_kafka_msg_partitioner_murmur2(s->producer->topic, s->runner, strlen(s->runner), count, NULL, NULL);
    s->fault = NULL;
}

static enum sg_error send_batches(struct shipper *s, struct sg_fault *f)
{
    for (uint64_t seq; (seq = shipper_plan_next(&s->plan, spool_durable_seq(s->spool)));) {
        const uint8_t *batch;
        size_t length;
        enum sg_error e = spool_read(s->spool, seq, &batch, &length, f);
        if (e) return e;
        union {
            const uint8_t *in;
            void *out;
        } payload = {.in = batch}; /* RD_KAFKA_V_VALUE takes no const; with F_COPY it only reads */
        rd_kafka_resp_err_t k = rd_kafka_producev(
            s->producer->rk, RD_KAFKA_V_RKT(s->producer->topic), RD_KAFKA_V_PARTITION(s->partition),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(s->runner, strlen(s->runner)),
            RD_KAFKA_V_VALUE(payload.out, length), RD_KAFKA_V_OPAQUE((void *)(uintptr_t)seq), RD_KAFKA_V_END);
        if (k == RD_KAFKA_RESP_ERR__QUEUE_FULL) break;
        if (k) {
            shipper_plan_doubt(&s->plan);
            s->fault = rd_kafka_err2str(k);
            break;
        }
        shipper_plan_sent(&s->plan, length);
    }
    return SG_OK;
}

/* ---- the step ---- */

/* Sees to it that there is a producer; false while there cannot be one. */
static bool have_producer(struct shipper *s, struct boot_ms now)
{
    if (s->producer) return true;
    if (s->retired) {
        if (!producer_reaped(s->retired, 0)) return false;
        s->retired = NULL;
    }
    if (!shipper_plan_may_start(&s->plan, now)) return false;
    s->producer = producer_start(s->conf, s->topic, s->wake_fd);
    if (s->producer) return true;
    s->fault = "the Kafka client cannot be started";
    shipper_plan_not_started(&s->plan, now);
    return false;
}

static enum sg_error save_cursor(struct shipper *s, struct boot_ms now, struct boot_ms *next, struct sg_fault *f)
{
    if (spool_cursor_saved(s->spool) || !shipper_plan_saves_cursor(&s->plan, now, next)) return SG_OK;
    return spool_save_cursor(s->spool, f);
}

/* Reports in, batches out. */
static enum sg_error carry(struct shipper *s, struct boot_ms now, struct boot_ms *next, struct sg_fault *f)
{
    if (!take_events(s)) *next = now;
    enum sg_error e = spool_delivered(s->spool, s->plan.reported_seq, f);
    if (e) return e;
    if (!s->plan.doubt && s->partition < 0) learn_partition(s);
    if (!s->plan.doubt && s->partition >= 0) e = send_batches(s, f);
    uint64_t delivered = spool_delivered_seq(s->spool);
    if (!shipper_plan_retires(&s->plan, delivered, now)) return e;
    log_event(LOG_WARN, "producer_replaced", "reason=\"%s\" delivered_seq=%llu", s->fault,
              (unsigned long long)delivered);
    retire(s);
    return e;
}

enum sg_error shipper_step(struct shipper *s, struct boot_ms now, struct boot_ms *next, struct sg_fault *f)
{
    *next = (struct boot_ms){UINT64_MAX};
    enum sg_error e = SG_OK;
    if (have_producer(s, now)) e = carry(s, now, next, f);
    /* the reaper wakes the loop; a wait to be over, or librdkafka, does the rest */
    if (!s->producer && !s->retired && s->plan.start_at.v < next->v) *next = s->plan.start_at;
    shipper_plan_mark(&s->plan, spool_delivered_seq(s->spool), spool_durable_seq(s->spool), now);
    return e ? e : save_cursor(s, now, next, f);
}

void shipper_status(const struct shipper *s, struct boot_ms now, struct shipper_status *out)
{
    uint64_t delivered = spool_delivered_seq(s->spool);
    *out = (struct shipper_status){
        .delivered_seq = delivered,
        .lag_batches = spool_durable_seq(s->spool) - delivered,
        .lag_age_ms = shipper_plan_lag_age_ms(&s->plan, now),
        .sent = s->plan.sent,
        .delivered = s->plan.delivered,
        .restarts = s->plan.restarts,
        .delivered_bytes = s->plan.delivered_bytes,
        .fault = s->fault,
    };
}
