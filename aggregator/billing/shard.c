#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/exporter.h"
#include "common/log.h"

static void log_config(const struct exporter *x, const struct shard *s, struct txlog_config *out, char *id, size_t size)
{
    snprintf(id, size, "sandglass-exporter-%s-%u", x->config->cluster, s->index);
    *out = (struct txlog_config){.brokers = x->config->kafka_brokers,
                                 .topic = x->config->ledger_topic,
                                 .partition = s->index,
                                 .transactional_id = id,
                                 .client_id = x->config->instance,
                                 .kafka = x->kafka,
                                 .wait = &x->waiter,
                                 .append_wait = &x->commit_waiter};
}

/* ---- opening, folding ---- */

static enum sg_error fold_into(struct book *b, const struct txlog_record *record, struct book_change *change,
                               struct sg_fault *f)
{
    struct ledger_record r;
    if (change) change->entry = NULL;
    if (!ledger_is_billing(record->bytes, record->length)) return SG_OK;
    enum sg_error e = ledger_decode(record->bytes, record->length, &r, f);
    if (e == SG_OK) e = book_apply(b, &r, record->offset, change, f);
    if (e != SG_OK) (void)sg_wrap(f, "ledger offset %" PRIu64, record->offset);
    return e;
}

/* What on_fold needs. */
struct opening {
    struct exporter *x;
    struct shard *s;
};

/* As long as there is something to read, Kafka is heard of, and the start-up goes on. */
static enum sg_error on_fold(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    const struct opening *o = arg;
    o->s->called_at = loop_now(&o->x->loop);
    health_progress(&o->x->health);
    return fold_into(&o->s->book, record, NULL, f);
}

void shard_calls(struct exporter *x, struct shard *s, const char *what)
{
    s->called_at = loop_now(&x->loop);
    health_doing(&x->health, what);
}

void shard_open(struct exporter *x, struct shard *s)
{
    struct txlog_config config;
    struct sg_fault f = {0};
    char id[256];
    log_config(x, s, &config, id, sizeof id);
    shard_calls(x, s, "the opening of a shard of the ledger in Kafka");
    enum sg_error e = txlog_open(&s->log, &config, 0, on_fold, &(struct opening){x, s}, &f);
    if (e != SG_OK) {
        if (e != SG_ERR_STATE) log_fault(LOG_WARN, "ledger_not_opened", &f);
        shard_close(x, s, &f);
        health_doing(&x->health, NULL);
        return;
    }
    health_doing(&x->health, NULL);
    s->closed_by = (struct sg_fault){0};
    s->cycle_fault = (struct sg_fault){0};
    s->incarnation++;
    s->opened_at = s->archived_at = loop_now(&x->loop);
    s->view_checked = s->view_synced = false;
    s->next_cycle = s->next_archive = s->opened_at;
    s->due = s->arch = (struct view_cursor){0};
    s->round = (struct cycle_tally){0};
    s->archiving = (struct archive_round){0};
    backoff_reset(&s->doubt_backoff);
    health_progress(&x->health);
    counters_add(&x->counters, COUNT_REOPENED, 1);
    log_event(LOG_INFO, "ledger_opened", "shard=%u offset=%" PRIu64 " hours=%zu open=%zu", s->index, txlog_end(s->log),
              s->book.entry_count, s->book.open_count);
}

void shard_close(struct exporter *x, struct shard *s, const struct sg_fault *why)
{
    enum { LONG_OWNED_MS = 10 * MINUTE_MS };
    struct boot_ms now = loop_now(&x->loop);
    if (s->log && clock_since(now, s->opened_at) > LONG_OWNED_MS) backoff_reset(&s->fenced_backoff);
    txlog_destroy(s->log);
    s->log = NULL;
    book_destroy(&s->book);
    s->result_count = 0;
    s->incarnation++;
    s->closed_by = *why;
    bool fenced = why->code == SG_ERR_FENCED;
    if (fenced) {
        counters_add(&x->counters, COUNT_FENCED, 1);
        health_take_fault(&x->health, EXPORTER_FENCED, why);
    }
    bool patient = fenced || why->code == SG_ERR_CORRUPT; /* see check_view: nothing gets better by haste */
    s->open_at.v = now.v + backoff_next(patient ? &s->fenced_backoff : &s->doubt_backoff);
}

