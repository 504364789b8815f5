/* What the exporter says of itself: gauges, lag, and what is wrong, from the state of all shards. A fault of one shard
 * is kept with the shard, so that the others, which go on, do not hide it. */
#include <inttypes.h>
#include <stdio.h>

#include "aggregator/billing/exporter.h"
#include "common/service.h"

enum {
    UNANSWERED_MS = 1 * SECOND_MS, /* with PROBE_MS and the allowance: red within 10 s also when it begins at rest */
    ARCHIVE_ROUNDS_LATE = 3,
    REDIS_PROBE_MS = 1 * SECOND_MS, /* with the time that a question may take, and the allowance: red within 10 s */
};

/* Sums over all shards. */
struct standing {
    struct cycle_tally tally;
    uint64_t unarchived;                               /* cells, and fields of `arch`, that are not understood */
    uint64_t open, stuck, closed, unreadable, neither; /* the last two: by what summaries showed */
    uint64_t waiting;                                  /* of these, those that are not stuck */
    struct wall_ms oldest_open, oldest_stuck;          /* INT64_MAX: none */
    struct boot_ms archived_at;
    struct watermark mark;
};

static void add_revisions(const struct shard *s, struct standing *sum)
{
    for (const struct book_open *o = s->book.open_first; o; o = o->next) {
        bool stuck = s->book.entry[o->entry].state != BOOK_OPEN;
        struct wall_ms *oldest = stuck ? &sum->oldest_stuck : &sum->oldest_open;
        sum->open++;
        sum->stuck += stuck;
        sum->unreadable += o->sight == BOOK_UNREADABLE;
        sum->neither += o->sight == BOOK_SHOWS_NEITHER;
        sum->waiting += !stuck && (o->sight == BOOK_UNREADABLE || o->sight == BOOK_SHOWS_NEITHER);
        if (o->at.v < oldest->v) *oldest = o->at;
    }
}

/* Of what the last whole round has found, and the one under way so far. */
static uint64_t larger(uint64_t whole, uint64_t so_far)
{
    return whole > so_far ? whole : so_far;
}

static struct standing standing_of(const struct exporter *x)
{
    struct standing sum = {.oldest_open = {INT64_MAX}, .oldest_stuck = {INT64_MAX}, .archived_at = loop_now(&x->loop)};
    for (size_t i = 0; i < x->shard_count; i++) {
        const struct shard *s = &x->shard[i];
        add_revisions(s, &sum);
        sum.closed += s->log == NULL;
        sum.tally.waiting += s->tally.waiting;
        sum.tally.pending += s->tally.pending;
        sum.tally.held += s->tally.held;
        sum.tally.unread += larger(s->tally.unread, s->round.unread);
        sum.unarchived += larger(s->archived.unread, s->archiving.unread);
        sum.mark = i ? watermark_min(sum.mark, s->mark) : s->mark;
        if (s->log && s->archived_at.v < sum.archived_at.v) sum.archived_at = s->archived_at;
    }
    return sum;
}

/* ---- gauges ---- */

static uint64_t wall_age(struct wall_ms oldest)
{
    int64_t now = clock_wall().v;
    return now > oldest.v ? (uint64_t)(now - oldest.v) : 0;
}

static void show_gauges(struct exporter *x, const struct standing *sum)
{
    struct counters *c = &x->counters;
    counters_set(c, COUNT_OPEN, sum->open);
    counters_set(c, COUNT_STUCK, sum->stuck);
    counters_set(c, COUNT_OPEN_AGE, wall_age(sum->oldest_open));
    counters_set(c, COUNT_STUCK_AGE, wall_age(sum->oldest_stuck));
    counters_set(c, COUNT_UNSHOWN, sum->unreadable + sum->neither);
    counters_set(c, COUNT_WAITING, sum->tally.waiting);
    counters_set(c, COUNT_PENDING, sum->tally.pending);
    counters_set(c, COUNT_HELD, sum->tally.held);
    counters_set(c, COUNT_UNREAD, sum->tally.unread + sum->unarchived);
    counters_set(c, COUNT_SHARDS, x->shard_count - sum->closed);
    counters_set(c, COUNT_ARCHIVE_AGE, clock_since(loop_now(&x->loop), sum->archived_at));
    counters_set(c, COUNT_COMPLETE_THROUGH, sum->mark.kind == WATERMARK_AT ? (uint64_t)sum->mark.at.v : 0);
}

