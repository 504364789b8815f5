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
    CLOCK_ASK_MS = 60 * SECOND_MS, /* Stripe's reads are rationed */
    PROBE_MS = 3 * SECOND_MS, /* with the allowance of a fault: red within 10 s also when there is nothing to push */
    BUSY_WAIT_MS = 50,
    IDLE_WAIT_MS = 200,
    FAREWELL_MS = 3 * SECOND_MS,     /* for answers under way when asked to stop */
    LAST_COMMITS_MS = 5 * SECOND_MS, /* likewise, for the commits of all shards together */
};

#define COMPONENT(id, name, allowance, hold) {name, allowance, hold},
static const struct health_component components[] = {EXPORTER_COMPONENTS(COMPONENT)};
#undef COMPONENT
_Static_assert((int)COUNT_DENIED - (int)COUNT_ACCEPTED == (int)ANSWER_DENIED - (int)ANSWER_ACCEPTED,
               "counters of answers stand in the order of enum answer");
_Static_assert((int)COUNT_UNREADABLE - (int)COUNT_SHOWS_NEW == (int)BOOK_UNREADABLE - (int)BOOK_SHOWS_NEW,
               "counters of summaries stand in the order of enum book_sight");
static const struct counter_spec counter_specs[] = {EXPORTER_COUNTERS(COUNTERS_SPEC)};

/* ---- while a call blocks ---- */

/* The watchdog is fed and health is not: that something hangs is told. True: asked to stop. */
static bool on_hang(void *arg)
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
    return on_hang(x);
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
    return on_hang(arg) && past_last_commits(arg);
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
                                         .tick = on_hang,
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

