#include "aggregator/billing/archiver.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/view_archive.h"
#include "common/log.h"

/* Records of one transaction, gathered. */
struct pile {
    struct txlog_bytes *record;
    size_t count, capacity, bytes;
    struct buffer open; /* the record under way */
};

static void pile_destroy(struct pile *p)
{
    for (size_t i = 0; i < p->count; i++) free((void *)(uintptr_t)p->record[i].bytes);
    free(p->record);
    buffer_destroy(&p->open);
}

/* Takes the open record over; a new one can be begun. */
static enum sg_error pile_seal(struct pile *p)
{
    if (p->open.error) return p->open.error;
    if (p->count == p->capacity) {
        size_t wanted = p->capacity ? p->capacity * 2 : 8;
        struct txlog_bytes *grown = realloc(p->record, wanted * sizeof *grown);
        if (!grown) return SG_ERR_NOMEM;
        p->record = grown;
        p->capacity = wanted;
    }
    p->record[p->count++] = (struct txlog_bytes){p->open.data, p->open.length};
    p->bytes += p->open.length;
    buffer_init(&p->open, ARCHIVE_BYTES_MAX);
    return p->bytes <= TXLOG_APPEND_BYTES_MAX ? SG_OK : SG_ERR_LIMIT;
}

static enum sg_error pile_commit(struct exporter *x, struct shard *s, struct pile *p, struct sg_fault *f)
{
    if (p->count == 0) return SG_OK;
    shard_calls(x, s, "a commit of the archive to Kafka");
    enum sg_error e = txlog_append(s->log, p->record, p->count, NULL, f);
    if (e == SG_OK) {
        health_doing(&x->health, NULL);
        counters_add(&x->counters, COUNT_ARCHIVED, p->bytes);
        return SG_OK;
    }
    log_fault(LOG_ERROR, e == SG_ERR_FENCED ? "ledger_fenced" : "ledger_in_doubt", f);
    shard_close(x, s, f);
    health_doing(&x->health, NULL);
    return e;
}

/* ---- cells ---- */

static enum sg_error gather_cells(struct pile *p, const struct view_arch *arch, size_t count)
{
    enum sg_error e = SG_OK;
    size_t lines = 0;
    archive_begin_cells(&p->open, clock_wall());
    for (size_t i = 0; i < count && e == SG_OK; i++) {
        if (!arch[i].cell.text) continue;
        if (!archive_add_cell(&p->open, &arch[i].cell)) {
            e = pile_seal(p);
            archive_begin_cells(&p->open, clock_wall());
            if (!archive_add_cell(&p->open, &arch[i].cell)) return SG_ERR_LIMIT;
            lines = 0;
        }
        lines++;
    }
    return e == SG_OK && lines ? pile_seal(p) : e;
}

/* Moves the fields whose window is closed to the front; returns how many. */
static size_t keep_closed(struct view_arch *arch, size_t count, const struct view_head *head, int64_t delay_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct archive_cell *c = &arch[i].cell;
        if (watermark_passed(head->mark, (struct wall_ms){c->start.v + window_length_ms(c->window) + delay_ms}))
            arch[kept++] = arch[i];
    }
    return kept;
}

static void tell_unread(struct shard *s, const struct view_arch *arch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct archive_cell *c = &arch[i].cell;
        if (!arch[i].unread) continue;
        s->archiving.unread++;
        log_event(LOG_ERROR, "cell_not_read", "shard=%u team=%s project=%s region=%s %s=%" PRId64 " partition=%u",
                  s->index, c->team.s, c->project.s, c->region.s, c->window == WINDOW_DAY ? "day" : "hour",
                  c->start.v / SECOND_MS, c->partition);
    }
}

static enum sg_error archive_cells(struct exporter *x, struct shard *s, const struct view_head *head, bool *wrapped,
                                   struct sg_fault *f)
{
    struct pile p = {0};
    struct redisReply *reply = NULL;
    size_t count = 0;
    uint64_t unread = 0;
    struct view_arch *arch = malloc(VIEW_ARCH_MAX * sizeof *arch);
    if (!arch) return sg_fail(f, SG_ERR_NOMEM, "no memory for the archive");
    buffer_init(&p.open, ARCHIVE_BYTES_MAX);
    enum sg_error e = view_arch_read(x->store, s->index, &s->arch, arch, &count, &unread, wrapped, f);
    s->archiving.unread += unread;
    if (unread) log_event(LOG_ERROR, "fields_not_read", "shard=%u hash=arch fields=%" PRIu64, s->index, unread);
    if (e == SG_OK) count = keep_closed(arch, count, head, (int64_t)x->config->hour_close_delay_ms);
    if (e == SG_OK && count) e = view_arch_cells(x->store, s->index, arch, count, &reply, f);
    if (e == SG_OK) tell_unread(s, arch, count);
    if (e == SG_OK && count && (e = gather_cells(&p, arch, count)) != SG_OK)
        e = sg_fail(f, e, "shard %u: cells cannot be archived", s->index);
    if (e == SG_OK) e = pile_commit(x, s, &p, f);
    if (e == SG_OK && count) e = view_arch_done(x->store, s->index, arch, count, f);
    if (reply) freeReplyObject(reply);
    pile_destroy(&p);
    free(arch);
    return e;
}

