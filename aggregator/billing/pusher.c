/* Brings what is open to Stripe: attempts begun, their answers settled into results, which the shard commits. What to
 * do next for a revision, and what an answer means, is plan.c's; here is which of them goes now (one request at a time
 * for a customer and meter, one summary at a time, no more than results can be kept for), and what answers say of
 * Stripe itself. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/billing/exporter.h"
#include "common/log.h"

enum {
    PROBE_MS = 3 * SECOND_MS, /* with the allowance of a fault: red within 10 s also when there is nothing to push */
    BUSY_WAIT_MS = 50,
    IDLE_WAIT_MS = 200,
    FAREWELL_MS = 3 * SECOND_MS, /* for answers under way when asked to stop */
};
_Static_assert((int)COUNT_DENIED - (int)COUNT_ACCEPTED == (int)ANSWER_DENIED - (int)ANSWER_ACCEPTED,
               "counters of answers stand in the order of enum answer");
_Static_assert((int)COUNT_UNREADABLE - (int)COUNT_SHOWS_NEW == (int)BOOK_UNREADABLE - (int)BOOK_SHOWS_NEW,
               "counters of summaries stand in the order of enum book_sight");

bool pusher_busy(const struct exporter *x)
{
    return stripe_client_free(x->stripe) < (size_t)x->config->stripe_concurrency;
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

/* Whether Stripe answers, and lets us read: any answer ends the one, and one that it gives ends the other. */
static bool is_in_doubt(const struct exporter *x)
{
    return x->unheard || x->read_denied;
}

static void send_of_shard(struct exporter *x, struct shard *s)
{
    struct boot_ms now = loop_now(&x->loop); /* deadlines count from before the reading of the other clock */
    struct book_open *next;
    struct wall_ms wall;
    if (!s->book.open_first || !exporter_now(x, &wall)) return;
    for (struct book_open *o = s->book.open_first; o && stripe_client_free(x->stripe) > 0; o = next) {
        next = o->next;
        if (s->result_count + (size_t)x->config->stripe_concurrency >= x->results_most) return;
        enum plan_attempt p = plan_attempt(o, wall, now);
        if (p == PLAN_LATER && is_in_doubt(x) && o->reads && !o->in_flight) p = PLAN_READ;
        if (p != PLAN_LATER && !begin_attempt(x, s, o, p, now)) return;
    }
}

static void send_all(struct exporter *x, struct boot_ms now)
{
    if (!x->meters_known || now.v < x->paused_until.v) return;
    x->send_first = (x->send_first + 1) % x->shard_count;
    for (size_t i = 0; i < x->shard_count; i++) {
        struct shard *s = &x->shard[(x->send_first + i) % x->shard_count];
        if (s->log && s->view_checked) send_of_shard(x, s);
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

/* What is not answered takes back nothing of what was said before. */
static void hear_attempt(struct exporter *x, const struct stripe_reply *r, struct boot_ms now)
{
    x->unreachable = r->answer == ANSWER_NOT_SENT;
    x->unheard = r->status == 0 && (x->unheard || !x->unreachable); /* what was not sent says nothing */
    if (r->status) x->said = r->answer;
    if (r->answer == ANSWER_DENIED) {
        /* of all that were under way the first one counts: else the longest pause would be the first */
        if (now.v >= x->paused_until.v) x->paused_until.v = now.v + backoff_next(&x->pause_backoff);
    } else if (r->answer == ANSWER_ACCEPTED || r->answer == ANSWER_DUPLICATE || r->answer == ANSWER_REFUSED)
        backoff_reset(&x->pause_backoff);
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
    hear_attempt(x, r, now);
    if (r->answer != ANSWER_ACCEPTED && r->answer != ANSWER_DUPLICATE)
        log_event(LOG_WARN, "attempt_failed", "answer=%s status=%u shard=%u", answer_text(r->answer), r->status,
                  a->shard);
    if (o) settle_revision(x, &x->shard[a->shard], o, r, now);
}

static bool is_given(enum answer_read read)
{
    return read == ANSWER_READ_TOLD || read == ANSWER_READ_REFUSED;
}

/* What was said to an attempt stands: a key that may read need not be one that may write. */
static void hear_read(struct exporter *x, const struct stripe_reply *r)
{
    if (r->status) x->unreachable = x->unheard = false;
    if (r->read == ANSWER_READ_DENIED) x->read_denied = true;
    if (is_given(r->read)) x->read_denied = false;
}

/* What is wrong with a single question, and what was told, stands in no other's way. */
static void pace_reads(struct exporter *x, const struct stripe_reply *r, struct boot_ms now)
{
    uint64_t wait_ms = EXPORTER_READ_MS;
    x->reading = false;
    if (is_given(r->read))
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
    struct plan_sight sight = {.asked = a->begun_at, .summary = r->summary, .random = next_random(x)};
    struct ledger_record record;
    pace_reads(x, r, now);
    hear_read(x, r);
    if (r->read != ANSWER_READ_TOLD)
        log_event(LOG_WARN, "summary_not_read", "answer=%s status=%u shard=%u", answer_read_text(r->read), r->status,
                  a->shard);
    if (!o) return;
    sight.told = exporter_now(x, &sight.wall) && r->read == ANSWER_READ_TOLD;
    /* behind the wall clock: who is stopped between the two takes the question for older than it is, not younger */
    sight.boot = loop_now(&x->loop);
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
    clock_trust_hear(&x->trust, &r->date);
    if (r->is_read)
        on_summary(x, a, r, now);
    else
        on_attempt(x, a, r, now);
    exporter_show_stripe(x, now);
}

/* ---- the network ---- */

static uint32_t wait_ms(const struct exporter *x)
{
    bool busy = pusher_busy(x);
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
    } while (pusher_busy(x) && clock_since(loop_now(&x->loop), start) < BUSY_WAIT_MS);
}

/* While nothing is pushed, nothing would tell that Stripe is away. */
static void probe_stripe(struct exporter *x)
{
    if (!x->meters_known || pusher_busy(x) || loop_now(&x->loop).v < x->probe_at.v) return;
    x->unreachable = !stripe_client_probe(x->stripe);
    x->probe_at.v = loop_now(&x->loop).v + PROBE_MS;
}

void pusher_turn(struct exporter *x)
{
    push(x);
    exporter_judge_silence(x);
    probe_stripe(x);
    exporter_show_stripe(x, loop_now(&x->loop));
}

void pusher_end(struct exporter *x)
{
    struct boot_ms until = {loop_now(&x->loop).v + FAREWELL_MS};
    while (pusher_busy(x) && loop_now(&x->loop).v < until.v)
        stripe_client_turn(x->stripe, BUSY_WAIT_MS, -1, on_answer, x);
}