/* NOMEM: a fact could not be taken, which nobody will say again; starting anew reads it anew. */
static enum sg_error follow_control(struct exporter *x, struct boot_ms now, struct sg_fault *fault)
{
    struct sg_fault f = {0};
    uint64_t lag = 0;
    enum sg_error e = x->facts.broken ? SG_OK : txlog_reader_poll(x->control, 0, 1000, on_fact, x, &f);
    if (x->facts.broken && e == SG_ERR_NOMEM) {
        *fault = f;
        return e;
    }
    if (x->facts.broken) {
        if (e != SG_OK) log_fault(LOG_ERROR, "control_broken", &f);
        health_set_fault(&x->health, EXPORTER_CONTROL, "the control topic's chain is broken");
        return SG_OK;
    }
    if (now.v < x->control_check_at.v) return SG_OK;
    x->control_check_at.v = now.v + (x->facts_known ? CONTROL_CHECK_MS : BUSY_WAIT_MS);
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

static bool in_flight(const struct exporter *x)
{
    return stripe_client_free(x->stripe) < (size_t)x->config->stripe_concurrency;
}

/* The list of meters also tells Stripe's time, and is asked for again while our clock is not believed: the Date that
 * contradicts it may have been the wrong one. CONFIG: the meters are not what we can write to. */
static enum sg_error learn_meters(struct exporter *x, struct boot_ms now, struct sg_fault *f)
{
    struct clock_trust_date date;
    struct wall_ms ignored;
    bool wanted = !exporter_now(x, &ignored) || !x->meters_known;
    if (!wanted || now.v < x->meters_at.v || in_flight(x)) return SG_OK;
    for (size_t i = 0; i < x->meter_count; i++) x->meter[i].found = false;
    health_doing(&x->health, "a question to Stripe");
    enum sg_error e = stripe_client_meters(x->stripe, x->meter, x->meter_count, &date, f);
    health_doing(&x->health, NULL);
    if (e == SG_OK) {
        backoff_reset(&x->pause_backoff);
        health_clear(&x->health, EXPORTER_STRIPE);
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
    health_set_fault(&x->health, EXPORTER_STRIPE, "Stripe does not tell its meters");
    x->meters_at.v = now.v + backoff_next(&x->pause_backoff);
    return e == SG_ERR_CONFIG ? e : SG_OK;
}

/* ---- attempts ---- */

static uint32_t next_random(struct exporter *x)
{
    x->random ^= x->random << 13;
    x->random ^= x->random >> 7;
    x->random ^= x->random << 17;
    return (uint32_t)(x->random >> 32);
}

/* Stripe takes one request at a time for a (customer, meter). */
static bool is_busy(const struct exporter *x, const char *customer, enum field meter)
{
    for (size_t i = 0; i < STRIPE_CONCURRENCY_MAX; i++) {
        const struct attempt *a = &x->attempt[i];
        if (a->used && a->meter == meter && strcmp(a->customer.s, customer) == 0) return true;
    }
    return false;
}

static void add_result(struct shard *s, const struct ledger_record *r)
{
    assert(s->result_count < EXPORTER_RESULTS_MAX);
    s->result[s->result_count++] = *r;
}

/* A copy of o, of which the attempt is. False: it could not be begun. */
static bool post(struct exporter *x, struct attempt *a, struct book_open *o)
{
    struct stripe_post post = {.identifier = a->identifier,
                               .body = o->body,
                               .generation = o->generation,
                               .deadline = {a->begun_at.v + PLAN_ATTEMPT_MS},
                               .arg = a};
    a->used = stripe_client_post(x->stripe, &post) == SG_OK;
    o->in_flight = a->used;
    o->attempts += a->used;
    return a->used;
}

/* The summary of o's hour at its meter. */
static bool read_summary(struct exporter *x, struct attempt *a, struct book_open *o, const struct plan_meter *meter)
{
    struct stripe_read read = {.meter_id = meter->id,
                               .customer = a->customer.s,
                               .hour = a->hour,
                               .deadline = {a->begun_at.v + PLAN_ATTEMPT_MS},
                               .arg = a};
    a->used = stripe_client_read(x->stripe, &read) == SG_OK;
    o->in_flight = x->reading = a->used;
    return a->used;
}

static const struct plan_meter *meter_of(const struct exporter *x, enum field field)
{
    for (size_t i = 0; i < x->meter_count; i++)
        if (x->meter[i].meter.field == field) return &x->meter[i].meter;
    return NULL;
}

/* False: no more can be begun now. */
static bool begin_attempt(struct exporter *x, struct shard *s, struct book_open *o, enum plan_attempt what,
                          struct boot_ms now)
{
    const struct book_entry *e = &s->book.entry[o->entry];
    const char *customer = book_name(&s->book, e->customer);
    const struct plan_meter *meter = meter_of(x, (enum field)e->meter);
    struct attempt *a = x->attempt;
    if (what == PLAN_READ && !meter) o->sight = BOOK_UNREADABLE; /* it is not configured any more */
    if (what == PLAN_READ && (!meter || x->reading || now.v < x->read_at.v)) return true;
    if (is_busy(x, customer, (enum field)e->meter)) return true;
    while (a->used) a++;
    *a = (struct attempt){.shard = s->index,
                          .incarnation = s->incarnation,
                          .meter = (enum field)e->meter,
                          .hour = e->hour,
                          .revision = o->revision,
                          .begun_at = now};
    snprintf(a->team.s, sizeof a->team.s, "%s", book_name(&s->book, e->team));
    snprintf(a->customer.s, sizeof a->customer.s, "%s", customer);
    memcpy(a->identifier, o->identifier, sizeof a->identifier);
    return what == PLAN_READ ? read_summary(x, a, o, meter) : post(x, a, o);
}

static void send_of_shard(struct exporter *x, struct shard *s)
{
    struct boot_ms now = loop_now(&x->loop); /* deadlines count from before the reading of the other clock */
    struct book_open *next;
    struct wall_ms wall;
    if (!s->book.open_first || !exporter_now(x, &wall)) return;
    for (struct book_open *o = s->book.open_first; o && stripe_client_free(x->stripe) > 0; o = next) {
        next = o->next;
        if (s->result_count + STRIPE_CONCURRENCY_MAX >= EXPORTER_RESULTS_MAX) return;
        enum plan_attempt p = plan_attempt(o, wall, now);
        if (p == PLAN_LATER && x->unheard && o->reads && !o->in_flight) p = PLAN_READ; /* any answer ends the doubt */
        if (p != PLAN_LATER && !begin_attempt(x, s, o, p, now)) return;
    }
}

static void send_all(struct exporter *x, struct boot_ms now)
{
    if (!x->meters_known || now.v < x->paused_until.v) return;
    x->send_first = (x->send_first + 1) % x->shard_count;
    for (size_t i = 0; i < x->shard_count; i++) {
        struct shard *s = &x->shard[(x->send_first + i) % x->shard_count];
        if (s->log) send_of_shard(x, s);
    }
}

/* ---- answers ---- */

/* The open revision that an attempt was for; NULL when the book was closed since. */
static struct book_open *revision_of(const struct exporter *x, const struct attempt *a)
{
    const struct shard *s = &x->shard[a->shard];
    if (!s->log || s->incarnation != a->incarnation) return NULL;
    struct book_open *o = book_find_open(&s->book, a->team.s, a->meter, a->hour, a->revision);
    assert(o);
    return o;
}

/* What an answer says of Stripe; NULL: it works. A refusal is an answer: what is refused is shown by itself. */
static const char *const faults[ANSWERS] = {
    [ANSWER_NOT_SENT] = "Stripe does not answer",
    [ANSWER_AMBIGUOUS] = "Stripe does not answer, or with errors of its own",
    [ANSWER_AMBIGUOUS_NEXT] = "Stripe does not answer, or with errors of its own",
    [ANSWER_THROTTLED] = "Stripe asks us to wait: too many requests",
    [ANSWER_DENIED] = "Stripe does not accept the key",
};

static void judge_stripe(struct exporter *x, const struct stripe_reply *r, struct boot_ms now)
{
    const char *fault = faults[r->answer];
    if (fault)
        health_set_fault(&x->health, EXPORTER_STRIPE, fault);
    else
        health_clear(&x->health, EXPORTER_STRIPE);
    if (r->answer == ANSWER_DENIED) {
        /* of all that were under way the first one counts: else the longest pause would be the first */
        if (now.v >= x->paused_until.v) x->paused_until.v = now.v + backoff_next(&x->pause_backoff);
    } else if (!fault)
        backoff_reset(&x->pause_backoff);
    clock_trust_hear(&x->trust, &r->date);
}

static void settle_revision(struct exporter *x, struct shard *s, struct book_open *o, const struct stripe_reply *r,
                            struct boot_ms now)
{
    struct ledger_record record;
    struct plan_reply reply = {.answer = r->answer,
                               .reason = r->reason,
                               .status = r->status,
                               .request_id = r->request_id,
                               .retry_after_ms = r->retry_after_ms,
                               .random = next_random(x),
                               .wall = clock_wall(),
                               .boot = now};
    if (r->answer == ANSWER_DUPLICATE && o->fresh && o->attempts == 1) {
        counters_add(&x->counters, COUNT_FOREIGN, 1);
        log_event(LOG_WARN, "first_attempt_is_duplicate", "shard=%u", s->index);
    }
    if (plan_settle(&s->book, o, &reply, &record)) add_result(s, &record);
}

static void on_attempt(struct exporter *x, struct attempt *a, const struct stripe_reply *r, struct boot_ms now)
{
    struct book_open *o = revision_of(x, a);
    counters_add(&x->counters, COUNT_ACCEPTED + (size_t)r->answer, 1);
    x->unreachable = r->answer == ANSWER_NOT_SENT;
    x->unheard = r->status == 0 && !x->unreachable;
    judge_stripe(x, r, now);
    if (r->answer != ANSWER_ACCEPTED && r->answer != ANSWER_DUPLICATE)
        log_event(LOG_WARN, "attempt_failed", "answer=%s status=%u shard=%u", answer_text(r->answer), r->status,
                  a->shard);
    if (o) settle_revision(x, &x->shard[a->shard], o, r, now);
}

/* What is wrong with a single question, and what was told, stands in no other's way. */
static void pace_reads(struct exporter *x, const struct stripe_reply *r, struct boot_ms now)
{
    uint64_t wait_ms = EXPORTER_READ_MS;
    x->reading = false;
    if (r->read == ANSWER_READ_TOLD || r->read == ANSWER_READ_REFUSED)
        backoff_reset(&x->read_backoff);
    else
        wait_ms = backoff_next(&x->read_backoff);
    uint64_t asked_ms = r->retry_after_ms < PLAN_RETRY_AFTER_MS_MAX ? r->retry_after_ms : PLAN_RETRY_AFTER_MS_MAX;
    x->read_at.v = now.v + (wait_ms > asked_ms ? wait_ms : asked_ms);
}

static void on_summary(struct exporter *x, struct attempt *a, const struct stripe_reply *r, struct boot_ms now)
{
    struct shard *s = &x->shard[a->shard];
    struct book_open *o = revision_of(x, a);
    struct plan_sight sight = {.asked = a->begun_at, .summary = r->summary, .random = next_random(x), .boot = now};
    struct ledger_record record;
    pace_reads(x, r, now);
    if (r->status && x->unheard) {
        x->unheard = false;
        health_clear(&x->health, EXPORTER_STRIPE);
    }
    clock_trust_hear(&x->trust, &r->date);
    if (r->read != ANSWER_READ_TOLD)
        log_event(LOG_WARN, "summary_not_read", "answer=%s status=%u shard=%u", answer_read_text(r->read), r->status,
                  a->shard);
    if (!o) return;
    sight.told = exporter_now(x, &sight.wall) && r->read == ANSWER_READ_TOLD;
    enum plan_reading reading = plan_reconcile(&s->book, o, &sight, &record);
    counters_add(&x->counters, COUNT_SHOWS_NEW + (size_t)o->sight - BOOK_SHOWS_NEW, 1);
    if (reading == PLAN_READING_COMMIT) add_result(s, &record);
    if (reading == PLAN_READING_COPY) (void)post(x, a, o);
}

static void on_answer(void *arg, const struct stripe_reply *r)
{
    struct exporter *x = arg;
    struct boot_ms now = loop_now(&x->loop);
    struct attempt *a = r->arg;
    a->used = false;
    x->probe_at.v = now.v + PROBE_MS;
    x->answered_at = now;
    if (r->is_read)
        on_summary(x, a, r, now);
    else
        on_attempt(x, a, r, now);
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
    if (e == SG_OK && loop_now(&x->loop).v >= s->next_archive.v) {
        e = archiver_turn(x, s, &f);
        s->archive_fault = e == SG_OK ? (struct sg_fault){0} : f;
    }
    if (e == SG_OK || !s->log) return;
    log_fault(LOG_WARN, "cycle_failed", &f);
    s->next_cycle.v = loop_now(&x->loop).v + x->config->poll_interval_ms;
}

static uint32_t wait_ms(const struct exporter *x)
{
    bool busy = in_flight(x);
    for (size_t i = 0; i < x->shard_count; i++) busy |= x->shard[i].result_count > 0 || x->shard[i].book.open_first;
    return busy ? BUSY_WAIT_MS : IDLE_WAIT_MS;
}

/* Attempts and answers, until it is time to commit what has gathered: a commit costs as much as many answers. */
static void push(struct exporter *x)
{
    struct boot_ms start = loop_now(&x->loop);
    do {
        send_all(x, loop_now(&x->loop));
        stripe_client_turn(x->stripe, wait_ms(x), x->loop.epoll_fd, on_answer, x);
    } while (in_flight(x) && clock_since(loop_now(&x->loop), start) < BUSY_WAIT_MS);
}

/* While nothing is pushed, nothing would tell that Stripe is away. What an answer said stands until another answer;
 * only that it could not be reached is taken back here. */
static void probe_stripe(struct exporter *x)
{
    if (!x->meters_known || in_flight(x) || loop_now(&x->loop).v < x->probe_at.v) return;
    if (!stripe_client_probe(x->stripe)) {
        x->unreachable = true;
        health_set_fault(&x->health, EXPORTER_STRIPE, "Stripe cannot be reached");
    } else if (x->unreachable) {
        x->unreachable = false;
        health_clear(&x->health, EXPORTER_STRIPE);
    }
    x->probe_at.v = loop_now(&x->loop).v + PROBE_MS;
}

enum sg_error exporter_turn(struct exporter *x, struct sg_fault *f)
{
    struct boot_ms now = loop_now(&x->loop);
    enum sg_error e = follow_control(x, now, f);
    if (e == SG_OK) e = learn_meters(x, now, f);
    exporter_probe_redis(x);
    for (size_t i = 0; i < x->shard_count && !on_wait(x); i++) {
        tend_shard(x, &x->shard[i]);
        exporter_show(x);
    }
    push(x);
    probe_stripe(x);
    log_flush(false);
    return e;
}

void exporter_end(struct exporter *x)
{
    struct boot_ms until = {loop_now(&x->loop).v + FAREWELL_MS};
    while (in_flight(x) && loop_now(&x->loop).v < until.v)
        stripe_client_turn(x->stripe, BUSY_WAIT_MS, -1, on_answer, x);
    for (size_t i = 0; i < x->shard_count && !past_last_commits(x); i++)
        if (x->shard[i].log) commit_results(x, &x->shard[i]);
}

enum sg_error exporter_run(struct exporter *x, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    while (e == SG_OK && !on_wait(x)) e = exporter_turn(x, f);
    service_stopping();
    if (e == SG_OK) exporter_end(x);
    return e;
}
