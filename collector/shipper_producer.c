#include "collector/shipper_producer.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { QUESTION_WAIT_MS = 1000, QUESTION_PAUSE_MS = 250 };

struct producer_settings {
    rd_kafka_conf_t *conf;
    char *topic, *runner;
    int wake_fd;
};

struct producer {
    const struct producer_settings *settings;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue; /* delivery reports and errors */
    rd_kafka_event_t *event; /* whose messages are being taken; NULL: none */
    int32_t partition;       /* -1: not known yet */
    pthread_t scout, reaper;
    bool reaping;
    atomic_int partitions; /* 0: not known yet */
    atomic_int trouble;    /* rd_kafka_resp_err_t of the last question, 0: none */
    atomic_bool stop, gone;
};

/* ---- settings ---- */

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

void producer_settings_free(struct producer_settings *s)
{
    if (!s) return;
    if (s->conf) rd_kafka_conf_destroy(s->conf);
    free(s->topic);
    free(s->runner);
    free(s);
}

static enum sg_error configure(struct producer_settings *s, const struct shipper_config *c, struct sg_fault *f)
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

enum sg_error producer_settings_new(struct producer_settings **out, const struct shipper_config *config,
                                    struct sg_fault *f)
{
    struct producer_settings *s = calloc(1, sizeof *s);
    if (!s) return sg_fail(f, SG_ERR_NOMEM, "no memory for the shipper");
    s->wake_fd = config->wake_fd;
    enum sg_error e = configure(s, config, f);
    if (e)
        producer_settings_free(s);
    else
        *out = s;
    return e;
}

/* ---- begin and end ---- */

static void wake(const struct producer *p)
{
    uint64_t one = 1;
    /* an eventfd whose counter is full wakes just as well */
    (void)!write(p->settings->wake_fd, &one, sizeof one);
}

/* Asks once; the partition count, or 0 with *trouble set. */
static int ask(struct producer *p, rd_kafka_resp_err_t *trouble)
{
    const struct rd_kafka_metadata *m;
    *trouble = rd_kafka_metadata(p->rk, 0, p->topic, &m, QUESTION_WAIT_MS);
    if (*trouble) return 0;
    int count = 0;
    if (m->topic_cnt == 1) {
        *trouble = m->topics[0].err;
        if (!*trouble) count = m->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(m);
    return count;
}

static void *scout(void *arg)
{
    struct producer *p = arg;
    while (!atomic_load(&p->stop)) {
        rd_kafka_resp_err_t trouble;
        int count = ask(p, &trouble);
        atomic_store(&p->trouble, (int)trouble);
        atomic_store(&p->partitions, count);
        wake(p);
        if (count) break;
        nanosleep(&(struct timespec){.tv_nsec = QUESTION_PAUSE_MS * 1000L * 1000L}, NULL);
    }
    return NULL;
}

static void *reap(void *arg)
{
    struct producer *p = arg;
    pthread_join(p->scout, NULL);
    rd_kafka_queue_destroy(p->queue);
    rd_kafka_topic_destroy(p->topic);
    rd_kafka_destroy(p->rk);
    atomic_store(&p->gone, true);
    wake(p);
    return NULL;
}

struct producer *producer_start(const struct producer_settings *s)
{
    struct producer *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->settings = s;
    p->partition = -1;
    rd_kafka_conf_t *copy = rd_kafka_conf_dup(s->conf);
    char why[256];
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, copy, why, sizeof why);
    if (!p->rk) {
        rd_kafka_conf_destroy(copy);
        free(p);
        return NULL;
    }
    p->topic = rd_kafka_topic_new(p->rk, s->topic, NULL);
    if (!p->topic) {
        rd_kafka_destroy(p->rk);
        free(p);
        return NULL;
    }
    p->queue = rd_kafka_queue_get_main(p->rk);
    uint64_t one = 1;
    rd_kafka_queue_io_event_enable(p->queue, s->wake_fd, &one, sizeof one);
    if (pthread_create(&p->scout, NULL, scout, p)) {
        rd_kafka_queue_destroy(p->queue);
        rd_kafka_topic_destroy(p->topic);
        rd_kafka_destroy(p->rk);
        free(p);
        return NULL;
    }
    return p;
}

void producer_retire(struct producer *p)
{
    atomic_store(&p->stop, true);
    if (p->event) rd_kafka_event_destroy(p->event);
    p->event = NULL;
    rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    p->reaping = pthread_create(&p->reaper, NULL, reap, p) == 0;
    if (!p->reaping) reap(p); /* no thread to be had: better late than leaked */
}