/* ---- marks ---- */

/* A set under way. */
struct set {
    struct pile *pile;
    uint32_t partition, part;
};

static enum sg_error set_add(struct set *s, const struct archive_mark *m)
{
    if (archive_add_mark(&s->pile->open, m)) return SG_OK;
    enum sg_error e = pile_seal(s->pile);
    if (e != SG_OK) return e;
    archive_begin_marks(&s->pile->open, clock_wall(), s->partition, ++s->part);
    return archive_add_mark(&s->pile->open, m) ? SG_OK : SG_ERR_LIMIT;
}

static enum sg_error gather_marks(struct pile *p, uint32_t partition, const struct redisReply *reply)
{
    struct set set = {p, partition, 0};
    const struct redisReply *marks = reply->element[0], *gaps = reply->element[1];
    enum sg_error e = SG_OK;
    archive_begin_marks(&p->open, clock_wall(), partition, 0);
    for (size_t i = 0; i + 1 < marks->elements && e == SG_OK; i += 2) {
        const struct redisReply *field = marks->element[i], *value = marks->element[i + 1];
        e = set_add(&set, &(struct archive_mark){field->str, value->str, field->len, value->len});
    }
    for (size_t i = 0; i + 1 < gaps->elements && e == SG_OK; i += 2) {
        const struct redisReply *value = gaps->element[i + 1];
        char field[ARCHIVE_GAP_BYTES_MAX];
        int length = snprintf(field, sizeof field, ARCHIVE_GAP "%.64s", gaps->element[i]->str);
        e = set_add(&set, &(struct archive_mark){field, value->str, (size_t)length, value->len});
    }
    archive_end_marks(&p->open);
    return e == SG_OK ? pile_seal(p) : e;
}

static enum sg_error archive_marks(struct exporter *x, struct shard *s, uint32_t partition, struct sg_fault *f)
{
    struct pile p = {0};
    struct redisReply *reply = NULL;
    uint64_t at;
    enum sg_error e = view_marks_read(x->store, s->index, partition, &reply, &at, f);
    if (e != SG_OK) return e;
    buffer_init(&p.open, ARCHIVE_BYTES_MAX);
    if (at > s->marks_at[partition]) {
        e = gather_marks(&p, partition, reply);
        if (e != SG_OK) e = sg_fail(f, e, "shard %u: marks cannot be archived", s->index);
        if (e == SG_OK) e = pile_commit(x, s, &p, f);
        if (e == SG_OK) s->marks_at[partition] = at;
    }
    freeReplyObject(reply);
    pile_destroy(&p);
    return e;
}

/* Of the partitions at home here, each by itself. The first error is told. */
static enum sg_error archive_all_marks(struct exporter *x, struct shard *s, uint32_t partitions, struct sg_fault *f)
{
    enum sg_error first = SG_OK;
    for (uint32_t p = s->index; s->log && p < partitions; p += (uint32_t)x->shard_count) {
        struct sg_fault own = {0};
        enum sg_error e = archive_marks(x, s, p, &own);
        if (e == SG_OK || first != SG_OK) continue;
        first = e;
        *f = own;
    }
    return first;
}

static void end_of_round(struct exporter *x, struct shard *s)
{
    if (s->archiving.fault.code == SG_OK) {
        s->next_archive.v = loop_now(&x->loop).v + x->config->archive_interval_ms;
        if (s->archiving.unread == 0) s->archived_at = loop_now(&x->loop);
    }
    s->archived = s->archiving;
    s->archiving = (struct archive_round){0};
}

enum sg_error archiver_turn(struct exporter *x, struct shard *s, struct sg_fault *f)
{
    struct view_head head;
    bool wrapped = false;
    enum sg_error e = view_head(x->store, s->index, (int64_t)x->config->runner_grace_ms, &head, f);
    if (e == SG_OK && !head.ready) return SG_OK;
    if (e == SG_OK) e = archive_cells(x, s, &head, &wrapped, f);
    if (e == SG_OK && wrapped) e = archive_all_marks(x, s, head.partitions, f);
    if (e != SG_OK && s->archiving.fault.code == SG_OK) s->archiving.fault = *f;
    if (wrapped && s->log) end_of_round(x, s);
    return e;
}