/* ---- billing cells ---- */

/* Writes the gathered rows, all that there are of [from, at), if Redis still has those below: then it has all below at,
 * which is what the next ones must find. */
static enum sg_error flush_rows(struct exporter *x, struct shard *s, uint64_t from, uint64_t at, struct sg_fault *f)
{
    enum sg_error e = view_rows_write(x->store, s->index, x->rows, from, at, f);
    if (e == SG_OK)
        s->view_at = at;
    else
        s->view_synced = false;
    return e;
}

/* What on_rewrite needs. */
struct rewrite {
    struct exporter *x;
    struct shard *s;
    struct book book;
    uint64_t from;  /* everything below is in Redis */
    uint64_t seen;  /* records, of the archive too */
    bool unwritten; /* it was Redis that failed */
};

static enum sg_error on_rewrite(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    struct rewrite *w = arg;
    struct book_change change;
    w->seen++;
    enum sg_error e = fold_into(&w->book, record, &change, f);
    if (e != SG_OK || !change.entry || record->offset < w->from) return e;
    view_rows_add(w->x->rows, &change);
    if (w->x->rows->count < w->x->rows_most) return SG_OK;
    e = flush_rows(w->x, w->s, w->from, w->book.end, f);
    if (e == SG_OK) w->from = w->book.end;
    w->unwritten = e != SG_OK;
    return e;
}

/* Redis lost billing cells, or never had them: reads the ledger once more and writes what is missing. However long that
 * takes, as long as it goes on. */
static enum sg_error rewrite_view(struct exporter *x, struct shard *s, uint64_t from, struct sg_fault *f)
{
    enum { SILENCE_MS = 30 * SECOND_MS };
    struct rewrite w = {.x = x, .s = s, .from = from};
    struct txlog_config config;
    struct txlog_reader *r = NULL;
    char id[256];
    log_config(x, s, &config, id, sizeof id);
    struct boot_ms heard = loop_now(&x->loop);
    x->rows->count = 0;
    shard_calls(x, s, "the rewriting of billing cells from the ledger");
    enum sg_error e = txlog_reader_open(&r, &config, 0, f);
    while (e == SG_OK && w.book.end < s->book.end) {
        uint64_t seen = w.seen;
        e = txlog_reader_poll(r, 100, 1000, on_rewrite, &w, f);
        if (w.seen > seen) heard = loop_now(&x->loop);
        if (e == SG_OK && exporter_hangs(x)) e = sg_fail(f, SG_ERR_STATE, "asked to stop");
        if (e == SG_OK && clock_since(loop_now(&x->loop), heard) > SILENCE_MS)
            e = sg_fail(f, SG_ERR_TIMEOUT, "the ledger is not read");
    }
    s->ledger_unread = !w.unwritten && e != SG_OK && e != SG_ERR_STATE;
    s->called_at = heard;
    if (e == SG_OK) e = flush_rows(x, s, w.from, s->book.end, f);
    if (e == SG_OK)
        log_event(LOG_INFO, "billing_cells_rewritten", "shard=%u from=%" PRIu64 " to=%" PRIu64, s->index, from,
                  s->book.end);
    txlog_reader_destroy(r);
    health_doing(&x->health, NULL);
    book_destroy(&w.book);
    s->view_synced = e == SG_OK;
    return e;
}

/* Once in an opening. Cells are written of what is committed: where there are more of them, somebody newer owns the
 * shard, or what was billed is not known any more and would be billed again. It is the latter when the next opening
 * finds the same. */
static enum sg_error check_view(struct exporter *x, struct shard *s, const struct view_head *head, struct sg_fault *f)
{
    if (s->view_checked) return SG_OK;
    s->view_checked = head->ledger_at <= s->book.end;
    if (s->view_checked) {
        s->view_short = false;
        return SG_OK;
    }
    enum sg_error e = sg_fail(f, s->view_short ? SG_ERR_CORRUPT : SG_ERR_FENCED,
                              "shard %u: the ledger ends at offset %" PRIu64 ", Redis has billing cells up to %" PRIu64
                              ": another exporter writes them, or the ledger has lost its end",
                              s->index, s->book.end, head->ledger_at);
    log_fault(LOG_ERROR, "ledger_is_short", f);
    s->view_short = true;
    s->called_at = loop_now(&x->loop);
    shard_close(x, s, f);
    return e;
}

