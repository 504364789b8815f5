#include "aggregator/billing/exporter.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/archiver.h"
#include "common/log.h"
#include "common/service.h"

enum {
    CONTROL_CHECK_MS = 2 * SECOND_MS,
    CONTROL_CHECK_TIMEOUT_MS = 1 * SECOND_MS,
    CLOCK_ASK_MS = 60 * SECOND_MS,   /* Stripe's reads are rationed */
    CONTROL_WAIT_MS = 50,            /* until it was read once */
    CYCLE_AGAIN_MS = 2 * SECOND_MS,  /* after one that failed: before a blip is a fault */
    LAST_COMMITS_MS = 5 * SECOND_MS, /* when asked to stop, for all shards together */
};

#define COMPONENT(id, name, allowance, hold) {name, allowance, hold},
static const struct health_component components[] = {EXPORTER_COMPONENTS(COMPONENT)};
#undef COMPONENT
static const struct counter_spec counter_specs[] = {EXPORTER_COUNTERS(COUNTERS_SPEC)};

/* ---- while a call blocks ---- */

bool exporter_hangs(void *arg)
{
    struct exporter *x = arg;
    struct sg_fault f;
    service_alive();
    return loop_turn(&x->loop, 0, &f) != SG_OK || loop_stopping(&x->loop);
}

static bool on_wait(void *arg)
{
    struct exporter *x = arg;
    health_alive(&x->health);
    return exporter_hangs(x);
}

/* Asked to stop, for so long that no commit is waited for or begun any more: what is not committed is found out after
 * the next start. */
static bool past_last_commits(struct exporter *x)
{
    struct boot_ms now = loop_now(&x->loop);
    if (!x->stop_by.v) x->stop_by.v = now.v + LAST_COMMITS_MS;
    return now.v >= x->stop_by.v;
}

static bool on_commit_wait(void *arg)
{
    return exporter_hangs(arg) && past_last_commits(arg);
}

/* ---- making ---- */

static enum sg_error take_meters(struct exporter *x, struct sg_fault *f)
{
    const struct config_list *names = &x->config->meters;
    if (names->count == 0 || names->count > METERS_MAX)
        return sg_fail(f, SG_ERR_CONFIG, "meter: 1 to %d are needed", METERS_MAX);
    for (size_t i = 0; i < names->count; i++) {
        struct meter_slot slot = {.found = false};
        if (!field_parse(names->item[i], strlen(names->item[i]), &slot.meter.field))
            return sg_fail(f, SG_ERR_CONFIG, "meter: one of them is no field of a rollup");
        for (size_t k = 0; k < i; k++)
            if (x->meter[k].meter.field == slot.meter.field)
                return sg_fail(f, SG_ERR_CONFIG, "meter: one of them stands there twice");
        x->meter[i] = slot;
    }
    x->meter_count = names->count;
    return SG_OK;
}

/* `kafka_property = NAME VALUE`, split in place. */
static enum sg_error take_properties(struct exporter *x, struct sg_fault *f)
{
    const struct config_list *list = &x->config->kafka_properties;
    for (size_t i = 0; i < list->count; i++) {
        char *space = strchr(list->item[i], ' ');
        if (!space || i == EXPORTER_PROPERTIES_MAX)
            return sg_fail(f, SG_ERR_CONFIG, "kafka_property: NAME VALUE is needed");
        *space = '\0';
        x->kafka[2 * i] = list->item[i];
        x->kafka[2 * i + 1] = space + 1;
    }
    return SG_OK;
}