/* ---- faults ---- */

static enum exporter_component component_of(enum sg_error why)
{
    switch (why) {
    case SG_ERR_FENCED: return EXPORTER_FENCED;
    case SG_ERR_MISMATCH:
    case SG_ERR_CORRUPT:
    case SG_ERR_MALFORMED:
    case SG_ERR_VERSION:
    case SG_ERR_OVERFLOW:
    case SG_ERR_LIMIT: return EXPORTER_LEDGER;
    default: return EXPORTER_KAFKA;
    }
}

/* One shard after the other: the first that has a fault of a component speaks for it. */
static void judge_shards(struct exporter *x, const struct standing *sum)
{
    static const enum exporter_component of_shards[] = {EXPORTER_KAFKA, EXPORTER_LEDGER, EXPORTER_REDIS,
                                                        EXPORTER_ARCHIVE};
    static const struct sg_fault late = {SG_ERR_TIMEOUT, "closed windows wait for the archive"};
    const struct sg_fault *fault[EXPORTER_COMPONENT_COUNT] = {0};
    struct boot_ms began[EXPORTER_COMPONENT_COUNT];
    struct sg_fault unread, unarchived;
    uint64_t late_ms = ARCHIVE_ROUNDS_LATE * x->config->archive_interval_ms + MINUTE_MS;
    for (size_t i = 0; i < EXPORTER_COMPONENT_COUNT; i++) began[i] = loop_now(&x->loop);
    for (size_t i = 0; i < x->shard_count; i++) {
        const struct shard *s = &x->shard[i];
        enum exporter_component c = component_of(s->closed_by.code);
        if (!s->log && s->closed_by.code && !fault[c]) {
            fault[c] = &s->closed_by;
            began[c] = s->called_at;
        }
        c = s->ledger_unread ? component_of(s->cycle_fault.code) : EXPORTER_REDIS;
        if (s->log && s->cycle_fault.code && !fault[c]) {
            fault[c] = &s->cycle_fault;
            if (s->ledger_unread) began[c] = s->called_at;
        }
        const struct sg_fault *archive = s->archiving.fault.code ? &s->archiving.fault : &s->archived.fault;
        if (s->log && archive->code && !fault[EXPORTER_ARCHIVE]) fault[EXPORTER_ARCHIVE] = archive;
    }
    if (clock_since(loop_now(&x->loop), sum->archived_at) > late_ms && !fault[EXPORTER_ARCHIVE])
        fault[EXPORTER_ARCHIVE] = &late;
    if (x->control_unread.code && !fault[EXPORTER_KAFKA]) fault[EXPORTER_KAFKA] = &x->control_unread;
    if (x->redis_unread.code && !fault[EXPORTER_REDIS]) {
        fault[EXPORTER_REDIS] = &x->redis_unread;
        began[EXPORTER_REDIS] = x->redis_asked_at;
    }
    (void)sg_fail(&unread, SG_ERR_CORRUPT, "%" PRIu64 " hours of the view are not understood, and not billed",
                  sum->tally.unread);
    (void)sg_fail(&unarchived, SG_ERR_CORRUPT, "%" PRIu64 " cells of the view are not understood, and not archived",
                  sum->unarchived);
    if (sum->tally.unread && !fault[EXPORTER_REDIS]) fault[EXPORTER_REDIS] = &unread;
    if (sum->unarchived && !fault[EXPORTER_ARCHIVE]) fault[EXPORTER_ARCHIVE] = &unarchived;
    for (size_t i = 0; i < sizeof of_shards / sizeof *of_shards; i++) {
        enum exporter_component c = of_shards[i];
        if (fault[c])
            health_set_fault_since(&x->health, c, *fault[c]->text ? fault[c]->text : sg_error_text(fault[c]->code),
                                   began[c]);
        else
            health_clear(&x->health, c);
    }
}

/* What an answer to an attempt says of Stripe; NULL: it works. A refusal is an answer: what is refused is shown by
 * itself. */
static const char *const stripe_says[ANSWERS] = {
    [ANSWER_AMBIGUOUS] = "Stripe answers with errors of its own",
    [ANSWER_AMBIGUOUS_NEXT] = "Stripe answers with errors of its own",
    [ANSWER_THROTTLED] = "Stripe asks us to wait: too many requests",
    [ANSWER_DENIED] = "Stripe does not accept the key",
};