/* Makes sure that the billing cells in Redis are those of the book. */
static enum sg_error sync_view(struct exporter *x, struct shard *s, const struct view_head *head, struct sg_fault *f)
{
    if (s->view_synced && head->ledger_at >= s->view_at) return SG_OK;
    if (head->ledger_at < s->book.end) return rewrite_view(x, s, head->ledger_at, f);
    s->view_synced = true;
    s->view_at = head->ledger_at;
    return SG_OK;
}

/* ---- committing ---- */

static void after_commit(struct exporter *x, struct shard *s, const struct ledger_record *r)
{
    struct book_entry *e = book_find(&s->book, r->team.s, r->meter, r->hour);
    if (r->kind == LEDGER_INTENT) {
        counters_add(&x->counters, COUNT_INTENTS, 1);
        e->open->fresh = true;
    } else if (r->kind == LEDGER_NOTE) {
        counters_add(&x->counters, COUNT_NOTES, 1);
        log_event(LOG_WARN, "revision_noted", "team=%s hour=%" PRId64 " reason=%s status=%u", r->team.s,
                  r->hour.v / SECOND_MS, ledger_reason_text(r->reason), r->status);
    } else {
        health_progress(&x->health);
    }
}

/* Folds what was committed and shows it. Redis may be away: then the cells are rewritten later. */
static enum sg_error fold_committed(struct exporter *x, struct shard *s, const struct ledger_record *records,
                                    const uint64_t *offsets, size_t count, struct sg_fault *f)
{
    struct sg_fault ignored = {0};
    x->rows->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct book_change change;
        enum sg_error e = book_apply(&s->book, &records[i], offsets[i], &change, f);
        if (e != SG_OK) return e;
        after_commit(x, s, &records[i]);
        if (!s->view_synced) continue;
        view_rows_add(x->rows, &change);
        if (i + 1 == count || x->rows->count == x->rows_most)
            if (flush_rows(x, s, s->view_at, s->book.end, &ignored) != SG_OK)
                log_fault(LOG_WARN, "billing_cells_not_written", &ignored);
    }
    return SG_OK;
}

/* Encodes all records into one piece of memory; *all is the caller's, also on error. */
static enum sg_error encode_all(const struct ledger_record *records, size_t count, char **all,
                                struct txlog_bytes *slices, struct sg_fault *f)
{
    size_t size = 0, used = 0;
    for (size_t i = 0; i < count; i++)
        size += LEDGER_REST_BYTES_MAX + (records[i].positions ? strlen(records[i].positions) : 0);
    *all = malloc(size + 1);
    if (!*all) return sg_fail(f, SG_ERR_NOMEM, "no memory for records of the ledger");
    for (size_t i = 0; i < count; i++) {
        size_t length;
        enum sg_error e = ledger_encode(&records[i], *all + used, size - used, &length);
        if (e != SG_OK) return sg_fail(f, e, "a ledger record cannot be written");
        slices[i] = (struct txlog_bytes){*all + used, length};
        used += length;
    }
    return SG_OK;
}

enum sg_error shard_commit(struct exporter *x, struct shard *s, const struct ledger_record *records, size_t count,
                           struct sg_fault *f)
{
    struct txlog_bytes slices[EXPORTER_RESULTS_MAX];
    uint64_t offsets[EXPORTER_RESULTS_MAX];
    char *all = NULL;
    assert(count <= EXPORTER_RESULTS_MAX);
    if (count == 0) return SG_OK;
    enum sg_error e = encode_all(records, count, &all, slices, f);
    shard_calls(x, s, "a commit to the ledger in Kafka");
    if (e == SG_OK) e = txlog_append(s->log, slices, count, offsets, f);
    if (e == SG_OK) {
        health_doing(&x->health, NULL);
        e = fold_committed(x, s, records, offsets, count, f);
    }
    free(all);
    if (e == SG_OK) return SG_OK;
    log_fault(LOG_ERROR, e == SG_ERR_FENCED ? "ledger_fenced" : "ledger_in_doubt", f);
    shard_close(x, s, f);
    health_doing(&x->health, NULL);
    return e;
}

/* ---- the cycle ---- */