static enum sg_error make_shards(struct exporter *x, struct sg_fault *f)
{
    struct wall_ms seed = clock_wall();
    x->shard_count = (size_t)x->config->shards;
    x->shard = calloc(x->shard_count, sizeof *x->shard);
    x->due = calloc(VIEW_DUE_MAX, sizeof *x->due);
    x->groups = calloc(VIEW_DUE_MAX, sizeof *x->groups);
    x->hours = calloc(VIEW_HOURS_MAX, sizeof *x->hours);
    x->positions = calloc(VIEW_HOURS_MAX, sizeof *x->positions);
    x->rows = calloc(1, sizeof *x->rows);
    x->rows_most = VIEW_ROWS_MAX;
    x->open_most = EXPORTER_OPEN_MAX;
    x->results_most = EXPORTER_RESULTS_MAX;
    x->record = calloc(EXPORTER_RESULTS_MAX + 1, sizeof *x->record);
    if (!x->shard || !x->due || !x->groups || !x->hours || !x->positions || !x->rows || !x->record)
        return sg_fail(f, SG_ERR_NOMEM, "no memory for the shards");
    for (size_t i = 0; i < x->shard_count; i++) {
        struct shard *s = &x->shard[i];
        s->index = (uint32_t)i;
        s->result = calloc(EXPORTER_RESULTS_MAX, sizeof *s->result);
        if (!s->result) return sg_fail(f, SG_ERR_NOMEM, "no memory for the shards");
        backoff_init(&s->doubt_backoff, 500, 10 * SECOND_MS, (uint64_t)seed.v + i);
        backoff_init(&s->fenced_backoff, 4 * SECOND_MS, 10 * MINUTE_MS, (uint64_t)seed.v * 31 + i);
    }
    backoff_init(&x->pause_backoff, 2 * SECOND_MS, 60 * SECOND_MS, (uint64_t)seed.v + 997);
    backoff_init(&x->read_backoff, 2 * SECOND_MS, 5 * MINUTE_MS, (uint64_t)seed.v + 499);
    x->random = (uint64_t)seed.v | 1;
    return SG_OK;
}

static enum sg_error make_clients(struct exporter *x, struct sg_fault *f)
{
    const struct exporter_config *c = x->config;
    const struct redis_store_config redis = {.address = c->redis,
                                             .cluster = c->redis_cluster,
                                             .shards = (uint32_t)c->shards,
                                             .user = c->redis_user,
                                             .password = c->redis_password};
    const struct stripe_config stripe = {.url = c->stripe_url,
                                         .key = c->stripe_key,
                                         .version = c->stripe_version,
                                         .ca_file = c->stripe_ca_file,
                                         .proxy = c->stripe_proxy,
                                         .concurrency = (uint32_t)c->stripe_concurrency,
                                         .tick = exporter_hangs,
                                         .tick_arg = x};
    const struct txlog_config control = {
        .brokers = c->kafka_brokers, .topic = c->control_topic, .client_id = c->instance, .kafka = x->kafka};
    enum sg_error e = redis_store_new(&x->store, &redis, f);
    if (e == SG_OK) e = stripe_client_open(&x->stripe, &stripe, f);
    if (e == SG_OK) e = txlog_reader_open(&x->control, &control, 0, f);
    return e;
}

enum sg_error exporter_init(struct exporter *x, const struct exporter_config *config, struct sg_fault *f)
{
    memset(x, 0, sizeof *x);
    x->config = config;
    x->waiter = (struct txlog_waiter){on_wait, x};
    x->commit_waiter = (struct txlog_waiter){on_commit_wait, x};
    counters_init(&x->counters, counter_specs, EXPORTER_COUNTER_COUNT);
    health_init(&x->health, components, EXPORTER_COMPONENT_COUNT, NULL);
    enum sg_error e = loop_init(&x->loop, NULL, f);
    if (e == SG_OK) e = take_meters(x, f);
    if (e == SG_OK) e = take_properties(x, f);
    if (e == SG_OK) e = make_shards(x, f);
    if (e == SG_OK) e = make_clients(x, f);
    return e;
}

void exporter_destroy(struct exporter *x)
{
    stripe_client_close(x->stripe);
    txlog_reader_destroy(x->control);
    control_view_destroy(&x->facts);
    for (size_t i = 0; x->shard && i < x->shard_count; i++) {
        txlog_destroy(x->shard[i].log);
        book_destroy(&x->shard[i].book);
        free(x->shard[i].result);
    }
    redis_store_free(x->store);
    free(x->shard);
    free(x->due);
    free(x->groups);
    free(x->hours);
    free(x->positions);
    free(x->rows);
    free(x->record);
    loop_destroy(&x->loop);
    health_destroy(&x->health);
}