bool producer_reaped(struct producer *p, uint32_t wait_ms)
{
    if (p->reaping && wait_ms) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until); /* what pthread_timedjoin_np counts in */
        until.tv_sec += wait_ms / 1000;
        until.tv_nsec += wait_ms % 1000 * 1000L * 1000L;
        if (until.tv_nsec >= 1000L * 1000L * 1000L) until.tv_sec++, until.tv_nsec -= 1000L * 1000L * 1000L;
        if (pthread_timedjoin_np(p->reaper, NULL, &until)) return false;
    } else if (p->reaping) {
        if (!atomic_load(&p->gone)) return false;
        pthread_join(p->reaper, NULL);
    }
    free(p);
    return true;
}

/* ---- sending ---- */

bool producer_ready(struct producer *p, const char **fault)
{
    if (p->partition >= 0) return true;
    int count = atomic_load(&p->partitions);
    if (count <= 0) {
        rd_kafka_resp_err_t trouble = (rd_kafka_resp_err_t)atomic_load(&p->trouble);
        if (trouble) *fault = rd_kafka_err2str(trouble);
        return false;
    }
    const char *runner = p->settings->runner;
    p->partition = rd_kafka_msg_partitioner_murmur2(p->topic, runner, strlen(runner), count, NULL, NULL);
    *fault = NULL;
    return true;
}

enum producer_sending producer_send(struct producer *p, uint64_t seq, const uint8_t *bytes, size_t length,
                                    const char **fault)
{
    const char *runner = p->settings->runner;
    union {
        const uint8_t *in;
        void *out;
    } payload = {.in = bytes}; /* RD_KAFKA_V_VALUE takes no const; with F_COPY it only reads */
    rd_kafka_resp_err_t e = rd_kafka_producev(
        p->rk, RD_KAFKA_V_RKT(p->topic), RD_KAFKA_V_PARTITION(p->partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(runner, strlen(runner)), RD_KAFKA_V_VALUE(payload.out, length),
        RD_KAFKA_V_OPAQUE((void *)(uintptr_t)seq), RD_KAFKA_V_END);
    if (e == RD_KAFKA_RESP_ERR__QUEUE_FULL) return PRODUCER_FULL;
    if (e) *fault = rd_kafka_err2str(e);
    return e ? PRODUCER_FAILED : PRODUCER_QUEUED;
}

/* ---- news ---- */

static struct producer_news trouble_of(const struct producer *p, rd_kafka_resp_err_t e)
{
    char why[256];
    bool fatal = e == RD_KAFKA_RESP_ERR__FATAL;
    /* a thread for a broker could not be made, and this producer will not try again */
    bool given_up = e == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE;
    if (fatal) e = rd_kafka_fatal_error(p->rk, why, sizeof why);
    return (struct producer_news){.kind = PRODUCER_TROUBLE,
                                  .fault = rd_kafka_err2str(e),
                                  .useless = fatal || given_up,
                                  .one_of_many = e == RD_KAFKA_RESP_ERR__TRANSPORT};
}

/* One event tells of many messages. */
static bool next_report(struct producer *p, struct producer_news *out)
{
    const rd_kafka_message_t *m = p->event ? rd_kafka_event_message_next(p->event) : NULL;
    if (m)
        *out = (struct producer_news){.kind = PRODUCER_REPORT,
                                      .seq = (uint64_t)(uintptr_t)m->_private,
                                      .length = m->len,
                                      .fault = m->err ? rd_kafka_err2str(m->err) : NULL};
    else if (p->event)
        rd_kafka_event_destroy(p->event);
    if (!m) p->event = NULL;
    return m != NULL;
}

void producer_next(struct producer *p, struct producer_news *out)
{
    *out = (struct producer_news){.kind = PRODUCER_NO_NEWS};
    while (!next_report(p, out) && (p->event = rd_kafka_queue_poll(p->queue, 0))) {
        if (rd_kafka_event_type(p->event) == RD_KAFKA_EVENT_DR) continue;
        bool trouble = rd_kafka_event_type(p->event) == RD_KAFKA_EVENT_ERROR;
        if (trouble) *out = trouble_of(p, rd_kafka_event_error(p->event));
        rd_kafka_event_destroy(p->event);
        p->event = NULL;
        if (trouble) return;
    }
}