/* Each of these is taken back by nothing but its contrary, whatever hides it meanwhile. */
static const char *stripe_fault(const struct exporter *x)
{
    if (x->unreachable) return "Stripe cannot be reached";
    if (x->unheard) return "Stripe does not answer";
    if (x->read_denied) return stripe_says[ANSWER_DENIED]; /* what only people can mend stands first */
    if (stripe_says[x->said]) return stripe_says[x->said];
    return x->meters_unheard ? "Stripe does not tell its meters" : NULL;
}

void exporter_show_stripe(struct exporter *x, struct boot_ms since)
{
    const char *fault = stripe_fault(x);
    if (fault)
        health_set_fault_since(&x->health, EXPORTER_STRIPE, fault, since);
    else
        health_clear(&x->health, EXPORTER_STRIPE);
}

/* Answers say what they say (pusher.c); here is what their absence says, and only after what has come was read. */
void exporter_judge_silence(struct exporter *x)
{
    bool open = false;
    struct boot_ms now = loop_now(&x->loop), since = now;
    for (size_t i = 0; i < STRIPE_CONCURRENCY_MAX; i++)
        if (x->attempt[i].used && x->attempt[i].begun_at.v < since.v) since = x->attempt[i].begun_at;
    if (x->answered_at.v > since.v) since = x->answered_at;
    for (size_t i = 0; i < x->shard_count; i++) {
        const struct shard *s = &x->shard[i];
        open |=
            s->book.open_first || (!s->log && s->closed_by.code != SG_ERR_FENCED); /* what it has open is not known */
    }
    if (clock_since(now, since) > UNANSWERED_MS) {
        x->unheard = true;
    } else if (!open && since.v == now.v && x->meters_known && !x->meters_unheard) {
        x->unheard = x->read_denied = false; /* it was about what another exporter has taken over */
        x->said = ANSWER_ACCEPTED;
    }
}

static void judge_held(struct exporter *x, const struct standing *sum)
{
    char reason[HEALTH_REASON_BYTES];
    if (sum->stuck == 0 && sum->tally.held == 0) {
        health_clear(&x->health, EXPORTER_HELD);
        return;
    }
    snprintf(reason, sizeof reason, "%" PRIu64 " revisions are refused or held, %" PRIu64 " hours cannot be sent",
             sum->stuck, sum->tally.held);
    health_set_fault(&x->health, EXPORTER_HELD, reason);
}

static void judge_summaries(struct exporter *x, const struct standing *sum)
{
    char reason[HEALTH_REASON_BYTES];
    if (sum->unreadable + sum->neither == 0) {
        health_clear(&x->health, EXPORTER_SUMMARY);
        return;
    }
    snprintf(reason, sizeof reason,
             "of old revisions %" PRIu64 " summaries cannot be read, %" PRIu64 " show another sum", sum->unreadable,
             sum->neither);
    health_set_fault(&x->health, EXPORTER_SUMMARY, reason);
}

/* Between two cycles nothing else would tell that Redis is away. */
void exporter_probe_redis(struct exporter *x)
{
    struct sg_fault f = {0};
    if (loop_now(&x->loop).v < x->redis_probe_at.v) return;
    x->redis_asked_at = loop_now(&x->loop);
    health_doing(&x->health, "a question to Redis");
    x->redis_unread = redis_store_probe(x->store, (uint32_t)x->shard_count, &f) ? f : (struct sg_fault){0};
    health_doing(&x->health, NULL);
    x->redis_probe_at.v = loop_now(&x->loop).v + REDIS_PROBE_MS;
}

/* What waits for people or for Stripe's summaries is no lag: it is a fault of its own. */
void exporter_show(struct exporter *x)
{
    struct standing sum = standing_of(x);
    show_gauges(x, &sum);
    judge_shards(x, &sum);
    judge_summaries(x, &sum);
    judge_held(x, &sum);
    health_set_lag(&x->health, sum.open - sum.stuck - sum.waiting + sum.closed);
    bool known = x->meters_known && x->facts_known && sum.closed == 0;
    if (known && !health_ready(&x->health)) service_ready();
    if (known) health_set_ready(&x->health, true);
}