/* ---- what must be known before anything is planned ---- */

static enum sg_error on_fact(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    struct exporter *x = arg;
    return control_view_fold(&x->facts, record->bytes, record->length, f);
}

/* NOMEM: a fact could not be taken; CORRUPT: the topic does not have what comes next. Nobody will say it again:
 * starting anew reads all of it anew. */
static enum sg_error follow_control(struct exporter *x, struct boot_ms now, struct sg_fault *fault)
{
    struct sg_fault f = {0};
    uint64_t lag = 0;
    enum sg_error e = x->facts.broken ? SG_OK : txlog_reader_poll(x->control, 0, 1000, on_fact, x, &f);
    if (x->facts.broken ? e == SG_ERR_NOMEM : e == SG_ERR_CORRUPT) {
        *fault = f;
        return e;
    }
    if (x->facts.broken) {
        if (e != SG_OK) log_fault(LOG_ERROR, "control_broken", &f);
        health_set_fault(&x->health, EXPORTER_CONTROL, "the control topic's chain is broken");
        x->control_unread = (struct sg_fault){0};
        return SG_OK;
    }
    if (now.v < x->control_check_at.v) return SG_OK;
    x->control_check_at.v = now.v + (x->facts_known ? CONTROL_CHECK_MS : CONTROL_WAIT_MS);
    e = txlog_reader_lag(x->control, CONTROL_CHECK_TIMEOUT_MS, &lag, &f);
    x->control_unread = e == SG_OK ? (struct sg_fault){0} : f;
    if (e != SG_OK) {
        log_fault(LOG_WARN, "kafka_unreachable", &f);
        return SG_OK;
    }
    health_clear(&x->health, EXPORTER_CONTROL);
    if (lag == 0 && !x->facts_known) log_event(LOG_INFO, "control_read", "accounts=%zu", x->facts.account_count);
    x->facts_known |= lag == 0;
    return SG_OK;
}

bool exporter_now(struct exporter *x, struct wall_ms *now)
{
    static const char *const faults[] = {[CLOCK_TRUST_UNKNOWN] = "Stripe has not told its time: nothing is sent",
                                         [CLOCK_TRUST_DIFFERS] =
                                             "our clock and Stripe's differ by more than 300 s: nothing is sent"};
    int64_t skew_ms;
    *now = clock_wall();
    enum clock_trust_verdict v = clock_trust_judge(&x->trust, *now, clock_boot(), &skew_ms);
    if (v == CLOCK_TRUST_BELIEVED)
        health_clear(&x->health, EXPORTER_CLOCK);
    else if (x->meters_known)
        health_set_fault(&x->health, EXPORTER_CLOCK, faults[v]);
    if (v == CLOCK_TRUST_DIFFERS && x->clock != v) log_event(LOG_ERROR, "clock_skew", "skew_ms=%" PRId64, skew_ms);
    x->clock = v;
    return v == CLOCK_TRUST_BELIEVED;
}

/* The list of meters also tells Stripe's time, and is asked for again while our clock is not believed: the Date that
 * contradicts it may have been the wrong one. CONFIG: the meters are not what we can write to. */
