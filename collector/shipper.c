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

#include <stdlib.h>

#include "collector/shipper_producer.h"
#include "common/log.h"

enum { NEWS_PER_STEP = 256, FREE_WAIT_MS = 3000 };

struct shipper {
    struct spool *spool;
    struct producer_settings *settings;
    struct producer *producer, *retired; /* either may be NULL */
    struct shipper_plan plan;
    const char *fault;
};

/* ---- making ---- */

/* Backoff needs no secrecy, only that runners differ. */
static uint64_t seed_of(const char *runner)
{
    uint64_t seed = 14695981039346656037u;
    for (; *runner; runner++) seed = (seed ^ (uint8_t)*runner) * 1099511628211u;
    return seed;
}

enum sg_error shipper_new(struct shipper **out, const struct shipper_config *config, struct spool *spool,
                          struct sg_fault *f)
{
    struct shipper *s = calloc(1, sizeof *s);
    if (!s) return sg_fail(f, SG_ERR_NOMEM, "no memory for the shipper");
    enum sg_error e = producer_settings_new(&s->settings, config, f);
    if (e) {
        shipper_free(s);
        return e;
    }
    s->spool = spool;
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
}

void shipper_free(struct shipper *s)
{
    if (!s) return;
    /* One still being torn down is left to the end of the process when it takes too long: its state is in the spool. */
    bool left = s->retired && !producer_reaped(s->retired, FREE_WAIT_MS);
    if (s->producer) {
        retire(s);
        left |= !producer_reaped(s->retired, FREE_WAIT_MS);
    }
    struct sg_fault f = {0};
    if (s->spool && spool_save_cursor(s->spool, &f)) log_fault(LOG_WARN, "cursor_not_saved", &f);
    if (!left) producer_settings_free(s->settings); /* which it goes on reading */
    free(s);
}

/* ---- news ---- */

static void take_report(struct shipper *s, const struct producer_news *n)
{
    bool doubted = s->plan.doubt;
    if (shipper_plan_report(&s->plan, n->seq, n->length, !n->fault))
        s->fault = NULL;
    else if (n->fault)
        s->fault = n->fault;
    else if (!doubted)
        s->fault = "a delivery report out of order";
}

static void take_trouble(struct shipper *s, const struct producer_news *n)
{
    if (n->useless) shipper_plan_doubt(&s->plan);
    /* nobody waits for that connection */
    if (n->one_of_many && spool_delivered_seq(s->spool) == spool_durable_seq(s->spool)) return;
    s->fault = n->fault;
}

/* True when all that was there has been taken. */
static bool take_news(struct shipper *s)
{
    for (int i = 0; i < NEWS_PER_STEP && !s->plan.doubt; i++) {
        struct producer_news n;
        producer_next(s->producer, &n);
        if (n.kind == PRODUCER_NO_NEWS) return true;
        if (n.kind == PRODUCER_REPORT)
            take_report(s, &n);
        else
            take_trouble(s, &n);
    }
    return false;
}

/* ---- sending ---- */

static enum sg_error send_batches(struct shipper *s, struct sg_fault *f)
{
    for (uint64_t seq; (seq = shipper_plan_next(&s->plan, spool_durable_seq(s->spool)));) {
        const uint8_t *batch;
        size_t length;
        enum sg_error e = spool_read(s->spool, seq, &batch, &length, f);
        if (e) return e;
        enum producer_sending sending = producer_send(s->producer, seq, batch, length, &s->fault);
        if (sending == PRODUCER_FAILED) shipper_plan_doubt(&s->plan);
        if (sending != PRODUCER_QUEUED) break;
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
    s->producer = producer_start(s->settings);
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
    if (!take_news(s)) *next = now;
    enum sg_error e = spool_delivered(s->spool, s->plan.reported_seq, f);
    if (e) return e;
    if (!s->plan.doubt && producer_ready(s->producer, &s->fault)) e = send_batches(s, f);
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