/* What the rules look at. */
static struct cycle cycle_at(const struct exporter *x, const struct shard *s, const struct view_head *head)
{
    return (struct cycle){.book = &s->book,
                          .facts = &x->facts,
                          .meter = x->meter,
                          .meter_count = x->meter_count,
                          .account = x->config->stripe_account,
                          .close_delay_ms = (int64_t)x->config->hour_close_delay_ms,
                          .mark = head->mark,
                          .vouched = head->vouched};
}

static void hour_not_read(struct shard *s, const struct cycle_group *g)
{
    s->round.unread++;
    log_event(LOG_ERROR, "hour_not_read", "shard=%u team=%s hour=%" PRId64, s->index, g->first->team.s,
              g->first->hour.v / SECOND_MS);
}

/* One snapshot of at most VIEW_HOURS_MAX hours, and what follows from it. */
static enum sg_error cycle_part(struct exporter *x, struct shard *s, const struct cycle_group *groups, size_t count,
                                struct sg_fault *f)
{
    struct view_head head = {.ready = false};
    size_t records = 0;
    bool done[VIEW_HOURS_MAX] = {false};
    uint64_t lower = s->round.lower;
    struct wall_ms now;
    if (!exporter_now(x, &now)) {
        s->round.waiting += count;
        return SG_OK;
    }
    for (size_t i = 0; i < count; i++) {
        memset(&x->hours[i], 0, sizeof x->hours[i]);
        x->hours[i].team = groups[i].first->team.s;
        x->hours[i].hour = groups[i].first->hour;
    }
    enum sg_error e = view_snapshot(x->store, s->index, (int64_t)x->config->runner_grace_ms, x->hours, count, &head, f);
    const struct cycle c = cycle_at(x, s, &head);
    for (size_t i = 0; i < count && e == SG_OK; i++) {
        if (x->hours[i].unread)
            hour_not_read(s, &groups[i]);
        else
            done[i] = cycle_plan(&c, &groups[i], &x->hours[i], now, x->positions[i], x->record, &records, &s->round);
    }
    counters_add(&x->counters, COUNT_LOWER, s->round.lower - lower);
    for (size_t i = 0; i < count; i++) sums_destroy(&x->hours[i].total);
    if (e == SG_OK) e = shard_commit(x, s, x->record, records, f);
    for (size_t i = 0; i < count && e == SG_OK; i++)
        if (done[i]) e = view_due_done(x->store, s->index, groups[i].first, groups[i].count, f);
    return e;
}

enum sg_error shard_cycle(struct exporter *x, struct shard *s, struct sg_fault *f)
{
    struct view_head head;
    size_t due_count = 0;
    uint64_t unread = 0;
    bool wrapped = false;
    s->ledger_unread = false;
    enum sg_error e = view_head(x->store, s->index, (int64_t)x->config->runner_grace_ms, &head, f);
    if (e == SG_OK) s->mark = head.mark;
    if (e == SG_OK) e = check_view(x, s, &head, f);
    if (e == SG_OK && !head.ready) return sg_fail(f, SG_ERR_STATE, "shard %u of the view is being restored", s->index);
    if (e == SG_OK) e = sync_view(x, s, &head, f);
    if (e == SG_OK) e = view_due_read(x->store, s->index, &s->due, x->due, &due_count, &unread, &wrapped, f);
    if (e != SG_OK) return e;
    s->round.unread += unread;
    if (unread) log_event(LOG_ERROR, "fields_not_read", "shard=%u hash=due fields=%" PRIu64, s->index, unread);
    const struct cycle c = cycle_at(x, s, &head);
    size_t count = cycle_groups(&c, x->due, due_count, x->groups, &s->round);
    size_t i = 0;
    for (size_t n; i < count && e == SG_OK && s->book.open_count < x->open_most; i += n) {
        n = count - i < VIEW_HOURS_MAX ? count - i : VIEW_HOURS_MAX;
        e = cycle_part(x, s, &x->groups[i], n, f);
    }
    if (e == SG_OK) s->round.waiting += count - i; /* until fewer are open */
    if (wrapped) {
        if (e == SG_OK) s->tally = s->round;
        s->round = (struct cycle_tally){0};
    }
    if (s->log) s->next_cycle.v = loop_now(&x->loop).v + (wrapped ? x->config->poll_interval_ms : 0);
    return e;
}