static enum sg_error learn_meters(struct exporter *x, struct boot_ms now, struct sg_fault *f)
{
    struct clock_trust_date date;
    struct wall_ms ignored;
    bool wanted = !exporter_now(x, &ignored) || !x->meters_known;
    x->meters_unheard &= wanted;
    if (!wanted || now.v < x->meters_at.v || pusher_busy(x)) return SG_OK;
    for (size_t i = 0; i < x->meter_count; i++) x->meter[i].found = false;
    health_doing(&x->health, "a question to Stripe");
    enum sg_error e = stripe_client_meters(x->stripe, x->meter, x->meter_count, &date, f);
    x->meters_unheard = e != SG_OK;
    if (e == SG_OK || e == SG_ERR_DENIED) { /* either is an answer */
        x->said = e == SG_OK ? ANSWER_ACCEPTED : ANSWER_DENIED;
        x->unreachable = x->unheard = false;
    }
    exporter_show_stripe(x, now);
    health_doing(&x->health, NULL);
    if (e == SG_OK) {
        backoff_reset(&x->pause_backoff);
        clock_trust_hear(&x->trust, &date);
        x->meters_known = true;
        x->meters_at.v = now.v + CLOCK_ASK_MS;
        for (size_t i = 0; i < x->meter_count; i++) {
            char name[FIELD_NAME_BYTES_MAX];
            (void)field_name(x->meter[i].meter.field, name);
            log_event(LOG_INFO, "meter", "name=%s mode=%s", name, bill_mode_text(x->meter[i].meter.mode));
        }
        return SG_OK;
    }
    log_fault(LOG_WARN, "meters_not_known", f);
    x->meters_at.v = now.v + backoff_next(&x->pause_backoff);
    return e == SG_ERR_CONFIG ? e : SG_OK;
}

/* ---- turns ---- */

static void commit_results(struct exporter *x, struct shard *s)
{
    struct sg_fault f = {0};
    size_t count = s->result_count;
    s->result_count = 0;
    (void)!shard_commit(x, s, s->result, count, &f);
}

static void tend_shard(struct exporter *x, struct shard *s)
{
    struct boot_ms now = loop_now(&x->loop);
    struct sg_fault f = {0};
    if (!s->log && now.v >= s->open_at.v) shard_open(x, s);
    if (!s->log) return;
    commit_results(x, s);
    if (!s->log || !x->meters_known || !x->facts_known || loop_now(&x->loop).v < s->next_cycle.v) return;
    enum sg_error e = shard_cycle(x, s, &f);
    s->cycle_fault = e == SG_OK ? (struct sg_fault){0} : f;
    if (e == SG_OK && loop_now(&x->loop).v >= s->next_archive.v) e = archiver_turn(x, s, &f);
    if (e == SG_OK || !s->log) return;
    log_fault(LOG_WARN, "cycle_failed", &f);
    uint64_t again_ms = x->config->poll_interval_ms < CYCLE_AGAIN_MS ? x->config->poll_interval_ms : CYCLE_AGAIN_MS;
    s->next_cycle.v = loop_now(&x->loop).v + again_ms;
}

enum sg_error exporter_turn(struct exporter *x, struct sg_fault *f)
{
    enum sg_error e = follow_control(x, loop_now(&x->loop), f);
    exporter_show(x); /* what was found out is told before a question may hang */
    if (e == SG_OK) e = learn_meters(x, loop_now(&x->loop), f);
    if (e == SG_OK) e = follow_control(x, loop_now(&x->loop), f); /* that one may have taken long */
    if (e != SG_OK) return e;
    exporter_probe_redis(x);
    exporter_show(x); /* and before a commit may */
    for (size_t i = 0; i < x->shard_count && !on_wait(x); i++) {
        tend_shard(x, &x->shard[i]);
        exporter_show(x);
    }
    pusher_turn(x);
    log_flush(false);
    return SG_OK;
}

void exporter_end(struct exporter *x)
{
    pusher_end(x);
    for (size_t i = 0; i < x->shard_count && !past_last_commits(x); i++)
        if (x->shard[i].log) commit_results(x, &x->shard[i]);
}

enum sg_error exporter_run(struct exporter *x, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    while (e == SG_OK && !on_wait(x)) e = exporter_turn(x, f);
    if (e == SG_OK && !loop_stopping(&x->loop)) e = loop_turn(&x->loop, 0, f); /* nobody has asked: it has failed */
    service_stopping();
    if (e == SG_OK) exporter_end(x);
    return e;
}
